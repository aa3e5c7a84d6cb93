//! libFuzzer's side of a target.
#![no_main]

#[path = "../targets/openings.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
