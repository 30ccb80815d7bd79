//! The receiver of stamped frames. A frame's time is when the kernel had it at the interface: how
//! late this program gets to it does not matter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Result, ensure};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use crate::clock::{NS_IN_SEC, from_realtime_ns, now_ns};
use crate::latency::{Latency, Times};
use crate::ring::{Ring, SLOTS};
use crate::stamp::Stamp;

/// How often a receiver that gets nothing looks whether it is to end.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Frames after which it looks whether it is to end, and at the clocks.
const BATCH_FRAMES: usize = 256;

/// Receives frames of `pktgen send --stamp`.
///
/// Prints `ready` to standard error when it receives. Frames that the sender sent last and that
/// never came are not in `lost`: compare with what it sent.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The interface to receive from.
    interface: String,
    /// For how long, in seconds [default: until SIGTERM or SIGINT].
    #[arg(long)]
    secs: Option<f64>,
    /// Do not sleep when there is nothing to receive: keeps its core awake, and busy.
    #[arg(long)]
    spin: bool,
}

#[derive(Serialize)]
pub(crate) struct Report {
    received: u64,
    /// Numbers that did not come, though a higher one did.
    lost: u64,
    /// Frames that came after one with a higher number, or a second time.
    reordered: u64,
    /// Of the lost ones, those that this program was too slow for.
    overrun: u64,
    /// From the first frame to the last.
    secs: f64,
    /// From just before the sender's system call to the arrival here. None without frames.
    latency_us: Option<Latency>,
}

pub(crate) fn run(arguments: &Arguments, stop: &AtomicBool) -> Result<Report> {
    if let Some(secs) = arguments.secs {
        ensure!(
            secs > 0.0 && secs < 1e9,
            "--secs {secs}: give a positive number"
        );
    }
    let mut ring = Ring::open(&arguments.interface)?;
    eprintln!("ready");
    let end = arguments
        .secs
        .map(|secs| now_ns() + (secs * NS_IN_SEC as f64) as u64);
    let mut seen = Seen::new();
    let over = || stop.load(Relaxed) || end.is_some_and(|end| now_ns() >= end);
    loop {
        let is_over = over();
        // What is in the ring at the end still counts.
        let most = if is_over { SLOTS } else { BATCH_FRAMES };
        let shift = from_realtime_ns();
        let mut taken = 0;
        while taken < most
            && ring
                .next(|head, realtime| seen.frame(head, realtime.saturating_add_signed(shift)))
                .is_some()
        {
            taken += 1;
        }
        if is_over {
            return Ok(seen.report(ring.overrun()?));
        }
        if taken == 0 && !arguments.spin {
            let mut wait = [PollFd::from_borrowed_fd(ring.socket(), PollFlags::IN)];
            match poll(&mut wait, Some(&LOOK)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What has come so far.
struct Seen {
    received: u64,
    reordered: u64,
    /// For each run of a sender, the number that is to come next.
    expected: HashMap<u16, u64>,
    first_ns: u64,
    last_ns: u64,
    times: Times,
}

impl Seen {
    fn new() -> Seen {
        Seen {
            received: 0,
            reordered: 0,
            expected: HashMap::new(),
            first_ns: 0,
            last_ns: 0,
            times: Times::new(),
        }
    }

    fn frame(&mut self, head: &[u8], ns: u64) {
        let Some(stamp) = Stamp::read(head) else {
            return;
        };
        if self.received == 0 {
            self.first_ns = ns;
        }
        self.last_ns = ns;
        self.received += 1;
        let expected = self.expected.entry(stamp.run).or_insert(0);
        if stamp.sequence < *expected {
            self.reordered += 1;
        } else {
            *expected = stamp.sequence + 1;
        }
        self.times.add(ns.saturating_sub(stamp.ns));
    }

    fn report(&self, overrun: u64) -> Report {
        let expected: u64 = self.expected.values().sum();
        Report {
            received: self.received,
            lost: expected.saturating_sub(self.received),
            reordered: self.reordered,
            overrun,
            secs: (self.last_ns - self.first_ns.min(self.last_ns)) as f64 / NS_IN_SEC as f64,
            latency_us: self.times.latency(),
        }
    }
}
