//! Bundles of files that a client sends into a volunteer's store, and texts.

use std::sync::{Arc, OnceLock};

use distcc::common::action::Blob;
use distcc::common::inputs::FileEntry;
use distcc::common::toolchain::Digest;
use distcc::remote::hermetic::bundle::Bundle;
use distcc::remote::intake::Intake;
use distcc::remote::store::Store;

/// One store for all runs.
fn store() -> Arc<Store> {
    static STORE: OnceLock<Arc<Store>> = OnceLock::new();
    let open = || {
        let folder = std::env::temp_dir().join(format!("distcc-fuzz-{}", std::process::id()));
        Arc::new(Store::open(&folder, 1 << 20).expect("a store"))
    };
    Arc::clone(STORE.get_or_init(open))
}

/// A byte of length for each of two files, then the packed bytes, in pieces.
pub fn run(data: &[u8]) {
    text(data);
    let Some(([first, second], packed)) = data.split_first_chunk::<2>() else { return };
    let file = |size: u8| FileEntry {
        digest: Digest::of(&vec![b'x'; usize::from(size)]),
        size: u64::from(size),
        executable: false,
        twin: 0,
        age: 0,
    };
    let files = vec![file(*first), file(*second)];
    let Ok(mut bundle) = Bundle::new(files, packed.len() as u64, store()) else { return };
    for piece in packed.chunks(7) {
        if bundle.push(piece).is_err() {
            return;
        }
    }
    assert!(bundle.is_complete());
    let _ = bundle.finish();
}

/// The same bytes as a text of one length.
fn text(data: &[u8]) {
    let Some(([size, _], packed)) = data.split_first_chunk::<2>() else { return };
    let (size, digest) = (u64::from(*size), Digest::of(&vec![b'x'; usize::from(*size)]));
    let store = store();
    let Ok(mut intake) = Intake::start(&Blob { digest, size, packed: packed.len() as u64 }, &store) else {
        return;
    };
    if packed.chunks(7).any(|piece| intake.push(piece).is_err()) {
        return;
    }
    let place = std::env::temp_dir().join(format!("distcc-fuzz-text-{}", std::process::id()));
    if intake.finish(&place, &store).is_ok() {
        assert_eq!(std::fs::read(&place).expect("the text").len() as u64, size);
    }
    let _ = std::fs::remove_file(place);
}
