//! The protocols, as pure encoders and decoders.
//!
//! - [`local`]: shim and broker, over a Unix socket, one connection per invocation;
//! - [`link`]: broker and volunteer, over one long-lived connection per volunteer;
//! - [`classic`]: distcc's own, versions 1 to 3;
//! - [`wire`]: values to bytes and back, the only module that knows the codec;
//! - [`io`]: frames on a stream, the only module of `common` that reads or writes.

pub mod classic;
pub mod io;
pub mod link;
pub mod local;
pub mod wire;
