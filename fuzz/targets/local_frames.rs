//! Frames between shim and broker.

use distcc::common::invocation::Invocation;
use distcc::common::protocol::io::read_local;
use distcc::common::protocol::local::{Control, ControlReply, Done, Run};
use distcc::common::protocol::wire;

/// What either side does with bytes.
pub fn run(mut data: &[u8]) {
    // A length that lies must not be taken for true before the bytes have come.
    if data.len() > 1 << 20 {
        return;
    }
    while let Ok((_, body)) = read_local(&mut data) {
        let _ = wire::decode::<Invocation>(&body);
        let _ = wire::decode::<Run>(&body);
        let _ = wire::decode::<Done>(&body);
        let _ = wire::decode::<Control>(&body);
        let _ = wire::decode::<ControlReply>(&body);
    }
}
