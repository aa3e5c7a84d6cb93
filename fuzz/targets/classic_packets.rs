//! Packets of distcc 3.4's protocol: a request, a response.

use distcc::common::protocol::classic::{HEADER_LEN, Part, RequestOrder, ResponseOrder, Version};

/// What a server and a client do with bytes.
pub fn run(data: &[u8]) {
    request(data);
    for version in [Version::V1, Version::V2, Version::V3] {
        response(data, version);
    }
}

fn request(mut data: &[u8]) {
    let mut order = RequestOrder::default();
    while let Some((header, rest)) = data.split_first_chunk::<HEADER_LEN>() {
        let Ok(part) = order.accept(header) else { return };
        let length = match part {
            Part::Argument(length)
            | Part::Source(length)
            | Part::Cwd(length)
            | Part::Name(length)
            | Part::Link(length)
            | Part::File(length) => length as usize,
            _ => 0,
        };
        let Some(rest) = rest.get(length..) else { return };
        data = rest;
        if order.is_complete() {
            return;
        }
    }
}

fn response(mut data: &[u8], version: Version) {
    let mut order = ResponseOrder::new(version);
    while let Some((header, rest)) = data.split_first_chunk::<HEADER_LEN>() {
        let Ok(reply) = order.accept(header) else { return };
        let Some(rest) = usize::try_from(reply.length()).ok().and_then(|length| rest.get(length..)) else {
            return;
        };
        data = rest;
        if order.is_complete() {
            return;
        }
    }
}
