//! Tickets: what a module knows of its instance. A slot and a generation in one number, so that a stale one is recognised
//! however late it is used, and never reaches the instance that took its place.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::{ArcSwapOption, Guard};

use super::link::Link;

const CHUNK: usize = 256;
const CHUNKS: usize = 1024;

/// A slot and a generation; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

struct Slots {
    chunks: [OnceLock<Box<[ArcSwapOption<Link>]>>; CHUNKS],
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    slots: Vec<(u32, u32)>,
    used: u32,
}

static SLOTS: Slots =
    Slots { chunks: [const { OnceLock::new() }; CHUNKS], free: Mutex::new(Free { slots: Vec::new(), used: 0 }) };

impl Ticket {
    fn slot(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

thread_local! {
    /// The instance whose thread this is, so that its own calls need no look at the slots, which all threads share. Without an end of
    /// its own: until the very end of a thread its calls find the way. Whoever sets it takes it back.
    static OWN: RefCell<ManuallyDrop<Option<Arc<Link>>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

/// The calling thread is an instance's own from now on, or nobody's any more.
pub fn belong_to(link: Option<Arc<Link>>) {
    // In a call of the module that leads back here the thread stays whose it is, until it belongs to another.
    let before = OWN.with(|own| own.try_borrow_mut().ok().and_then(|mut own| std::mem::replace(&mut **own, link)));
    drop(before);
}

/// Calls `act` with the link behind a ticket; `None` where that is stale.
#[inline]
pub fn with<R>(ticket: u64, act: impl FnOnce(&Arc<Link>) -> R) -> Option<R> {
    OWN.with(|own| {
        if let Ok(own) = own.try_borrow()
            && let Some(link) = &**own
            && link.ticket.0 == ticket
            && !link.is_revoked()
        {
            return Some(act(link));
        }
        find(ticket)?.as_ref().map(act)
    })
}

fn slot(index: u32) -> Option<&'static ArcSwapOption<Link>> {
    let chunk = SLOTS.chunks.get(index as usize / CHUNK)?;
    chunk.get()?.get(index as usize % CHUNK)
}

/// Gives out a ticket and binds it to the link that `make` makes with it. `None` when all slots are in use.
pub fn issue(make: impl FnOnce(Ticket) -> Arc<Link>) -> Option<Arc<Link>> {
    let (index, generation) = {
        let mut free = super::lock(&SLOTS.free);
        match free.slots.pop() {
            Some((index, generation)) => (index, generation.wrapping_add(1).max(1)),
            None if (free.used as usize) < CHUNK * CHUNKS => {
                free.used += 1;
                (free.used - 1, 1)
            }
            None => return None,
        }
    };
    SLOTS.chunks[index as usize / CHUNK].get_or_init(|| (0..CHUNK).map(|_| ArcSwapOption::empty()).collect());
    let link = make(Ticket(u64::from(generation) << 32 | u64::from(index)));
    slot(index)?.store(Some(link.clone()));
    Some(link)
}

/// Makes a ticket stale, at once and for all threads. Calls that already found the link end with it.
pub fn revoke(ticket: Ticket) {
    let Some(slot) = slot(ticket.slot()) else { return };
    // Looked at and emptied under one lock: the loop may give up a worker that is just ending by itself, and a slot that is
    // free twice would be two instances with one ticket.
    let mut free = super::lock(&SLOTS.free);
    if slot.load().as_ref().is_some_and(|link| link.ticket == ticket) {
        let link = slot.swap(None);
        if let Some(link) = &link {
            link.note_revoked();
        }
        free.slots.push((ticket.slot(), ticket.generation()));
        drop(free);
        drop(link);
    }
}

/// The link behind a ticket, if it is not stale. Dereferences to `Some`.
pub fn find(ticket: u64) -> Option<Guard<Option<Arc<Link>>>> {
    let found = slot(ticket as u32)?.load();
    found.as_ref().is_some_and(|link| link.ticket.0 == ticket).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::instance::testing::House;

    #[test]
    fn a_ticket_revoked_by_two_threads_at_once_does_not_give_two_instances_one_ticket() {
        let house = House::new();
        let identity = house.identities.ensure(Some("filter")).unwrap().identity.clone();
        let make = |ticket| Arc::new(Link::new(ticket, identity.clone(), house.services.clone()));
        let doomed = Arc::new(AtomicU64::new(0));
        let (shared, stop) = (doomed.clone(), u64::MAX);
        let other = std::thread::spawn(move || {
            let mut last = 0;
            while last != stop {
                let ticket = shared.load(Ordering::Acquire);
                if ticket != last && ticket != stop {
                    revoke(Ticket(ticket));
                }
                last = ticket;
            }
        });
        for _ in 0..20_000 {
            let link = issue(make).unwrap();
            doomed.store(link.ticket.0, Ordering::Release);
            revoke(link.ticket);
            revoke(link.ticket);
            assert!(find(link.ticket.0).is_none());
            let (one, two) = (issue(make).unwrap(), issue(make).unwrap());
            assert_ne!(one.ticket, two.ticket);
            revoke(one.ticket);
            revoke(two.ticket);
        }
        doomed.store(stop, Ordering::Release);
        other.join().unwrap();
    }
}
