//! Integration tests: one binary.
mod scan;
