//! Calls that wait for one instance. Callers take turns: one that calls a thousand times holds up another by one call, not by a
//! thousand.

use std::collections::VecDeque;

use super::request::MethodRequest;

/// Most calls that wait for one instance; half of it for one caller.
pub const MAX_WAITING: usize = 2048;
/// Most bytes of their payloads; half of it for one caller.
pub const MAX_WAITING_BYTES: usize = 8 << 20;

/// See the module's documentation.
#[derive(Default)]
pub struct Waiting {
    /// A line for each caller, the one whose turn is next in front; none is empty.
    lines: VecDeque<Line>,
    count: usize,
    bytes: usize,
}

#[derive(Default)]
struct Line {
    requests: VecDeque<MethodRequest>,
    bytes: usize,
}

impl Line {
    fn is_of(&self, caller: &str) -> bool {
        self.requests.front().is_some_and(|first| first.caller == caller)
    }
}

impl Waiting {
    /// Takes a call in, or gives it back where there is no room.
    // What is refused goes back whole, once, to be answered.
    #[allow(clippy::result_large_err)]
    pub fn push(&mut self, request: MethodRequest) -> Result<(), MethodRequest> {
        if !self.has_room(&request) {
            // Those whose callers have given up take no room.
            self.purge();
            if !self.has_room(&request) {
                return Err(request);
            }
        }
        self.count += 1;
        self.bytes += request.payload.len();
        let at = self.lines.iter().position(|line| line.is_of(&request.caller)).unwrap_or_else(|| {
            self.lines.push_back(Line::default());
            self.lines.len() - 1
        });
        self.lines[at].bytes += request.payload.len();
        self.lines[at].requests.push_back(request);
        Ok(())
    }

    /// The next call.
    pub fn take(&mut self) -> Option<MethodRequest> {
        let mut line = self.lines.pop_front()?;
        let request = line.requests.pop_front()?;
        self.count -= 1;
        self.bytes -= request.payload.len();
        line.bytes -= request.payload.len();
        if !line.requests.is_empty() {
            self.lines.push_back(line);
        }
        Some(request)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True where none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn has_room(&self, request: &MethodRequest) -> bool {
        let bytes = request.payload.len();
        let own = self.lines.iter().find(|line| line.is_of(&request.caller));
        let has_own_room = own.is_none_or(|line| {
            line.requests.len() < MAX_WAITING / 2 && line.bytes.saturating_add(bytes) <= MAX_WAITING_BYTES / 2
        });
        has_own_room && self.count < MAX_WAITING && self.bytes.saturating_add(bytes) <= MAX_WAITING_BYTES
    }

    fn purge(&mut self) {
        for line in &mut self.lines {
            line.requests.retain(|request| request.reply.is_awaited());
            line.bytes = line.requests.iter().map(|request| request.payload.len()).sum();
        }
        self.lines.retain(|line| !line.requests.is_empty());
        self.count = self.lines.iter().map(|line| line.requests.len()).sum();
        self.bytes = self.lines.iter().map(|line| line.bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::method::{Call, Calls};

    fn request(calls: &Calls, caller: &str, name: &str, bytes: usize, timeout: Duration) -> MethodRequest {
        let call = Call {
            caller: caller.to_owned(),
            target: "/devices/d/modules/m".to_owned(),
            name: name.to_owned(),
            payload: if bytes == 0 { String::new() } else { "1".repeat(bytes) },
            timeout,
        };
        calls.begin(call, Box::new(|_| {})).unwrap()
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn callers_take_turns_and_each_keeps_its_order() {
        let (calls, mut waiting) = (Calls::default(), Waiting::default());
        for (caller, name) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("b", "2"), ("c", "1")] {
            waiting.push(request(&calls, caller, name, 0, LONG)).ok().unwrap();
        }
        let order: Vec<String> =
            std::iter::from_fn(|| waiting.take()).map(|request| request.caller + &request.name).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_by_number() {
        let (calls, mut waiting) = (Calls::default(), Waiting::default());
        for n in 0..MAX_WAITING {
            waiting.push(request(&calls, &format!("c{}", n % 7), "m", 0, LONG)).ok().unwrap();
        }
        assert!(waiting.push(request(&calls, "c", "m", 0, LONG)).is_err());
        waiting.take().unwrap();
        assert!(waiting.push(request(&calls, "c", "m", 0, LONG)).is_ok());
    }

    #[test]
    fn one_caller_leaves_half_of_the_room_to_others() {
        for (each, most) in [(0, MAX_WAITING / 2), (128 * 1024, MAX_WAITING_BYTES / 2 / (128 * 1024))] {
            let (calls, mut waiting) = (Calls::default(), Waiting::default());
            for _ in 0..most {
                waiting.push(request(&calls, "a", "m", each, LONG)).ok().unwrap();
            }
            assert!(calls.open() < crate::method::MAX_OPEN_PER_CALLER || waiting.len() == most);
            let call = Call {
                caller: "a".to_owned(),
                target: "/devices/d/modules/m".to_owned(),
                name: "m".to_owned(),
                payload: "1".repeat(each),
                timeout: LONG,
            };
            if let Some(request) = calls.begin(call, Box::new(|_| {})) {
                assert!(waiting.push(request).is_err());
            }
            assert!(waiting.push(request(&calls, "b", "m", each, LONG)).is_ok());
        }
    }

    #[test]
    fn what_waits_is_bounded_by_bytes() {
        let (calls, mut waiting) = (Calls::default(), Waiting::default());
        let each = 128 * 1024;
        for _ in 0..MAX_WAITING_BYTES / each {
            let caller = format!("c{}", waiting.len() % 2);
            waiting.push(request(&calls, &caller, "m", each, LONG)).ok().unwrap();
        }
        assert!(waiting.push(request(&calls, "c", "m", 1, LONG)).is_err());
        assert!(waiting.push(request(&calls, "c", "m", 0, LONG)).is_ok(), "takes no bytes");
    }

    #[test]
    fn calls_whose_callers_have_given_up_make_room() {
        let (calls, mut waiting) = (Calls::default(), Waiting::default());
        let (said, gone) = std::sync::mpsc::channel();
        let call = |name: &str| Call {
            caller: "c".to_owned(),
            target: "/devices/d/modules/m".to_owned(),
            name: name.to_owned(),
            payload: String::new(),
            timeout: Duration::from_millis(1),
        };
        for _ in 0..MAX_WAITING / 2 {
            let said = said.clone();
            let request = calls.begin(call("m"), Box::new(move |_| said.send(()).unwrap())).unwrap();
            waiting.push(request).ok().unwrap();
        }
        (0..MAX_WAITING / 2).for_each(|_| gone.recv().unwrap());
        assert!(waiting.push(request(&calls, "c", "m", 0, LONG)).is_ok());
        assert_eq!(waiting.len(), 1);
    }
}
