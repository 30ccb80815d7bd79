//! The sender: as fast as it can, or at a rate.

use std::net::SocketAddrV4;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::value_parser as value;
use pnet::util::MacAddr;
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use serde::Serialize;

use crate::clock::{self, NS_IN_SEC, now_ns};
use crate::flow::{Flows, Order};
use crate::frame::{Kind, Shape, Template};
use crate::socket::Outbox;
use crate::stamp::Stamp;

/// Frames for each system call, if nothing else is asked for: beyond 32 nothing is gained.
const BURST_FRAMES: usize = 32;

/// The sender sleeps while the next frame is further away than this, and then spins: to wake up
/// takes this long on a virtual machine whose core had gone to sleep.
const WAKE_UP_NS: u64 = 150_000;

/// Up to so many bytes the frames of all flows are made before the first is sent. Of the microsecond
/// that sending a frame takes this saves some 20 ns; a table of 64 MB, fetched from memory, would
/// cost 40 ns more than writing the flow into a frame at hand.
const TABLE_BYTES: usize = 8 << 20;

const FCS_BYTES: u16 = 4;

/// Sends frames.
///
/// With --count each flow is sent once, and flows are spread over all sources of 198.18.0.0/15. As a
/// flow's number says all about it, three runs make real handshakes: `--kind syn` at the client's
/// wire, `--kind syn-ack` at the server's, `--kind ack` at the client's again.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The interface to send from.
    interface: String,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 2.0)]
    secs: f64,
    /// Frames a second, evenly spread; 0: as many as it can.
    #[arg(long, default_value_t = 0.0)]
    pps: f64,
    /// How many flows take turns.
    #[arg(long, default_value_t = 1000, value_parser = value!(u32).range(1..=100_000_000))]
    flows: u32,
    /// Number of the first flow.
    #[arg(long, default_value_t = 0, value_parser = value!(u32).range(..=1_000_000_000))]
    first: u32,
    /// Send each flow once, however long it takes, and end.
    #[arg(long)]
    count: bool,
    /// Each frame has a source of its own, in no order that repeats soon; --flows has no meaning.
    #[arg(long, conflicts_with = "count")]
    spoof: bool,
    /// What to send.
    #[arg(long, value_enum, default_value_t = Kind::Udp)]
    kind: Kind,
    /// Where flows go: an address and port.
    #[arg(long, default_value = "192.0.2.200:5000")]
    to: SocketAddrV4,
    /// The other direction of the same flows: from --to to their sources. For the server's end.
    #[arg(long)]
    reply: bool,
    /// The MAC address of the frames' destination [default: 02:00:00:00:02:c8; of answers
    /// 02:00:00:00:02:64].
    #[arg(long)]
    mac: Option<MacAddr>,
    /// Length of a frame on the wire, the 4 bytes of its check sequence included.
    #[arg(long, default_value_t = 64, value_parser = value!(u16).range(64..=1518))]
    size: u16,
    /// Put a number and the time into each frame, for `pktgen sink`. UDP only.
    #[arg(long)]
    stamp: bool,
    /// Frames for each system call at most [default: 32; 1 with --stamp, so that each has its own
    /// time].
    #[arg(long, value_parser = value!(u16).range(1..=1024))]
    burst: Option<u16>,
}

#[derive(Serialize)]
pub(crate) struct Report {
    sent: u64,
    /// Frames that the interface had no room for.
    refused: u64,
    secs: f64,
}

pub(crate) fn run(arguments: &Arguments, stop: &AtomicBool) -> Result<Report> {
    let Arguments { secs, pps, .. } = *arguments;
    ensure!(
        secs > 0.0 && secs < 1e9,
        "--secs {secs}: give a positive number"
    );
    ensure!(pps >= 0.0, "--pps {pps}: give a positive number, or 0");
    let is_udp = arguments.kind == Kind::Udp;
    ensure!(
        is_udp || !arguments.stamp,
        "--stamp is for UDP: other kinds have no payload"
    );
    let burst = match arguments.burst {
        Some(frames) => usize::from(frames),
        None if arguments.stamp => 1,
        None => BURST_FRAMES,
    };
    let mut outbox = Outbox::open(&arguments.interface, burst)?;
    let mut frames = Frames::new(arguments, burst);
    // Else each sleep is up to 50 us longer than asked for.
    set_current_timer_slack(NonZeroU64::new(1)).context("PR_SET_TIMERSLACK")?;
    // Runs are told apart by this, and a process runs once.
    let run = std::process::id() as u16;
    let all = arguments.count.then_some(u64::from(arguments.flows));

    let (mut sent, mut refused) = (0, 0);
    let begun = now_ns();
    let end = match all {
        Some(_) => u64::MAX,
        None => begun + (secs * NS_IN_SEC as f64) as u64,
    };
    loop {
        let now = now_ns();
        if now >= end || all == Some(sent) || stop.load(Relaxed) {
            let secs = (now - begun) as f64 / NS_IN_SEC as f64;
            return Ok(Report {
                sent,
                refused,
                secs,
            });
        }
        let mut count = burst;
        if pps > 0.0 {
            let done = sent + refused;
            // The first at once.
            let due = ((now - begun) as f64 * pps / NS_IN_SEC as f64) as u64 + 1;
            if due <= done {
                let next = begun + (done as f64 * NS_IN_SEC as f64 / pps) as u64;
                wait(now, next.min(end));
                continue;
            }
            count = count.min((due - done) as usize);
        }
        if let Some(all) = all {
            count = count.min((all - sent) as usize);
        }
        // With --count what was refused is sent again, else the next one takes its place.
        let turn = if arguments.count {
            sent
        } else {
            sent + refused
        };
        frames.make(turn, count);
        if arguments.stamp {
            // Numbers without a gap: what is refused here was not lost on the way.
            frames.stamp(turn, count, run, sent);
        }
        match outbox.send(frames.these(turn, count)) {
            Ok(done) => sent += done as u64,
            Err(error) => {
                let full = [Errno::NOBUFS, Errno::AGAIN, Errno::INTR];
                let is_full = full
                    .map(|e| e.raw_os_error())
                    .contains(&error.raw_os_error().unwrap_or(0));
                ensure!(is_full, "sending on {}: {error}", arguments.interface);
                refused += 1;
            }
        }
    }
}

/// Waits for a time, or less: the caller looks again.
fn wait(now: u64, until: u64) {
    if until - now > 2 * WAKE_UP_NS {
        clock::sleep_until(until - WAKE_UP_NS);
    } else {
        std::hint::spin_loop();
    }
}

/// Frames to send: one for each flow if there is room for them, else as many as are sent at once.
struct Frames {
    flows: Flows,
    template: Template,
    bytes: Vec<u8>,
    /// A frame's share of `bytes`.
    stride: usize,
    /// How many there are: never fewer than are sent at once.
    slots: usize,
    /// Whether all flows have their frame.
    is_table: bool,
}

impl Frames {
    fn new(arguments: &Arguments, burst: usize) -> Frames {
        let template = Template::new(&Shape {
            kind: arguments.kind,
            bytes: usize::from(arguments.size - FCS_BYTES),
            to: arguments.to,
            mac: arguments.mac,
            reply: arguments.reply,
        });
        let flows = Flows {
            order: match (arguments.spoof, arguments.count) {
                (true, _) => Order::Spoofed,
                (_, true) => Order::Once,
                _ => Order::InTurn,
            },
            first: arguments.first,
            count: arguments.flows,
        };
        let stride = template.bytes().len();
        // Each as often as needed for a burst.
        let table = (flows.count as usize) * burst.div_ceil(flows.count as usize);
        let is_table = flows.order == Order::InTurn && table * stride <= TABLE_BYTES;
        let slots = if is_table { table } else { burst };
        let mut frames = Frames {
            flows,
            bytes: template.bytes().repeat(slots),
            template,
            stride,
            slots,
            is_table,
        };
        if is_table {
            frames.write(0, slots);
        }
        frames
    }

    /// Makes the frames for these turns.
    fn make(&mut self, turn: u64, count: usize) {
        if !self.is_table {
            self.write(turn, count);
        }
    }

    fn write(&mut self, turn: u64, count: usize) {
        let mut slot = self.slot(turn);
        for turn in turn..turn + count as u64 {
            let frame = &mut self.bytes[slot * self.stride..][..self.stride];
            self.template.write(frame, self.flows.source(turn));
            slot = self.after(slot);
        }
    }

    /// Writes the time, now, into the frames of these turns, and numbers from `sequence` on.
    fn stamp(&mut self, turn: u64, count: usize, run: u16, sequence: u64) {
        let mut slot = self.slot(turn);
        let ns = now_ns();
        for sequence in sequence..sequence + count as u64 {
            let stamp = Stamp { run, sequence, ns };
            stamp.write(&mut self.bytes[slot * self.stride..][..self.stride]);
            slot = self.after(slot);
        }
    }

    /// The frames of these turns.
    fn these(&self, turn: u64, count: usize) -> impl Iterator<Item = &[u8]> {
        let mut next = self.slot(turn);
        (0..count).map(move |_| {
            let slot = next;
            next = self.after(slot);
            &self.bytes[slot * self.stride..][..self.stride]
        })
    }

    fn slot(&self, turn: u64) -> usize {
        (turn % self.slots as u64) as usize
    }

    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots { 0 } else { slot + 1 }
    }
}
