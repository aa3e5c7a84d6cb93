//! Integration tests: one binary.

mod shim;
