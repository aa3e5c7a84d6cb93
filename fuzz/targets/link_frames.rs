//! Frames of the native protocol, from either side: headers, and messages behind them.

use distcc::common::protocol::link::{FrameHeader, FrameKind, ToBroker, ToVolunteer};
use distcc::common::protocol::wire;

/// What a link does with bytes: as many frames as there are.
pub fn run(mut data: &[u8]) {
    while let Some((head, rest)) = data.split_first_chunk::<{ FrameHeader::LEN }>() {
        let Ok(header) = FrameHeader::decode(head) else { return };
        assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
        let Some((body, rest)) = rest.split_at_checked(header.length as usize) else { return };
        if header.kind == FrameKind::Message {
            message(body);
        }
        data = rest;
    }
}

fn message(body: &[u8]) {
    if let Ok(message) = wire::decode::<ToBroker>(body) {
        assert_eq!(wire::decode::<ToBroker>(&wire::encode(&message)).as_ref(), Ok(&message));
    }
    if let Ok(message) = wire::decode::<ToVolunteer>(body) {
        assert_eq!(wire::decode::<ToVolunteer>(&wire::encode(&message)).as_ref(), Ok(&message));
    }
}
