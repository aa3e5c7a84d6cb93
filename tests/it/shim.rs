//! The shim as a real process, against brokers and compilers that the tests play.

mod answers;
pub mod fake;
mod inherits;
mod soon;
mod starting;
mod trouble;
mod ways;
