//! Headers of frames.

use super::*;

#[test]
fn a_frame_header_comes_back_as_it_was() {
    let header = FrameHeader { length: 65536, kind: FrameKind::Data, job: u32::MAX };
    assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
}

#[test]
fn a_data_frame_is_bounded_more_tightly_than_a_message() {
    let header = FrameHeader { length: LINK_CHUNK_MAX_BYTES + 1, kind: FrameKind::Data, job: 1 };
    assert_eq!(FrameHeader::decode(&header.encode()), Err(FrameError::Length(header.length)));
}

#[test]
fn an_unknown_kind_is_an_error() {
    assert_eq!(FrameHeader::decode(&[0, 0, 0, 0, 9, 0, 0, 0, 0]), Err(FrameError::Kind(9)));
}
