//! The clock, the two hosts, the links and what stands between them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::engine::Verdict;
use lotus::wire::Side;

use crate::host::Host;
use crate::link::LinkPlan;
use crate::middle::Middle;
use crate::oracle::Oracle;
use crate::packet::{Brief, Frame};
use crate::rng::Rng;

/// Programs look at their clocks this often, and so does the control thread of lotus.
const TICK: Duration = Duration::from_millis(100);
/// How many packets a failure shows.
const LOG_FRAMES: usize = 400;

enum Place {
    Middle(Side),
    Host(Side),
}

/// A program on one of the hosts.
pub trait Program {
    /// Does what can be done now.
    fn step(&mut self, now: Time, host: &mut Host);
}

pub struct World {
    pub now: Time,
    pub hosts: [Host; 2],
    pub middle: Middle,
    pub oracle: Option<Oracle>,
    link: LinkPlan,
    rng: Rng,
    /// By arrival time, then in the order in which they were sent.
    on_the_way: BTreeMap<(u64, u64), (Place, Frame)>,
    sent: u64,
    next_tick: Time,
    log: VecDeque<(Time, &'static str, Side, Frame)>,
}

impl World {
    pub fn new(link: LinkPlan, middle: Middle, oracle: Option<Oracle>, mut rng: Rng) -> World {
        let hosts = Side::BOTH.map(|side| Host::new(side, rng.fork()));
        World {
            // Not zero, so that a subtraction from "now" cannot fall off the clock's beginning.
            now: Time::from_nanos(1_000_000_000),
            hosts,
            middle,
            oracle,
            link,
            rng,
            on_the_way: BTreeMap::new(),
            sent: 0,
            next_tick: Time::from_nanos(1_000_000_000),
            log: VecDeque::new(),
        }
    }

    pub fn host(&mut self, side: Side) -> &mut Host {
        &mut self.hosts[side.index()]
    }

    /// Lets the hosts send and everything arrive that is due, then moves the clock on.
    pub fn advance(&mut self) -> Result<(), String> {
        self.poll_hosts();
        while let Some(entry) = self.on_the_way.first_entry() {
            if entry.key().0 > self.now.as_nanos() {
                break;
            }
            let (place, frame) = entry.remove();
            match place {
                Place::Middle(side) => self.through_the_middle(side, frame)?,
                Place::Host(side) => {
                    let bytes = self.link.undress(frame)?;
                    self.host(side).deliver(bytes);
                    self.poll_host(side);
                }
            }
        }
        self.poll_hosts();
        if self.now >= self.next_tick {
            self.middle.tick(self.now)?;
            self.next_tick = self.now + TICK;
        }
        self.now = self.next_event();
        Ok(())
    }

    fn next_event(&mut self) -> Time {
        let now = self.now;
        let arrival = self
            .on_the_way
            .first_key_value()
            .map(|(&(at, _), _)| Time::from_nanos(at));
        let polls = self.hosts.iter_mut().filter_map(|host| host.next_poll(now));
        let next = polls
            .chain(arrival)
            .min()
            .unwrap_or(self.next_tick)
            .min(self.next_tick);
        // A host that wants to be polled at once is polled a little later: the clock must move.
        next.max(now + Duration::from_micros(10))
    }

    fn poll_hosts(&mut self) {
        for side in Side::BOTH {
            self.poll_host(side);
        }
    }

    fn poll_host(&mut self, side: Side) {
        let now = self.now;
        for bytes in self.host(side).poll(now) {
            for frame in self.link.dress(bytes, &mut self.rng) {
                self.send(|| Place::Middle(side), frame);
            }
        }
    }

    fn send(&mut self, place: impl Fn() -> Place, frame: Frame) {
        for at in self.link.arrivals(self.now.as_nanos(), &mut self.rng) {
            self.sent += 1;
            self.on_the_way
                .insert((at, self.sent), (place(), frame.clone()));
        }
    }

    fn through_the_middle(&mut self, side: Side, frame: Frame) -> Result<(), String> {
        self.note("arrives", side, &frame);
        let passed = self.middle.pass(side, frame.clone(), self.now)?;
        match passed.verdict {
            Verdict::Forward => {}
            Verdict::Held => self.note("held", side, &frame),
            Verdict::Drop(reason) => self.note(reason.name(), side, &frame),
        }
        for leaving in passed.leaving {
            let what = if leaving.generated { "made" } else { "leaves" };
            self.note(what, leaving.to, &leaving.frame);
            if let Some(oracle) = &mut self.oracle {
                oracle
                    .judge(&leaving.frame.bytes, self.now)
                    .map_err(|why| {
                        format!(
                            "the oracle: {why}; out of {}: {}",
                            leaving.to,
                            Brief(&leaving.frame.bytes)
                        )
                    })?;
            }
            let to = leaving.to;
            self.send(|| Place::Host(to), leaving.frame);
        }
        Ok(())
    }

    fn note(&mut self, what: &'static str, side: Side, frame: &Frame) {
        if self.log.len() == LOG_FRAMES {
            self.log.pop_front();
        }
        self.log.push_back((self.now, what, side, frame.clone()));
    }

    /// The last packets, one a line.
    pub fn packet_log(&self) -> String {
        let mut text = String::new();
        for (at, what, side, frame) in &self.log {
            let ms = at.as_nanos() as f64 / 1e6;
            let _ = writeln!(text, "{ms:12.3} {side:8} {what:16} {}", Brief(&frame.bytes));
        }
        text
    }
}
