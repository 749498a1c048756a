//! Memory: what was needed for a moment is given back to the system; what is needed next is fetched.

/// What another processor wrote last is on its way here before it is read. Nothing else happens, whatever the address is.
#[inline(always)]
pub fn fetch(at: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}

/// What another processor read last is this one's own before it is written: else the next locked instruction waits for that.
#[inline(always)]
pub fn fetch_to_write(at: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        // SAFETY: a hint, which changes nothing and faults nowhere; processors that do not know it do nothing.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) at.wrapping_add(line), options(nostack, preserves_flags, readonly))
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}

/// Largest piece of which the C library's allocator keeps a few of every size, and more for every thread.
const KEPT_BY_THREADS: usize = 1024;

/// An empty buffer with room for `bytes`, in one of few sizes: for what one thread makes and another lets go. Messages of every length
/// would have each thread keep some pieces of each of the allocator's sizes, a quarter of a megabyte in time.
pub fn room_for(bytes: usize) -> Vec<u8> {
    Vec::with_capacity(if bytes > 0 && bytes <= KEPT_BY_THREADS { bytes.next_power_of_two().max(64) } else { bytes })
}

/// A copy that has room as [`room_for`] makes it.
pub fn copied(bytes: &[u8]) -> Vec<u8> {
    let mut copy = room_for(bytes.len());
    copy.extend_from_slice(bytes);
    copy
}

/// Gives back what is free, and the code that only ran in between. Takes the allocator's locks in turn, for some milliseconds
/// after a large peak: for moments when nobody is in a hurry.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: a function of the C library that this program is linked with; callable at any time on any thread.
        unsafe { malloc_trim(0) };
    }
    #[cfg(target_os = "linux")]
    give_back_code();
}

/// Gives back what a deep moment of this thread's stack of `stack_bytes` has left below: for a thread that begins deep and then
/// mostly rests. To be called where the stack is shallow.
pub fn give_back_stack(stack_bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        const DEPTH: usize = 256 << 10;
        let page = rustix::param::page_size();
        let here = 0u8;
        // The page that this stands in, and the one below it, belong to the calls that are under way.
        let end = ((&raw const here).addr() & !(page - 1)).saturating_sub(page);
        let bytes = DEPTH.min(stack_bytes / 2) & !(page - 1);
        if bytes < 16 * page {
            return;
        }
        // SAFETY: this thread's own stack, which grows down from above `here`: below the calls under way nothing lives, and what is
        // called later finds zeroes where it would find remains. Half of the stack's size lies inside it, seen from its shallow end.
        let _ = unsafe {
            rustix::mm::madvise((end - bytes) as *mut std::ffi::c_void, bytes, rustix::mm::Advice::LinuxDontNeed)
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stack_bytes;
}

/// Unmaps the pages of this program's code: what runs is mapped again as it is needed, from the system's cache.
///
/// An idle runtime is mostly code that ran once, at the start. Under a debugger nothing is done: its breakpoints stand in these
/// pages.
#[cfg(target_os = "linux")]
fn give_back_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    let is_traced =
        std::fs::read_to_string("/proc/self/status").map_or(true, |status| !status.contains("TracerPid:\t0\n"));
    if is_traced {
        return;
    }
    for (from, bytes) in maps.lines().filter_map(|line| code_of(&program.to_string_lossy(), line)) {
        // SAFETY: private pages of a file that cannot be written while it is executed, mapped without the right to write and
        // never changed, since position-independent code has no relocations: the system reads the same bytes again.
        let _ = unsafe { rustix::mm::madvise(from as *mut std::ffi::c_void, bytes, rustix::mm::Advice::LinuxDontNeed) };
    }
}

/// Address and length of a mapping of `program` that holds code.
#[cfg(target_os = "linux")]
fn code_of(program: &str, line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    // Offset, device, inode; the rest is the path, which may have spaces.
    let is_program = line.ends_with(program) && fields.nth(3).is_some_and(|path| program.starts_with(path));
    let (from, to) = range.split_once('-')?;
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    (is_program && rights == "r-xp").then(|| (from, to.saturating_sub(from)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_program_s_code_is_given_back() {
        let line =
            |rights: &str, path: &str| format!("1000-3000 {rights} 00392000 fe:00 6136243                    {path}");
        assert_eq!(code_of("/opt/din rail", &line("r-xp", "/opt/din rail")), Some((0x1000, 0x2000)));
        assert_eq!(code_of("/opt/din rail", &line("r--p", "/opt/din rail")), None, "constants may be relocated");
        assert_eq!(code_of("/opt/dinrail", &line("r-xp", "/lib/libc.so.6")), None);
        assert_eq!(code_of("/opt/dinrail", "1000-3000 r-xp 0 0:0 0"), None);
    }

    #[test]
    fn a_thread_runs_on_without_the_remains_of_its_deepest_moment() {
        #[inline(never)]
        fn deep(levels: u32) -> u64 {
            let filled = std::hint::black_box([levels; 1000]);
            let below = if levels == 0 { 0 } else { deep(levels - 1) };
            below + u64::from(filled[levels as usize % 1000])
        }
        let work = || {
            let before = deep(100);
            give_back_stack(2 << 20);
            (before, deep(100))
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap();
        let (before, after) = thread.join().unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn copies_of_all_lengths_take_pieces_of_few_sizes() {
        let bytes = [7; 2000];
        let copies: Vec<Vec<u8>> = (0..2000).map(|len| copied(&bytes[..len])).collect();
        assert!(copies.iter().enumerate().all(|(len, copy)| copy[..] == bytes[..len]));
        let mut sizes: Vec<usize> = copies[..=1024].iter().map(Vec::capacity).collect();
        sizes.dedup();
        assert_eq!(sizes, [0, 64, 128, 256, 512, 1024]);
        assert_eq!(copies[1025].capacity(), 1025);
    }

    #[test]
    fn the_program_runs_on_afterwards() {
        give_back();
        assert_eq!("a b".split(' ').count(), 2);
    }
}
