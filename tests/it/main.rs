//! Integration tests: one binary.

mod detaching;
mod shim;
