//! Tools of distcc 3.4 as faces of this one: a monitor of jobs, a list of volunteers that answer, pump,
//! and a directory of links with the names of compilers.
//!
//! The first three answer to the names of stock's own programs; all but pump are words of `distcc`, too.

pub mod listing;
pub mod masquerade;
pub mod monitor;
pub mod pump;
