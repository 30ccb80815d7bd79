//! An engine between two sides. It counts on its own what goes in and what comes out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::engine::{Engine, Origin, Out, Settings, Shared, Verdict};
use lotus::observe::{Counters, DropReason, Event, EventKind, PortOpened, Snapshot};
use lotus::rules::{PortNames, Ruleset};
use lotus::wire::{Meta, Side, TcpFlags};

use super::{Hosts, Segment, at};

/// Nothing passes but control connections, DNS and ping, and what the helper opens.
const RULES: &str = r#"
table bridge test {
  ct helper ftp { type "ftp" protocol tcp; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ct state invalid drop
    ct state established,related accept
    tcp dport { 21, 2121 } ct state new ct helper set "ftp" accept
    udp dport 53 accept
    icmp type echo-request accept
    icmpv6 type echo-request accept
  }
}
"#;

/// The time between two frames.
const STEP: Duration = Duration::from_micros(100);

pub struct Lab {
    pub shared: Arc<Shared>,
    engine: Engine,
    counters: Arc<Counters>,
    pub now: Time,
    /// Frames that the test put in, and got out.
    given: u64,
    left: u64,
    /// What lotus itself made, and where it went.
    pub generated: Vec<(Side, Vec<u8>)>,
    /// Events so far.
    events: Vec<Event>,
    next_probe_port: u16,
}

/// What became of a frame: the verdict, and all that left with it at the other side, in order.
#[derive(Debug)]
pub struct Passed {
    pub verdict: Verdict,
    pub frames: Vec<Vec<u8>>,
}

/// A connection that is allowed to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    pub from: IpAddr,
    pub to: SocketAddr,
    /// Where its SYN comes in.
    pub side: Side,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Lab {
        Lab::with_rules(RULES, settings)
    }

    pub fn with_rules(rules: &str, settings: Settings) -> Lab {
        let names = PortNames {
            inside: "in".into(),
            outside: "out".into(),
        };
        let rules = Ruleset::parse("test.nft", rules, &names).expect("good rules");
        let shared = Shared::new(rules, settings);
        let counters = Arc::new(Counters::default());
        let engine = Engine::new(Arc::clone(&shared), Arc::clone(&counters));
        Lab {
            shared,
            engine,
            counters,
            now: Time::from_nanos(1_000_000),
            given: 0,
            left: 0,
            generated: Vec::new(),
            events: Vec::new(),
            next_probe_port: 50_000,
        }
    }

    /// Sends a frame through, and checks the law.
    pub fn pass(&mut self, side: Side, frame: Vec<u8>) -> Passed {
        let passed = self.pass_unchecked(side, frame);
        self.check_law();
        passed
    }

    /// The same without looking at all counters, for floods: the caller checks at the end.
    pub fn pass_unchecked(&mut self, side: Side, mut frame: Vec<u8>) -> Passed {
        self.now = self.now + STEP;
        self.given += 1;
        let mut out = Out::default();
        let meta = Meta::default();
        let verdict = self
            .engine
            .process(side, &mut frame, &meta, self.now, &mut out);
        let mut frames = Vec::new();
        if verdict == Verdict::Forward {
            self.left += 1;
            self.counters.forwarded(side.other().index(), frame.len());
            frames.push(frame);
        }
        for sent in out.frames {
            let bytes = sent.frame.frame();
            match sent.origin {
                Origin::Released => {
                    self.left += 1;
                    self.counters.unheld(bytes.len());
                    self.counters.forwarded(sent.to.index(), bytes.len());
                    if sent.to == side.other() {
                        frames.push(bytes.to_vec());
                    }
                }
                Origin::Generated => {
                    self.counters.generated(bytes.len());
                    self.generated.push((sent.to, bytes.to_vec()));
                }
            }
        }
        Passed { verdict, frames }
    }

    /// Received = forwarded + dropped + held, by lotus's count and by ours.
    pub fn check_law(&self) {
        let counts = self.counts();
        assert_eq!(counts.unaccounted_frames(), 0, "the law of accounting");
        assert_eq!(counts.received_total().frames, self.given, "received");
        assert_eq!(counts.forwarded_total().frames, self.left, "forwarded");
        let ended = counts.dropped_total().frames + counts.held.frames;
        assert_eq!(self.given, self.left + ended, "dropped and held");
    }

    pub fn counts(&self) -> Snapshot {
        Snapshot::of([&*self.counters])
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.counts().dropped_for(reason)
    }

    pub fn later(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    pub fn tick(&mut self) {
        self.shared
            .tick(self.now, self.shared.parts(), &self.counters);
        self.check_law();
    }

    /// All events so far.
    pub fn events(&mut self) -> &[Event] {
        let new = std::iter::from_fn(|| self.shared.events().pop()).map(|stamped| stamped.event);
        self.events.extend(new);
        &self.events
    }

    pub fn told(&mut self) -> Vec<String> {
        self.events().iter().map(ToString::to_string).collect()
    }

    /// All ports that were ever opened.
    pub fn opened(&mut self) -> Vec<PortOpened> {
        let opened = |event: &Event| match &event.kind {
            EventKind::PortOpened(opened) => Some(opened.clone()),
            _ => None,
        };
        self.events().iter().filter_map(opened).collect()
    }

    pub fn refusals(&mut self) -> Vec<&'static str> {
        let why = |event: &Event| match event.kind {
            EventKind::Refused { why, .. } => Some(why),
            _ => None,
        };
        self.events().iter().filter_map(why).collect()
    }

    /// Some event has all these words.
    #[track_caller]
    pub fn assert_told(&mut self, words: &[&str]) {
        let told = self.told();
        let has_all = |line: &String| words.iter().all(|word| line.contains(word));
        assert!(told.iter().any(has_all), "{words:?} is not in {told:#?}");
    }

    /// Exactly these doors are open. Knocks from four hosts at both sides; what may pass does, and
    /// is answered with a reset, after which the next one may come.
    #[track_caller]
    pub fn assert_open(&mut self, hosts: Hosts, doors: &[Door]) {
        let mut ports = vec![20, 22, 80, 1023, 1024, 30_000, 51_400, 65_535];
        for door in doors {
            let port = door.to.port();
            ports.extend([port, port.wrapping_add(1), port.wrapping_sub(1)]);
            ports.push(port.swap_bytes());
        }
        for event in self.opened() {
            ports.push(event.to.port());
        }
        ports.sort_unstable();
        ports.dedup();
        ports.retain(|&port| !matches!(port, 0 | super::FTP | super::OTHER_FTP));
        self.assert_open_of(hosts, doors, &ports);
    }

    /// The same, with the ports to knock at given.
    #[track_caller]
    pub fn assert_open_of(&mut self, hosts: Hosts, doors: &[Door], ports: &[u16]) {
        let all = [hosts.client, hosts.server, hosts.neighbour, hosts.stranger];
        for &port in ports {
            for side in Side::BOTH {
                for from in all {
                    for to in all.into_iter().filter(|&to| to != from) {
                        let to = at(to, port);
                        let is_open = doors.contains(&Door { from, to, side });
                        let verdict = self.knock(from, to, side, &[]);
                        let passed = verdict == Verdict::Forward;
                        assert_eq!(passed, is_open, "{from} to {to} from {side}: {verdict:?}");
                    }
                }
            }
        }
    }

    /// A SYN, and if it passes, the reset that answers it.
    pub fn knock(&mut self, from: IpAddr, to: SocketAddr, side: Side, vlan: &[u16]) -> Verdict {
        // Each from a port of its own, so that none meets what is left of the one before.
        let source = self.next_probe_port;
        self.next_probe_port = if source == 60_000 { 50_000 } else { source + 1 };
        let syn = Segment::syn(at(from, source), to).tagged(vlan);
        let verdict = self.pass(side, syn.frame()).verdict;
        if verdict == Verdict::Forward {
            let flags = TcpFlags::RST | TcpFlags::ACK;
            let reset = Segment::new(to, at(from, source), flags, 0, syn.seq + 1).tagged(vlan);
            let answer = self.pass(side.other(), reset.frame());
            assert_eq!(answer.verdict, Verdict::Forward, "the reset");
        }
        verdict
    }

    /// A whole handshake, and a byte each way.
    pub fn connects(&mut self, from: SocketAddr, to: SocketAddr, side: Side) -> bool {
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        let segments = [
            (side, Segment::new(from, to, syn, 5_000, 0)),
            (
                side.other(),
                Segment::new(to, from, syn | ack, 9_000, 5_001),
            ),
            (side, Segment::new(from, to, ack, 5_001, 9_001)),
            (side, Segment::new(from, to, 0, 5_001, 9_001).data("x")),
            (
                side.other(),
                Segment::new(to, from, 0, 9_001, 5_002).data("y"),
            ),
        ];
        segments
            .into_iter()
            .all(|(side, segment)| self.pass(side, segment.frame()).verdict == Verdict::Forward)
    }
}
