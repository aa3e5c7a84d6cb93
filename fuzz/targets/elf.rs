//! Programs and libraries of a toolchain.

/// What is read of one.
pub fn run(data: &[u8]) {
    let _ = distcc::broker::closure::elf::read(data);
}
