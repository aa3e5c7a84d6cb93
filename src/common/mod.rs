//! The words and rules that more than one program needs.
//!
//! Everything here is pure: it takes values and returns values, and touches no socket, process,
//! clock, environment or file. The one exception is [`protocol::io`], which reads and writes
//! frames on a stream that the caller opened. A test keeps this so.

pub mod action;
pub mod bytes;
pub mod classify;
pub mod configuration;
pub mod dependencies;
pub mod exit;
pub mod exposition;
pub mod hosts;
pub mod http;
pub mod inputs;
pub mod invocation;
pub mod limits;
pub mod lru;
pub mod page;
pub mod place;
pub mod program;
pub mod protocol;
pub mod reason;
pub mod settings;
pub mod tells;
pub mod toolchain;
pub mod trust;
pub mod version;
