//! Memory that the allocator keeps after a peak, given back to the system.

/// Gives back what is free. Takes the allocator's locks in turn, for some milliseconds after a large peak: for moments when
/// nobody is in a hurry.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: a function of the C library that this program is linked with; callable at any time on any thread.
        unsafe { malloc_trim(0) };
    }
}
