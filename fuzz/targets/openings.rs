//! The first words of whoever connects, behind TLS or ssh: which protocol, an introduction, a hello.

use std::io::Cursor;

use distcc::remote::stream::{Speech, greet, introduction, listen_to};
use tokio::runtime::Builder;

/// What a volunteer makes of them.
pub fn run(data: &[u8]) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut said = Cursor::new(data.to_vec());
        let Ok(mut speech) = listen_to(&mut said).await else { return };
        if speech == Speech::Introduced {
            if introduction(&mut said).await.is_err() {
                return;
            }
            let Ok(next) = listen_to(&mut said).await else { return };
            speech = next;
        }
        if speech == Speech::Native
            && let Ok(name) = greet(&mut said).await
        {
            assert!(name.chars().count() <= 100 && !name.chars().any(char::is_control));
        }
    });
}
