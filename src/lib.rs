//! distcc: spreads C and C++ compiles over several machines, with the result of a local compile.
//!
//! Three programs are built from this library; each of [`shim`], [`broker`] and [`remote`] imports
//! only [`common`], never another of them. They meet only in messages ([`common::protocol`]).
//! ARCHITECTURE.md has the map.

pub mod broker;
pub mod common;
pub mod remote;
pub mod shim;
