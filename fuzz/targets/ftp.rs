//! A control connection whose two byte streams, and the way in which they travel, come from the
//! input.
//!
//! The input: a byte of switches, a byte that says how long the schedule is, the schedule, then the
//! dialogue in turns, the server's first, each ended by the byte 0x1E. A turn is wholly received
//! before the next one begins, as between ends that wait for each other; within a turn the
//! schedule sends pieces in any order, twice, over old bytes, and acknowledges in between.
//!
//! What the receivers get must not depend on the schedule. One thing may: a line is found
//! refusable at a certain byte, and what of it left before that is gone. So each byte must be as
//! with the whole turn in one segment, where most can be overwritten, or as with one byte a
//! segment, where least can. The ports that are opened must be exactly the same, and how often
//! the range of TLS sessions is.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use lotus::engine::{Settings, Verdict};
use lotus::helper::ftp::Refusal;
use lotus::observe::{DropReason, EventKind, PortOpened};
use lotus::wire::{self, L4, Meta, Side, TcpFlags, checksum};

use super::lab::{Ends, FIRST_DATA_PORT, Input, Lab, Tcp, host};

/// What ends a turn.
pub const TURN: u8 = 0x1e;

/// The switches.
pub const V6: u8 = 1;
pub const CLIENT_OUTSIDE: u8 = 2;
pub const NO_LOGIN_NEEDED: u8 = 4;
pub const PASSIVE_ONLY: u8 = 8;
/// Sequence numbers wrap around soon.
pub const WRAP: u8 = 16;
/// What would be refused passes, and opens nothing.
pub const IGNORE: u8 = 32;
/// The server's passive range is named, for TLS.
pub const TLS_RANGE: u8 = 64;

const CONTROL_PORT: u16 = 21;
const CLIENT_PORT: u16 = 40_000;
const TLS_PORTS: RangeInclusive<u16> = 30_000..=30_009;
/// No port that is opened: else the answer to one probe would be another one.
const PROBES_FROM: u16 = 100;

/// Both windows are 60,000 bytes and the history 64 KiB: a turn fits, with room for the last one.
const MAX_TURN_BYTES: usize = 16 * 1024;
/// Pieces of a turn beside those that complete it.
const MAX_PIECES: u8 = 16;
/// How far before the turn a piece may begin: bytes that were received long ago.
const REACH_BACK: usize = 8;
const MAX_PIECE_BYTES: u8 = 64;
/// This start of a piece stands for an acknowledgment by the receiver.
const ACKNOWLEDGE: u8 = 255;

/// The time between two segments.
const STEP: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
struct Plan<'a> {
    switches: u8,
    turns: &'a [&'a [u8]],
}

#[derive(Clone, Copy)]
enum Cuts<'a> {
    /// A turn is a segment.
    Whole,
    /// A byte is a segment.
    Bytes,
    Scheduled(&'a [u8]),
}

/// What was sent, and what the receivers got: the client's bytes, the server's bytes, and the ports opened.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    sent: [Vec<u8>; 2],
    received: [Vec<u8>; 2],
    opened: Vec<PortOpened>,
    /// How often the range was.
    ranges: usize,
}

/// One end's stream on its way.
struct Stream {
    side: Side,
    first_seq: u32,
    sent: Vec<u8>,
    /// What the receiver has of it, and the length of its part without gaps.
    received: Vec<Option<u8>>,
    contiguous: usize,
    /// How much of it the receiver has acknowledged in a segment that passed.
    acked: usize,
}

struct Dialogue {
    lab: Lab,
    ends: Ends,
    /// The client's, the server's.
    streams: [Stream; 2],
    opened: Vec<PortOpened>,
    /// The one that is open now.
    open: Option<PortOpened>,
    /// How often the range was opened, and whether it is open now.
    ranges: usize,
    is_range_open: bool,
}

pub fn check(data: &[u8]) {
    let _ = opened_by(data);
}

/// Checks an input and tells which ports it opened.
pub fn opened_by(data: &[u8]) -> Vec<PortOpened> {
    outcome_of(data).opened
}

/// Checks an input and tells how often it opened the range.
pub fn ranges_opened_by(data: &[u8]) -> usize {
    outcome_of(data).ranges
}

fn outcome_of(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let switches = input.u8();
    let len = usize::from(input.u8());
    let schedule = input.take(len);
    let turns: Vec<&[u8]> = input.rest().split(|&byte| byte == TURN).collect();
    let plan = Plan {
        switches,
        turns: &turns,
    };
    let whole = travel(plan, Cuts::Whole);
    let scheduled = travel(plan, Cuts::Scheduled(schedule));
    assert_eq!(
        (&whole.opened, whole.ranges),
        (&scheduled.opened, scheduled.ranges),
        "which ports are opened depends on the schedule"
    );
    if whole != scheduled {
        between(&whole, &travel(plan, Cuts::Bytes), &scheduled);
    }
    whole
}

fn between(whole: &Outcome, bytes: &Outcome, scheduled: &Outcome) {
    assert_eq!(
        (&whole.opened, whole.ranges),
        (&bytes.opened, bytes.ranges),
        "which ports are opened depends on the cuts"
    );
    for sender in 0..2 {
        let [most, least, got] = [whole, bytes, scheduled].map(|o| &o.received[sender]);
        assert_eq!((got.len(), got.len()), (most.len(), least.len()));
        // A line that turns out bad with its last byte, when all others have left, loses its end,
        // and the next line goes on in it. If it comes in one piece with others, it ends, and the
        // next line is one of its own, of which more may have left. So from there on nothing is
        // known; which ports are opened is.
        let sent = &whole.sent[sender];
        let is_joined = |&at: &usize| sent[at] == b'\n' && least[at] != sent[at];
        let known = (0..got.len()).find(is_joined).unwrap_or(got.len());
        for (at, &byte) in got.iter().enumerate().take(known) {
            assert!(
                byte == most[at] || byte == least[at],
                "byte {at} of stream {sender} depends on the schedule: {:?} {:?} {:?}",
                most[at] as char,
                least[at] as char,
                byte as char,
            );
        }
    }
}

fn travel(plan: Plan<'_>, cuts: Cuts<'_>) -> Outcome {
    let mut dialogue = Dialogue::begin(plan.switches);
    let mut schedule = Input::new(match cuts {
        Cuts::Scheduled(schedule) => schedule,
        Cuts::Whole | Cuts::Bytes => &[],
    });
    // The server speaks first.
    let mut sender = 1;
    for turn in plan.turns {
        let turn = &turn[..turn.len().min(MAX_TURN_BYTES)];
        let segment_bytes = match cuts {
            Cuts::Whole => turn.len(),
            Cuts::Bytes => 1,
            Cuts::Scheduled(_) => match schedule.u8() {
                0 => turn.len(),
                bytes => bytes.into(),
            },
        };
        dialogue.turn(sender, turn, &mut schedule, segment_bytes.max(1));
        sender = 1 - sender;
    }
    dialogue.probe(plan.switches & TLS_RANGE != 0);
    let sent = dialogue
        .streams
        .each_ref()
        .map(|stream| stream.sent.clone());
    let received: [Vec<u8>; 2] = dialogue.streams.map(|stream| {
        let bytes = stream.received.into_iter();
        let got: Vec<u8> = bytes.map(|byte| byte.expect("complete")).collect();
        assert!(
            plan.switches & IGNORE == 0 || got == stream.sent,
            "changed, though nothing is refused"
        );
        got
    });
    Outcome {
        sent,
        received,
        opened: dialogue.opened,
        ranges: dialogue.ranges,
    }
}

impl Dialogue {
    /// A dialogue after its handshake.
    fn begin(switches: u8) -> Dialogue {
        let has = |bit| switches & bit != 0;
        let mut settings = Settings::default();
        settings.ftp.demand_login = !has(NO_LOGIN_NEEDED);
        settings.ftp.allow_active = !has(PASSIVE_ONLY);
        if has(IGNORE) {
            settings.ftp.refusal = Refusal::Ignore;
        }
        if has(TLS_RANGE) {
            let range = format!("{}-{}", TLS_PORTS.start(), TLS_PORTS.end());
            settings.ftp.tls_ports = Some(range.parse().expect("a range"));
            // So many that each port of it can be tried.
            settings.ftp.tls_connections = TLS_PORTS.len();
        }
        let (client, ends) = if has(CLIENT_OUTSIDE) {
            let ends = Ends::new(has(V6), CONTROL_PORT, CLIENT_PORT);
            (Side::Outside, ends)
        } else {
            let ends = Ends::new(has(V6), CLIENT_PORT, CONTROL_PORT);
            (Side::Inside, ends)
        };
        let stream = |side, first_seq| Stream {
            side,
            first_seq,
            sent: Vec::new(),
            received: Vec::new(),
            contiguous: 0,
            acked: 0,
        };
        let first = if has(WRAP) { u32::MAX - 50 } else { 1_000 };
        let mut dialogue = Dialogue {
            lab: Lab::new(settings),
            ends,
            streams: [
                stream(client, first),
                stream(client.other(), first.wrapping_sub(20)),
            ],
            opened: Vec::new(),
            open: None,
            ranges: 0,
            is_range_open: false,
        };
        let [c, s] = [0, 1].map(|i| dialogue.streams[i].first_seq);
        let syn = TcpFlags::SYN;
        for (sender, flags, seq, ack) in [
            (0, syn, c.wrapping_sub(1), 0),
            (1, syn | TcpFlags::ACK, s.wrapping_sub(1), c),
            (0, TcpFlags::ACK, c, s),
        ] {
            let segment = Tcp {
                seq,
                ack,
                flags,
                ..Tcp::new(ends, dialogue.streams[sender].side)
            };
            assert_eq!(dialogue.send(&segment).0, Verdict::Forward, "handshake");
        }
        dialogue
    }

    /// Sends a turn by the schedule, then in order what has not arrived.
    fn turn(&mut self, sender: usize, turn: &[u8], schedule: &mut Input<'_>, segment_bytes: usize) {
        let start = self.streams[sender].sent.len();
        let stream = &mut self.streams[sender];
        stream.sent.extend(turn);
        stream.received.resize(stream.sent.len(), None);
        if !turn.is_empty() {
            for _ in 0..schedule.u8() % (MAX_PIECES + 1) {
                let (at, len) = (schedule.u8(), schedule.u8());
                if at == ACKNOWLEDGE {
                    self.acknowledge(1 - sender);
                    continue;
                }
                let from = (start + usize::from(at) % (turn.len() + REACH_BACK))
                    .saturating_sub(REACH_BACK);
                let len = usize::from(1 + len % MAX_PIECE_BYTES);
                self.piece(sender, from, len);
            }
        }
        loop {
            let from = self.streams[sender].contiguous;
            if from == self.streams[sender].sent.len() {
                break;
            }
            self.piece(sender, from, segment_bytes);
            let now = self.streams[sender].contiguous;
            assert!(
                now > from,
                "byte {from} of stream {sender} can't get through: {:?}",
                self.lab.counts().drops().collect::<Vec<_>>()
            );
        }
        let counts = self.lab.counts();
        assert_eq!(counts.held.frames, 0, "held though nothing is missing");
        assert_eq!(
            counts.dropped_for(DropReason::HelperRewrite),
            0,
            "an honest retransmission was taken for a changed one"
        );
    }

    /// Sends a part of a stream again or for the first time.
    fn piece(&mut self, sender: usize, from: usize, len: usize) {
        let stream = &self.streams[sender];
        let end = from.saturating_add(len).min(stream.sent.len());
        let payload = stream.sent[from..end].to_vec();
        let segment = Tcp {
            seq: stream.seq(from),
            flags: TcpFlags::ACK | TcpFlags::PSH,
            payload,
            ..self.acknowledging(sender)
        };
        let (_, frames) = self.send(&segment);
        for frame in frames {
            self.receive(sender, &frame);
        }
    }

    /// Tells the peer how far its stream has come.
    fn acknowledge(&mut self, sender: usize) {
        let segment = self.acknowledging(sender);
        self.send(&segment);
    }

    fn acknowledging(&self, sender: usize) -> Tcp {
        let peer = &self.streams[1 - sender];
        let stream = &self.streams[sender];
        Tcp {
            seq: stream.seq(stream.contiguous),
            ack: peer.seq(peer.contiguous),
            ..Tcp::new(self.ends, stream.side)
        }
    }

    fn send(&mut self, segment: &Tcp) -> (Verdict, Vec<Vec<u8>>) {
        self.lab.now = self.lab.now + STEP;
        let side = segment.way.side;
        let passed = self.lab.pass(side, segment.frame(), &Meta::default());
        if passed.verdict == Verdict::Forward {
            let acks = usize::from(side == self.streams[0].side);
            let stream = &mut self.streams[acks];
            stream.acked = stream.contiguous;
        }
        self.listen();
        (passed.verdict, passed.frames)
    }

    /// Puts what arrives together, as TCP does.
    fn receive(&mut self, sender: usize, frame: &[u8]) {
        let packet = wire::parse(frame).expect("what leaves is a good frame");
        let ip = packet.ip.expect("IP");
        assert!(
            checksum::transport_is_right(frame, &ip),
            "what leaves has a wrong checksum"
        );
        let L4::Tcp(segment) = &ip.l4 else {
            panic!("no longer TCP")
        };
        let stream = &mut self.streams[sender];
        let offset = segment.seq.wrapping_sub(stream.first_seq) as usize;
        for (at, &byte) in (offset..).zip(&frame[ip.payload()]) {
            assert!(at < stream.sent.len(), "a byte that nobody sent");
            // A receiver does not look again at what it has acknowledged.
            if at < stream.acked {
                continue;
            }
            let had = stream.received[at].replace(byte);
            assert!(
                had.is_none_or(|had| had == byte),
                "byte {at} of stream {sender} arrived as two different ones"
            );
        }
        let missing = stream.received.iter().position(Option::is_none);
        stream.contiguous = missing.unwrap_or(stream.received.len());
    }

    /// Follows which port is open.
    fn listen(&mut self) {
        for event in self.lab.events() {
            match event.kind {
                EventKind::PortOpened(opened) => {
                    self.open = Some(opened.clone());
                    self.opened.push(opened);
                }
                EventKind::PortClosed { to, .. }
                    if self.open.as_ref().is_some_and(|open| open.to == to) =>
                {
                    self.open = None;
                }
                EventKind::RangeOpened { .. } => {
                    self.is_range_open = true;
                    self.ranges += 1;
                }
                EventKind::RangeClosed { .. } => self.is_range_open = false,
                _ => {}
            }
        }
        assert!(self.lab.shared.totals().expectations <= 1);
    }

    /// Nobody gets in but by the port that is open, and by that one they do. Nobody speaks for a
    /// host of the other side.
    fn probe(&mut self, has_range: bool) {
        let [client, server] = [0, 1].map(|end: usize| self.streams[end].side);
        for sender in 0..2 {
            let mut spoofed = self.acknowledging(sender);
            spoofed.way.side = spoofed.way.side.other();
            let side = spoofed.way.side;
            let passed = self.lab.pass(side, spoofed.frame(), &Meta::default());
            let expected = Verdict::Drop(DropReason::WrongSide);
            assert_eq!(passed.verdict, expected, "a spoofed segment");
        }
        let mut ports = vec![FIRST_DATA_PORT - 1, FIRST_DATA_PORT, 20, 5_000, u16::MAX];
        for opened in &self.opened {
            let port = opened.to.port();
            ports.extend([port - 1, port.wrapping_add(1), port]);
        }
        if has_range {
            let (first, last) = (*TLS_PORTS.start(), *TLS_PORTS.end());
            ports.extend([first - 1, first, last, last + 1]);
        }
        ports.retain(|&port| port != CONTROL_PORT);
        // A connection through the open port uses it up.
        let open = self.open.clone();
        ports.sort_by_key(|&port| {
            let is_open = open.as_ref().is_some_and(|open| open.to.port() == port);
            (is_open, port)
        });
        ports.dedup();
        let is_v6 = self.ends.from(Side::Inside).src.is_ipv6();
        for (index, &port) in ports.iter().enumerate() {
            for from in Side::BOTH {
                let source = PROBES_FROM + index as u16;
                let ends = match from {
                    Side::Inside => Ends::new(is_v6, source, port),
                    Side::Outside => Ends::new(is_v6, port, source),
                };
                let (src, dst): (IpAddr, IpAddr) = (host(from, is_v6), host(from.other(), is_v6));
                let is_announced = open.as_ref().is_some_and(|open| {
                    (open.from, open.to.ip(), open.to.port()) == (src, dst, port)
                });
                let is_in_range = self.is_range_open
                    && (from, from.other()) == (client, server)
                    && TLS_PORTS.contains(&port);
                let is_open = is_announced || is_in_range;
                let (verdict, _) = self.send(&Tcp::new(ends, from).syn());
                assert_eq!(
                    verdict == Verdict::Forward,
                    is_open,
                    "port {port} of {dst} for {src}"
                );
            }
        }
    }
}

impl Stream {
    fn seq(&self, at: usize) -> u32 {
        self.first_seq.wrapping_add(at as u32)
    }
}
