//! Integration tests: one binary.

mod remote;
