//! The two protocols of our own, as pure encoders and decoders.
//!
//! - [`local`]: shim and broker, over a Unix socket, one connection per invocation;
//! - [`link`]: broker and volunteer, over one long-lived connection per volunteer;
//! - [`wire`]: values to bytes and back, the only module that knows the codec;
//! - [`io`]: frames on a stream, the only module of `common` that reads or writes.

pub mod io;
pub mod link;
pub mod local;
pub mod wire;
