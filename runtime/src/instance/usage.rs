//! What an instance's thread has used, as the kernel counts it.

/// Kernel id of the calling thread; 0 where there is none to be had.
pub fn current_thread() -> u32 {
    #[cfg(target_os = "linux")]
    {
        rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
    }
    #[cfg(not(target_os = "linux"))]
    0
}

/// Has the system show the calling thread under this name.
pub fn name_thread(name: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(name) {
        // Only a name: without it the thread runs as well.
        let _ = rustix::thread::set_name(&name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// Processor time of a thread of this process, in seconds.
pub fn cpu_seconds(thread: u32) -> Option<f64> {
    if thread == 0 {
        return None;
    }
    let line = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let nanoseconds: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds as f64 / 1e9)
}
