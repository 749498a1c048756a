//! A lane under its two threads: order, contents and references are kept whatever the sizes.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;

static LIVE: AtomicUsize = AtomicUsize::new(0);

fn lane(messages: u64, bytes: u64) -> Lane {
    let source = Source { identity: "/devices/d/modules/m".into(), output: "out".into(), epoch: 1 };
    Lane::new(Arc::new(source), LaneLimits { messages, bytes })
}

/// A buffer that counts how many of its kind are alive.
fn counted(bytes: Vec<u8>) -> DrBuffer {
    struct Counted(#[allow(dead_code)] Vec<u8>);
    impl Drop for Counted {
        fn drop(&mut self) {
            LIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    unsafe extern "C" fn retain(owner: *mut c_void) {
        // SAFETY: the `Arc` made below.
        unsafe { Arc::increment_strong_count(owner.cast::<Counted>()) }
    }
    unsafe extern "C" fn release(owner: *mut c_void) {
        // SAFETY: the `Arc` made below.
        unsafe { Arc::decrement_strong_count(owner.cast::<Counted>()) }
    }
    LIVE.fetch_add(1, Ordering::SeqCst);
    let (ptr, len) = (bytes.as_ptr(), bytes.len());
    let owner = Arc::into_raw(Arc::new(Counted(bytes))).cast_mut().cast();
    DrBuffer { ptr, len, owner, retain, release }
}

fn push(lane: &Lane, n: u64, meta: &[u8], body: Body<'_>) -> bool {
    let entry = Entry {
        sequence: n,
        created_us: 7,
        expires_ms: NEVER,
        row: None,
        meta_len: meta.len(),
        fill: &|w| w.put(meta),
    };
    // SAFETY: each test pushes from one thread.
    match unsafe { lane.push(&entry, body) } {
        Ok(()) => true,
        Err(Body::Buffer(buffer)) => {
            release(buffer);
            false
        }
        Err(Body::Inline(_)) => false,
    }
}

/// Body and properties of message `n`: all kinds of sizes, told apart by their bytes.
fn shape(n: u64) -> (Vec<u8>, Vec<u8>) {
    let body = vec![n as u8; [0, 1, 8, 255, 256, 257, 3000][(n % 7) as usize]];
    let meta = vec![(n >> 3) as u8; [0, 0, 5, 768, 769, 5000][(n % 6) as usize]];
    (meta, body)
}

#[test]
fn messages_come_out_in_order_and_whole_across_two_threads() {
    const COUNT: u64 = 60_000;
    let lane = Arc::new(lane(64, 1 << 20));
    let sender = lane.clone();
    let producer = std::thread::spawn(move || {
        for n in 0..COUNT {
            let (meta, body) = shape(n);
            loop {
                let whole =
                    if body.len() > INLINE_BODY { Body::Buffer(counted(body.clone())) } else { Body::Inline(&body) };
                if push(&sender, n, &meta, whole) {
                    break;
                }
                // SAFETY: this is the one producer.
                unsafe { sender.wait_for_room(body.len(), std::time::Duration::from_secs(10)) };
            }
        }
    });
    let mut next = 0;
    while next < COUNT {
        // SAFETY: this is the one consumer.
        let Some(record) = (unsafe { lane.peek() }) else {
            std::hint::spin_loop();
            continue;
        };
        let (meta, body) = shape(next);
        assert_eq!((record.sequence, record.created_us), (next, 7));
        assert_eq!((record.meta, record.body), (&meta[..], &body[..]), "message {next}");
        // SAFETY: as above.
        unsafe { lane.advance() };
        next += 1;
    }
    producer.join().unwrap();
    assert_eq!(lane.waiting(), (0, 0));
    assert_eq!(LIVE.load(Ordering::SeqCst), 0, "every buffer was released");
}

#[test]
fn a_full_lane_gives_the_message_back_and_takes_it_again_after_a_removal() {
    let lane = lane(3, 1 << 20);
    for n in 0..3 {
        assert!(push(&lane, n, b"", Body::Inline(b"x")));
    }
    assert!(!push(&lane, 3, b"", Body::Inline(b"x")));
    assert_eq!(lane.waiting(), (3, 3));
    // SAFETY: one thread plays both sides.
    unsafe {
        assert_eq!(lane.peek().map(|r| r.sequence), Some(0));
        lane.advance();
    }
    assert!(push(&lane, 3, b"", Body::Inline(b"x")));
}

#[test]
fn a_lane_is_bounded_in_bytes_too_but_takes_one_message_of_any_size() {
    let lane = lane(100, 1000);
    assert!(push(&lane, 0, b"", Body::Buffer(host_buffer(vec![0; 5000]))));
    assert!(!push(&lane, 1, b"", Body::Buffer(host_buffer(vec![0; 500]))));
    // SAFETY: one thread plays both sides.
    unsafe {
        assert!(lane.peek().is_some());
        lane.advance();
    }
    assert!(push(&lane, 1, b"", Body::Buffer(host_buffer(vec![0; 500]))));
}

#[test]
fn what_was_not_decided_is_read_again_and_its_attempts_are_counted() {
    let lane = lane(10, 1000);
    push(&lane, 1, b"", Body::Inline(b"a"));
    push(&lane, 2, b"", Body::Inline(b"b"));
    // SAFETY: one thread plays both sides.
    unsafe {
        assert_eq!((lane.peek().map(|r| r.sequence), lane.begin_attempt()), (Some(1), 1));
        assert_eq!((lane.peek().map(|r| r.sequence), lane.begin_attempt()), (Some(1), 2));
        lane.advance();
        assert_eq!((lane.peek().map(|r| r.sequence), lane.begin_attempt()), (Some(2), 1));
    }
}

#[test]
fn a_message_between_the_last_look_and_unscheduling_keeps_the_lane_scheduled() {
    let lane = lane(10, 1000);
    push(&lane, 1, b"", Body::Inline(b"a"));
    assert!(lane.needs_schedule());
    assert!(!lane.needs_schedule(), "once only");
    // SAFETY: one thread plays both sides.
    unsafe {
        assert!(!lane.unschedule(|| false), "there is a message");
        assert!(lane.peek().is_some());
        lane.advance();
        assert!(lane.unschedule(|| false));
    }
    push(&lane, 2, b"", Body::Inline(b"a"));
    assert!(lane.needs_schedule());
}

#[test]
fn a_dropped_lane_releases_what_it_still_holds() {
    let before = Arc::new(vec![1u8; 1000]);
    let lane = lane(10, 1 << 20);
    let buffer = host_buffer(before.to_vec());
    push(&lane, 1, &[1; 5000], Body::Buffer(retained(&buffer)));
    drop(lane);
    // SAFETY: the test still holds its own reference.
    let left = unsafe { Arc::from_raw(buffer.owner.cast::<Vec<u8>>()) };
    assert_eq!(Arc::strong_count(&left), 1);
}

#[test]
fn large_properties_count_for_the_bytes_of_a_lane() {
    let lane = lane(100, 10_000);
    assert!(push(&lane, 0, &[0; 6000], Body::Inline(b"x")));
    assert!(!push(&lane, 1, &[0; 6000], Body::Inline(b"x")));
    assert_eq!(lane.waiting(), (1, 6001));
    // SAFETY: one thread plays both sides.
    unsafe { lane.peek().map(|_| lane.advance()) };
    assert_eq!(lane.waiting(), (0, 0));
    assert!(push(&lane, 1, &[0; 6000], Body::Inline(b"x")));
}

#[test]
fn what_is_not_always_there_is_read_as_it_was_written_beside_what_is() {
    let lane = lane(100, 1 << 20);
    let other = Arc::new(Source { identity: "/devices/d/modules/other".into(), output: "o".into(), epoch: 9 });
    let id = std::num::NonZeroI64::new(-7).unwrap();
    for n in 0..8 {
        let (has_row, has_expiry, has_buffer) = (n & 1 != 0, n & 2 != 0, n & 4 != 0);
        let entry = Entry {
            sequence: n,
            created_us: 7,
            expires_ms: if has_expiry { 100 + n } else { NEVER },
            row: has_row.then_some(RowOf { id, source: &other }),
            meta_len: 1000 * n as usize,
            fill: &|w| w.put(&vec![n as u8; 1000 * n as usize]),
        };
        let body = if has_buffer { Body::Buffer(counted(vec![n as u8; 300])) } else { Body::Inline(b"small") };
        // SAFETY: one thread plays both sides.
        assert!(unsafe { lane.push(&entry, body) }.is_ok());
    }
    assert_eq!(Arc::strong_count(&other), 5);
    for n in 0..8 {
        // SAFETY: as above.
        let record = unsafe { lane.peek() }.unwrap();
        let (has_row, has_expiry, has_buffer) = (n & 1 != 0, n & 2 != 0, n & 4 != 0);
        assert_eq!(record.sequence, n);
        assert_eq!(record.row, has_row.then_some(id));
        assert_eq!(*record.source, if has_row { (*other).clone() } else { (**lane.source()).clone() });
        assert_eq!(record.expires_ms, if has_expiry { 100 + n } else { NEVER });
        assert_eq!(record.has_expired(), has_expiry && crate::clock::coarse_monotonic_ms() >= 100 + n);
        assert_eq!(record.meta, vec![n as u8; 1000 * n as usize]);
        assert_eq!(record.body, if has_buffer { vec![n as u8; 300] } else { b"small".to_vec() });
        // SAFETY: as above.
        unsafe { lane.advance() };
    }
    assert_eq!(Arc::strong_count(&other), 1, "references to the source are given back");
}
