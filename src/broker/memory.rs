//! What the C library's allocator is told once: memory of large buffers is kept for the next one, and small pieces
//! are put together as they are freed.
//!
//! Left to itself, glibc gives a buffer like a packed result back to the kernel as soon as it is freed, and the
//! next result begins with a page fault for each 4 KiB: a third of a millisecond for an object of 2.5 MB. And
//! whenever such a buffer is freed, it goes through all small pieces that it had put aside: some hundredths of what
//! a job costs (benches/results/2026-11-28.md). Other C libraries have no such settings, and the broker works without.

/// Buffers up to this size come from the heap, and so much of it is kept when it is free. The most that glibc takes
/// (mallopt(3), "M_MMAP_THRESHOLD").
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 32 << 20;

/// Has the memory of large buffers used again, and no small pieces put aside (beyond those of a thread).
pub fn set_up() {
    #[cfg(target_env = "gnu")]
    tell();
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "no safe wrapper has these options")]
fn tell() {
    // SAFETY: all three options take any value; one that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    /// Page faults of this thread so far.
    #[allow(unsafe_code, reason = "rustix has no getrusage")]
    fn faults() -> i64 {
        let mut used = std::mem::MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: it fills the value, which fails for no thread of ours.
        unsafe {
            assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, used.as_mut_ptr()), 0);
            used.assume_init().ru_minflt
        }
    }

    #[test]
    fn a_buffer_of_a_result_is_not_mapped_anew_for_each() {
        const BYTES: usize = 8 << 20;
        set_up();
        drop(std::hint::black_box(vec![1_u8; BYTES]));
        let before = faults();
        for _ in 0..4 {
            drop(std::hint::black_box(vec![1_u8; BYTES]));
        }
        let pages = (BYTES / 4096) as i64;
        assert!(faults() - before < pages, "{} faults", faults() - before);
    }
}
