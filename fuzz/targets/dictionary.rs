//! What a client's numbers mean: items, and compiles that are made of them, in the order in which they come.

use distcc::common::inputs::is_plain_path;
use distcc::common::protocol::link::{FrameHeader, ToVolunteer};
use distcc::common::protocol::wire;
use distcc::remote::items::{Dictionary, DictionaryError};
use distcc::remote::view::catalogue::Catalogue;

/// A link's messages, as far as they are about items, until one is wrong.
pub fn run(mut data: &[u8]) {
    let (mut dictionary, catalogue) = (Dictionary::default(), Catalogue::default());
    while let Some((head, rest)) = data.split_first_chunk::<{ FrameHeader::LEN }>() {
        let Ok(header) = FrameHeader::decode(head) else { return };
        let Some((body, rest)) = rest.split_at_checked(header.length as usize) else { return };
        let Ok(message) = wire::decode::<ToVolunteer>(body) else { return };
        if take(message, &mut dictionary, &catalogue).is_err() {
            return;
        }
        data = rest;
    }
}

fn take(
    message: ToVolunteer,
    dictionary: &mut Dictionary,
    catalogue: &Catalogue,
) -> Result<(), DictionaryError> {
    match message {
        ToVolunteer::Define { items } => dictionary.define(items, catalogue),
        ToVolunteer::Forget => {
            dictionary.forget();
            Ok(())
        }
        ToVolunteer::Provision { inputs, .. } => dictionary.inputs(&inputs).map(drop),
        ToVolunteer::Compile { compile, .. } => {
            let job = dictionary.resolve(&compile)?;
            assert!(is_plain_path(&job.program));
            assert!(job.arguments.iter().chain(&job.environment).all(|word| !word.contains(&0)));
            Ok(())
        }
        ToVolunteer::Bundle { items, .. } => {
            items.iter().try_for_each(|item| dictionary.file(*item).map(drop))
        }
        _ => Ok(()),
    }
}
