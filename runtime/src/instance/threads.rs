//! Threads that an instance has beside its worker: they say when they begin and end, bear its name, and their time is its own.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dinrail_plugin::abi::{DR_GONE, DR_INVALID, DR_OK, DrStatus, DrText, DrThreads};

use super::link::Link;
use super::{lock, ticket, usage};

/// Longest name of a thread that the system keeps.
const MAX_NAME: usize = 15;
/// Characters that remain of the instance's name beside a long name of the thread.
const MIN_INSTANCE: usize = 6;
/// Threads of one instance that are known; more run unnamed.
const MAX_THREADS: usize = 1024;

/// What modules find as `dinrail.threads/1`.
pub static TABLE: DrThreads = DrThreads { size: size_of::<DrThreads>() as u32, flags: 0, enter, leave };

/// A thread that has entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// Kernel id.
    pub id: u32,
    /// As the system shows it.
    pub name: Box<str>,
    /// As its module named it.
    pub own_name: Box<str>,
}

thread_local! {
    /// The instance that this thread belongs to. Dropped with the thread, should it not leave.
    static BELONGS: RefCell<Option<Belongs>> = const { RefCell::new(None) };
}

struct Belongs(Arc<Link>);

impl Drop for Belongs {
    fn drop(&mut self) {
        ticket::belong_to(None);
        let id = usage::current_thread();
        self.0.add_cpu(usage::cpu_seconds(id));
        lock(&self.0.threads).retain(|thread| thread.id != id);
    }
}

unsafe extern "C" fn enter(of: u64, name: DrText) -> DrStatus {
    std::panic::catch_unwind(|| {
        // SAFETY: borrowed for the call, by contract.
        let Some(own_name) = (unsafe { name.text() }) else { return DR_INVALID };
        let link = match ticket::find(of).as_deref() {
            Some(Some(link)) => link.clone(),
            _ => return DR_GONE,
        };
        enter_link(link, own_name);
        DR_OK
    })
    .unwrap_or(DR_GONE)
}

fn enter_link(link: Arc<Link>, own_name: &str) {
    let name = short_name(&link.name, own_name);
    usage::name_thread(&name);
    let thread = Entered { id: usage::current_thread(), name: name.into(), own_name: own_name.into() };
    let mut threads = lock(&link.threads);
    if thread.id == 0 || threads.len() >= MAX_THREADS {
        return;
    }
    threads.push(thread);
    drop(threads);
    // One that belonged to another instance leaves it.
    drop(BELONGS.with(RefCell::take));
    ticket::belong_to(Some(link.clone()));
    BELONGS.with(|belongs| belongs.replace(Some(Belongs(link))));
}

unsafe extern "C" fn leave(_of: u64) {
    let left = std::panic::catch_unwind(|| BELONGS.with(RefCell::take));
    drop(left);
}

impl Link {
    /// Adds the time of a thread that ends.
    pub(super) fn add_cpu(&self, seconds: Option<f64>) {
        let nanoseconds = seconds.map_or(0, |seconds| (seconds * 1e9) as u64);
        self.ended_cpu_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Processor time of all its threads, of those that have ended too, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let live: f64 = self.live_threads().iter().filter_map(|(_, seconds)| *seconds).sum();
        self.ended_cpu_ns.load(Ordering::Relaxed) as f64 / 1e9 + live
    }

    /// Its threads and their processor time: the worker first.
    pub fn live_threads(&self) -> Vec<(String, Option<f64>)> {
        let worker = self.thread.load(Ordering::Relaxed);
        let own = (worker != 0).then(|| (short_worker_name(&self.name), usage::cpu_seconds(worker)));
        let others = lock(&self.threads).clone();
        let others = others.iter().map(|thread| (thread.name.to_string(), usage::cpu_seconds(thread.id)));
        own.into_iter().chain(others).collect()
    }

    /// The names of threads that its module has started and that have not ended.
    pub fn started_threads(&self) -> Vec<String> {
        lock(&self.threads).iter().map(|thread| thread.own_name.to_string()).collect()
    }
}

/// The name of an instance's own thread.
pub fn short_worker_name(instance: &str) -> String {
    instance.chars().take(MAX_NAME).collect()
}

/// `instance/thread`, with as much of both as there is room for: the thread's name goes first, down to six characters of the
/// instance's.
fn short_name(instance: &str, thread: &str) -> String {
    let thread: String = thread.chars().filter(|c| c.is_ascii_graphic()).collect();
    let room = MAX_NAME - 1;
    let for_instance = room.saturating_sub(thread.len()).max(MIN_INSTANCE).min(instance.len());
    let instance: String = instance.chars().take(for_instance).collect();
    let left = room - instance.len();
    format!("{instance}/{}", thread.chars().take(left).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::testing::House;

    #[test]
    fn names_fit_into_what_the_system_keeps_and_tell_both() {
        for (instance, thread, name) in [
            ("pump", "poll", "pump/poll"),
            ("host-metrics", "sampler", "host-me/sampler"),
            ("host-metrics", "x", "host-metrics/x"),
            ("abcdefghijklmnop", "a-very-long-name", "abcdef/a-very-l"),
            ("p", "a-very-long-name", "p/a-very-long-n"),
            ("pump", "möwe", "pump/mwe"),
        ] {
            assert_eq!(short_name(instance, thread), name);
            assert!(name.len() <= MAX_NAME);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn thread_counts_for_its_instance_while_it_lives_and_afterwards() {
        let house = House::new();
        let identity = house.identities.ensure(Some("pump")).unwrap().identity.clone();
        let link = ticket::issue(|ticket| Arc::new(Link::new(ticket, identity, house.services.clone()))).unwrap();
        let of = link.ticket.0;

        let thread = std::thread::spawn(move || {
            // SAFETY: the text outlives the call.
            assert_eq!(unsafe { enter(of, DrText::new("poll")) }, DR_OK);
            let known = match ticket::find(of).as_deref() {
                Some(Some(link)) => (link.started_threads(), link.live_threads()),
                _ => panic!("no link"),
            };
            let mut sum = 0_u64;
            while usage::cpu_seconds(usage::current_thread()).unwrap() < 0.01 {
                sum = std::hint::black_box(sum + 1);
            }
            ticket::revoke(ticket::Ticket(of));
            // SAFETY: any thread may, also with a stale ticket.
            unsafe { leave(of) };
            known
        });
        let (started, live) = thread.join().unwrap();

        assert_eq!((&started[..], &*live[0].0), (&["poll".to_owned()][..], "pump/poll"));
        assert!(link.started_threads().is_empty());
        assert!(link.cpu_seconds() >= 0.01, "{}", link.cpu_seconds());
        // SAFETY: as above.
        assert_eq!(unsafe { enter(of, DrText::new("late")) }, DR_GONE);
    }
}
