//! `distcc`, the shim.
//!
//! It starts from C's `main`, not from Rust's: the runtime behind the latter costs a tenth of a
//! millisecond, and changes what the compiler would inherit (it ignores SIGPIPE and opens
//! `/dev/null` in place of a closed stdin, stdout or stderr).
#![cfg_attr(not(test), no_main)]

#[cfg(not(test))]
mod entry {
    use std::ffi::{CStr, c_char, c_int};

    use distcc::common::bytes::Bytes;
    use dlmalloc::GlobalDlmalloc;

    /// Takes its memory in one piece: that of C's libraries takes pages here and there, and gives them back one by
    /// one, which is a tenth of what a run of the shim costs.
    #[global_allocator]
    static MEMORY: GlobalDlmalloc = GlobalDlmalloc;

    /// The strings of a C array that a null pointer ends.
    ///
    /// # Safety
    ///
    /// `array` is such an array, and neither it nor its strings change meanwhile.
    #[allow(unsafe_code, reason = "argv and the environment come as C arrays")]
    unsafe fn strings(mut array: *const *const c_char) -> Vec<Bytes> {
        let mut strings = Vec::with_capacity(64);
        // SAFETY: the caller promises the null pointer at the end, which ends the loop; each
        // pointer before it is a C string.
        unsafe {
            while !array.is_null() && !(*array).is_null() {
                strings.push(Bytes::from(CStr::from_ptr(*array).to_bytes()));
                array = array.add(1);
            }
        }
        strings
    }

    #[allow(unsafe_code, reason = "the one symbol that C's start-up code calls")]
    #[unsafe(no_mangle)]
    extern "C" fn main(
        _count: c_int,
        arguments: *const *const c_char,
        environment: *const *const c_char,
    ) -> c_int {
        // SAFETY: the C start-up code passes two arrays with a null pointer at the end, and this
        // process has one thread, which does not change them.
        let (arguments, environment) = unsafe { (strings(arguments), strings(environment)) };
        distcc::shim::run(&arguments, environment)
    }
}
