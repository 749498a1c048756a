//! Connections that are served at a time: so many in all, so many from one address, and some beyond that only to be told to
//! come again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header;
use axum::response::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Seats of a way in from other machines. Clones are the same.
#[derive(Clone)]
pub(super) struct Seats {
    served: Arc<Semaphore>,
    refused: Arc<Semaphore>,
    per_address: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// What a connection got. Given back when dropped.
pub(super) enum Seat {
    /// It is served.
    Served(#[allow(dead_code, reason = "held")] Taken),
    /// It is answered with 503.
    Refused(#[allow(dead_code, reason = "held")] OwnedSemaphorePermit),
}

/// A place among those that are served.
pub(super) struct Taken {
    _permit: OwnedSemaphorePermit,
    address: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Seats {
    pub(super) fn new(served: usize, per_address: usize, refused: usize) -> Seats {
        Seats {
            served: Arc::new(Semaphore::new(served)),
            refused: Arc::new(Semaphore::new(refused)),
            per_address,
            taken: Arc::default(),
        }
    }

    /// A seat for a connection from `address`. Waits only where even those that refuse are all taken; these are held for a
    /// moment each.
    pub(super) async fn take(&self, address: IpAddr) -> Option<Seat> {
        match self.serve(network(address)) {
            Some(taken) => Some(Seat::Served(taken)),
            None => self.refused.clone().acquire_owned().await.ok().map(Seat::Refused),
        }
    }

    fn serve(&self, address: IpAddr) -> Option<Taken> {
        let permit = self.served.clone().try_acquire_owned().ok()?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_insert(0);
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Taken { _permit: permit, address, taken: self.taken.clone() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// Addresses that count as one: of IPv6 the network, which one client has whole.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

/// Seats of the way in for this system: a crowd of live views and of connections that only stay open never locks out a short
/// request. Clones are the same.
#[derive(Clone)]
pub(super) struct LocalSeats {
    served: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    wanted: Arc<Notify>,
}

impl LocalSeats {
    pub(super) fn new(served: usize, streams: usize) -> LocalSeats {
        LocalSeats {
            served: Arc::new(Semaphore::new(served)),
            streams: Arc::new(Semaphore::new(streams)),
            wanted: Arc::default(),
        }
    }

    /// A seat. Where all are taken, connections that only stay open are asked to give way, for as long as `wait`.
    pub(super) async fn take(&self, wait: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(seat) = self.served.clone().try_acquire_owned() {
            return Some(seat);
        }
        for _ in 0..4 {
            self.wanted.notify_waiters();
            if let Ok(seat) = tokio::time::timeout(wait / 4, self.served.clone().acquire_owned()).await {
                return seat.ok();
            }
        }
        None
    }

    /// Returns when somebody waits for a seat. Not for one that has just come, since its request may be on its way.
    pub(super) async fn wanted(&self, wait: Duration) {
        tokio::time::sleep(wait / 2).await;
        self.wanted.notified().await;
    }

    /// The answer, holding its place among the live views if it is one; `None` where these are all taken.
    pub(super) fn admit(&self, answer: Response) -> Option<Response> {
        let kind = answer.headers().get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != "application/x-ndjson") {
            return Some(answer);
        }
        let place = self.streams.clone().try_acquire_owned().ok()?;
        Some(answer.map(|inner| axum::body::Body::new(LiveView { inner, _place: place })))
    }
}

/// The body of a live view, with its place.
struct LiveView {
    inner: axum::body::Body,
    _place: OwnedSemaphorePermit,
}

impl Body for LiveView {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn one_address_never_takes_the_seats_of_the_others() {
        let seats = Seats::new(4, 2, 8);
        let (greedy, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let held = [seats.take(greedy).await.unwrap(), seats.take(greedy).await.unwrap()];
        assert!(held.iter().all(|seat| matches!(seat, Seat::Served(_))));

        assert!(matches!(seats.take(greedy).await, Some(Seat::Refused(_))));
        let also = [seats.take(other).await.unwrap(), seats.take(other).await.unwrap()];
        assert!(also.iter().all(|seat| matches!(seat, Seat::Served(_))));
        assert!(matches!(seats.take([192, 0, 2, 3].into()).await, Some(Seat::Refused(_))), "there are four in all");

        drop(held);
        assert!(matches!(seats.take(greedy).await, Some(Seat::Served(_))), "seats are given back");
        drop(also);
        assert!(seats.taken.lock().unwrap().is_empty(), "nothing is kept of those who went");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
