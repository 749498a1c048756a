//! What is asked of the management API, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper ends of the buckets of scrapes, in seconds.
const SCRAPE_BUCKETS: [f64; 6] = [0.005, 0.02, 0.1, 0.5, 2.0, f64::INFINITY];

/// Why a request was refused, but for what it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No token, or one that is not taken.
    Token,
    /// The role of the caller.
    Role,
    /// Body or headers were too large.
    Size,
    /// Too many at a time.
    Rate,
}

impl Refused {
    const ALL: [(Refused, &'static str); 4] =
        [(Refused::Token, "token"), (Refused::Role, "role"), (Refused::Size, "size"), (Refused::Rate, "rate")];
}

/// Requests of one verb to one route.
#[derive(Debug, Default)]
struct Requests {
    /// By class of the status, 1xx to 5xx.
    answers: [u64; 5],
    took: Duration,
}

/// See the module's documentation. Routes are those of the table of routes, so that there is a bound.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: Mutex<BTreeMap<Box<str>, BTreeMap<&'static str, Requests>>>,
    refused: [AtomicU64; Refused::ALL.len()],
    scrapes: Mutex<([u64; SCRAPE_BUCKETS.len()], f64)>,
}

impl Traffic {
    /// Counts a request. `route`: its pattern; empty where there is none.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let method = ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD"].into_iter().find(|known| *known == method);
        let mut requests = lock(&self.requests);
        let route = if route.is_empty() { "unknown" } else { route };
        if !requests.contains_key(route) {
            requests.insert(route.into(), BTreeMap::new());
        }
        let Some(of_route) = requests.get_mut(route) else { return };
        let of_method = of_route.entry(method.unwrap_or("other")).or_default();
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        of_method.answers[class] += 1;
        of_method.took += took;
        drop(requests);
        match status {
            401 => self.refused(Refused::Token),
            403 => self.refused(Refused::Role),
            413 | 431 => self.refused(Refused::Size),
            429 => self.refused(Refused::Rate),
            _ => {}
        }
    }

    /// Requests that routes refused, with the word for the reason.
    pub fn refusals(&self) -> [(Refused, &'static str, u64); Refused::ALL.len()] {
        Refused::ALL.map(|(why, word)| (why, word, self.refused[why as usize].load(Ordering::Relaxed)))
    }

    fn refused(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a scrape.
    pub fn scraped(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut scrapes = lock(&self.scrapes);
        scrapes.1 += seconds;
        if let Some(at) = SCRAPE_BUCKETS.iter().position(|end| seconds <= *end) {
            scrapes.0[at] += 1;
        }
    }

    /// Puts it into a scrape.
    pub fn tell(&self, scrape: &mut super::Scrape) {
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        for (route, of_route) in lock(&self.requests).iter() {
            for (method, requests) in of_route {
                let answers = CLASSES.iter().zip(requests.answers).filter(|(_, count)| *count > 0);
                answers.for_each(|(class, count)| scrape.add("api_requests", [route, method, class], count));
                scrape.add("api_requests_duration", [route, method], requests.took.as_secs_f64());
            }
        }
        let (counts, sum) = *lock(&self.scrapes);
        let buckets = SCRAPE_BUCKETS.into_iter().zip(counts).collect();
        scrape.add("scrape", [], super::Value::Spread(sum, counts.iter().sum(), buckets));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Scrape, Value};

    #[test]
    fn requests_are_counted_by_route_verb_and_class_and_refusals_by_reason() {
        let traffic = Traffic::default();
        for (route, method, status) in
            [("/a", "GET", 200), ("/a", "GET", 204), ("/a", "PUT", 403), ("", "BREW", 404), ("/a", "GET", 401)]
        {
            traffic.answered(route, method, status, Duration::from_millis(500));
        }
        let mut scrape = Scrape::default();
        traffic.tell(&mut scrape);

        let told: Vec<(String, &Value)> =
            scrape.of("api_requests").iter().map(|sample| (sample.labels.join(" "), &sample.value)).collect();
        let expected = [("/a GET 2xx", 2), ("/a GET 4xx", 1), ("/a PUT 4xx", 1), ("unknown other 4xx", 1)];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (label, count) in expected {
            assert!(told.contains(&(label.to_owned(), &Value::Count(count))), "{label}: {told:?}");
        }
        assert_eq!(traffic.refusals().map(|(_, _, count)| count), [1, 1, 0, 0]);
    }
}
