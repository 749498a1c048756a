//! What a worker promises its module and those who talk to it, with a real worker.

mod calls;
mod completions;
mod deliveries;
mod gathering;
mod losses;
mod signing;
mod spills;
mod tumble;
mod turns;
mod ways;

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use dinrail_plugin::abi::*;

use super::link::Control;
use super::lock;
use super::testing::*;

fn body(message: &DrMessage) -> u64 {
    // SAFETY: the message is borrowed for the call.
    let bytes = unsafe { DrText { ptr: message.body, len: message.body_len }.bytes() };
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// An instance whose event handler does not return until it is let go.
fn stuck(house: &House, mut script: Script) -> (Live, Sender<()>) {
    let (begin, begun) = channel();
    let (go, gone) = channel();
    let gone = Mutex::new(gone);
    script.event = Some(Box::new(move |_, _| {
        begin.send(()).unwrap();
        let _ = lock(&gone).recv();
        DR_OK
    }));
    let live = house.start(script);
    live.link.tell(Control::Event(0));
    begun.recv().unwrap();
    (live, go)
}
