//! Memory of the library: an allocator that counts, so that `list` can say what an image's instances have in use.
//!
//! Each thread counts in a place of its own, with a plain load and store: counting must not make the threads of a library share
//! a cache line. Only a thread that comes when all places are given away shares one, and then adds atomically. Places are not
//! given back: what a thread has counted stays part of the sum.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use crate::abi::DrMemory;

/// Places for one thread each.
const OWN: usize = 96;
/// Places that the threads after those share.
const SHARED: usize = 32;

/// Two cache lines: processors fetch them in pairs.
#[repr(align(128))]
struct Place(AtomicI64);

static PLACES: [Place; OWN + SHARED] = [const { Place(AtomicI64::new(0)) }; OWN + SHARED];
static GIVEN: AtomicUsize = AtomicUsize::new(0);
const NONE: usize = usize::MAX;

thread_local! {
    /// Index of the thread's place. Without a destructor and without an allocation of its own.
    static MINE: Cell<usize> = const { Cell::new(NONE) };
}

/// Counts the bytes that are allocated and not freed, and leaves the allocating to `A`.
///
/// [`export_module!`](crate::export_module) makes it the allocator of the library. With another allocator of your own:
/// `export_module!(Filter, allocator: none)`, and, so that memory is still known,
///
/// ```ignore
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator<MiMalloc> = CountingAllocator::new(MiMalloc);
/// ```
pub struct CountingAllocator<A = System>(A);

impl<A> CountingAllocator<A> {
    /// Counts what `allocator` gives.
    pub const fn new(allocator: A) -> CountingAllocator<A> {
        CountingAllocator(allocator)
    }
}

#[inline]
fn count(bytes: i64) {
    let mut mine = MINE.get();
    if mine == NONE {
        mine = take_place();
    }
    let place = &PLACES[mine % PLACES.len()].0;
    if mine < OWN {
        place.store(place.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    } else {
        place.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cold]
fn take_place() -> usize {
    let given = GIVEN.fetch_add(1, Ordering::Relaxed);
    let mine = if given < OWN { given } else { OWN + given % SHARED };
    MINE.set(mine);
    mine
}

// SAFETY: every call is passed on to an allocator that keeps the contract; counting touches none of its memory, does not
// allocate and does not panic.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let made = unsafe { self.0.alloc(layout) };
        if !made.is_null() {
            count(layout.size() as i64);
        }
        made
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let made = unsafe { self.0.alloc_zeroed(layout) };
        if !made.is_null() {
            count(layout.size() as i64);
        }
        made
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise, passed on.
        unsafe { self.0.dealloc(at, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let moved = unsafe { self.0.realloc(at, layout, size) };
        if !moved.is_null() {
            count(size as i64 - layout.size() as i64);
        }
        moved
    }
}

struct Constant(DrMemory);
// SAFETY: it points to atomic counters that live as long as the library.
unsafe impl Sync for Constant {}

static MEMORY: Constant = Constant(DrMemory {
    size: size_of::<DrMemory>() as u32,
    counters: (OWN + SHARED) as u32,
    stride: size_of::<Place>() as u32,
    reserved: 0,
    first: (&raw const PLACES[0].0).cast(),
});

/// The counters of this library; null where nothing counts in it.
pub(crate) fn of_this_library() -> *const c_void {
    // Whoever allocates here is counted, if anybody is.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(std::hint::black_box(1))));
    if GIVEN.load(Ordering::Relaxed) == 0 { std::ptr::null() } else { (&raw const MEMORY.0).cast() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use() -> i64 {
        PLACES.iter().map(|place| place.0.load(Ordering::Relaxed)).fold(0, i64::wrapping_add)
    }

    #[test]
    fn what_one_thread_allocates_and_another_frees_adds_up() {
        static ALLOCATOR: CountingAllocator = CountingAllocator::new(System);
        let layout = Layout::from_size_align(1000, 8).unwrap();
        let before = in_use();

        let threads: Vec<_> = (0..OWN + SHARED * 3)
            .map(|_| {
                std::thread::spawn(move || {
                    // SAFETY: a layout that is not empty.
                    let at = unsafe { ALLOCATOR.alloc(layout) };
                    // SAFETY: made with that layout just now.
                    unsafe { ALLOCATOR.realloc(at, layout, 3000) as usize }
                })
            })
            .collect();
        let made: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(in_use() - before, 3000 * made.len() as i64);
        for at in made {
            // SAFETY: made above, of that size.
            unsafe { ALLOCATOR.dealloc(at as *mut u8, Layout::from_size_align(3000, 8).unwrap()) };
        }

        assert_eq!(in_use(), before);
        assert!(!of_this_library().is_null());
    }
}
