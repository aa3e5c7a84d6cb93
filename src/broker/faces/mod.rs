//! Tools of distcc 3.4 as faces of this one: a monitor of jobs, a list of volunteers that answer,
//! and a directory of links with the names of compilers.
//!
//! Each is a word of `distcc`; the first two also answer to the names of stock's own programs.

pub mod listing;
pub mod masquerade;
pub mod monitor;
