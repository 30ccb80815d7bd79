//! The clock, the two hosts, the links and what stands between them.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::engine::Verdict;
use lotus::wire::Side;

use crate::host::Host;
use crate::hostile::{Attack, Hostile, Kind};
use crate::link::LinkPlan;
use crate::middle::Middle;
use crate::oracle::Oracle;
use crate::packet::{Brief, Frame};
use crate::rng::Rng;

/// The control thread of lotus sweeps this often, and programs look at their clocks.
const TICK: Duration = Duration::from_millis(1000);
/// How many packets a failure shows.
const LOG_FRAMES: usize = 400;

#[derive(Clone, Copy, Hash)]
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
    pub hostile: Option<Hostile>,
    /// Whether what was agreed on must pass.
    pub demands: bool,
    /// Whether it is a failure when something passes that was not agreed on. Over a bare wire it
    /// is lost instead, so that the wire behaves as the best firewall would.
    pub forbids: bool,
    /// Whether the last packets are remembered, for a failure's report.
    pub keeps_log: bool,
    link: LinkPlan,
    seed: u64,
    /// How often these very bytes were on this link.
    times_seen: HashMap<u64, u64>,
    /// By arrival time, then in the order in which they were sent.
    on_the_way: BTreeMap<(u64, u64), (Place, Frame)>,
    sent: u64,
    next_tick: Time,
    log: VecDeque<(Time, &'static str, Side, Frame)>,
}

impl World {
    pub fn new(link: LinkPlan, middle: Middle, oracle: Option<Oracle>, mut rng: Rng) -> World {
        let hosts = Side::BOTH.map(|side| Host::new(side, rng.fork()));
        let seed = rng.next();
        World {
            // Not zero, so that a subtraction from "now" cannot fall off the clock's beginning.
            now: Time::from_nanos(1_000_000_000),
            hosts,
            middle,
            oracle,
            hostile: None,
            demands: false,
            forbids: true,
            keeps_log: false,
            link,
            seed,
            times_seen: HashMap::new(),
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
        self.attack()?;
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
        let attack = self.hostile.as_ref().and_then(Hostile::next_attack);
        let next = polls
            .chain(arrival)
            .chain(attack)
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
            let mut draws = self.draws_for(&bytes, None);
            for frame in self.link.dress(bytes, &mut draws) {
                self.send(Place::Middle(side), frame);
            }
        }
    }

    fn send(&mut self, place: Place, frame: Frame) {
        let mut draws = self.draws_for(&frame.bytes, Some(place));
        for at in self.link.arrivals(self.now.as_nanos(), &mut draws) {
            self.sent += 1;
            self.on_the_way
                .insert((at, self.sent), (place, frame.clone()));
        }
    }

    /// What happens to a frame depends on the seed, on its bytes, and on how often they were here
    /// before; not on what else is on the link. So the same dialogue meets the same fate with lotus
    /// and over a bare wire.
    fn draws_for(&mut self, bytes: &[u8], place: Option<Place>) -> Rng {
        let mut hasher = DefaultHasher::new();
        (self.seed, place, bytes).hash(&mut hasher);
        let hash = hasher.finish();
        let times = self.times_seen.entry(hash).or_default();
        *times += 1;
        Rng::new(hash.wrapping_add(*times << 32))
    }

    fn through_the_middle(&mut self, side: Side, frame: Frame) -> Result<(), String> {
        self.note("arrives", side, &frame);
        if let Some(hostile) = &mut self.hostile {
            hostile.saw_arriving(&frame.bytes);
        }
        let is_wanted = self.demands
            && self
                .oracle
                .as_ref()
                .is_some_and(|oracle| oracle.must_pass(&frame.bytes, self.now));
        let brief = is_wanted.then(|| Brief(&frame.bytes).to_string());
        let passed = self.pass(side, frame)?;
        if let (Some(brief), Verdict::Drop(reason)) = (brief, passed) {
            return Err(format!(
                "an agreed connection was dropped ({reason}): {brief}"
            ));
        }
        Ok(())
    }

    /// Lets a frame through the middle, and what leaves it on to the hosts.
    fn pass(&mut self, side: Side, frame: Frame) -> Result<Verdict, String> {
        let kept = self.keeps_log.then(|| frame.clone());
        let passed = self.middle.pass(side, frame, self.now)?;
        if let Some(frame) = kept {
            match passed.verdict {
                Verdict::Forward => {}
                Verdict::Held => self.note("held", side, &frame),
                Verdict::Drop(reason) => self.note(reason.name(), side, &frame),
            }
        }
        for leaving in passed.leaving {
            let what = if leaving.generated { "made" } else { "leaves" };
            self.note(what, leaving.to, &leaving.frame);
            if let Some(oracle) = &mut self.oracle {
                let judged = oracle.judge(leaving.to, &leaving.frame.bytes, self.now);
                match judged {
                    Err(why) if self.forbids => {
                        let brief = Brief(&leaving.frame.bytes);
                        return Err(format!("the oracle: {why}; out of {}: {brief}", leaving.to));
                    }
                    Err(_) => continue,
                    Ok(()) => {}
                }
            }
            if let Some(hostile) = &mut self.hostile {
                hostile.saw_passing(side, &leaving.frame);
            }
            self.send(Place::Host(leaving.to), leaving.frame);
        }
        Ok(passed.verdict)
    }

    /// What the attackers do now.
    fn attack(&mut self) -> Result<(), String> {
        let (Some(hostile), Some(oracle)) = (&mut self.hostile, &self.oracle) else {
            return Ok(());
        };
        let Some(Attack { kind, side, frame }) = hostile.attack(oracle, self.now) else {
            return Ok(());
        };
        self.note("ATTACK", side, &frame);
        if kind == Kind::Replay {
            return self.pass(side, frame).map(drop);
        }
        let brief = Brief(&frame.bytes).to_string();
        let passed = self.middle.pass(side, frame, self.now)?;
        let is_stopped = matches!(passed.verdict, Verdict::Drop(_))
            || (kind == Kind::Fragments && passed.verdict == Verdict::Held);
        if is_stopped && passed.leaving.is_empty() {
            Ok(())
        } else {
            Err(format!("{kind:?} from {side} got through: {brief}"))
        }
    }

    fn note(&mut self, what: &'static str, side: Side, frame: &Frame) {
        if !self.keeps_log {
            return;
        }
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
