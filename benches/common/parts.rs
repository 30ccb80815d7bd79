//! The engine's parts one by one. Each does [`OPERATIONS`] of its operations in one go.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use lotus::conntrack::{
    CtState, Direction, Expectations, Flow, FlowKey, Settings, Table, Tcp, Time, Tuple,
};
use lotus::engine::Kept;
use lotus::helper::ftp::{self, Context, Released, Sessions, SharedSession, Step};
use lotus::observe::EventQueue;
use lotus::rules::{Query, Ruleset};
use lotus::wire::{self, L4, Meta, NO_VLAN, Packet, Side, TcpFlags, TcpSegment};

use super::frame::{Segment, udp};
use super::lab::ruleset;
use super::traffic::{
    CLIENT_ISN, Dialogue, FTP, From, LOGIN, OPEN, Protocol, SERVER, SERVER_ISN, SHUT, Template,
    client, handshake,
};

/// Enough that what random keys of the hash change does not show.
pub const OPERATIONS: u32 = 1024;

pub trait Part {
    fn run(&mut self);
}

fn segment_bytes(from: From, port: u16, flags: u8, payload: &[u8], flow: u32) -> Vec<u8> {
    let template = Template::tcp(from, port, flags, payload);
    written(&template, flow, CLIENT_ISN, 0)
}

fn written(template: &Template, flow: u32, seq: u32, ack: u32) -> Vec<u8> {
    let mut frame = vec![0; 256];
    let length = template.write(&mut frame, flow, seq, ack);
    frame.truncate(length);
    frame
}

fn packet(frame: &[u8]) -> Packet {
    wire::parse(frame).expect("a good frame")
}

/// First packets of flows.
fn beginnings(protocol: Protocol, port: u16) -> Vec<Packet> {
    let template = match protocol {
        Protocol::Udp => Template::udp(From::Client, port),
        Protocol::Tcp => Template::tcp(From::Client, port, TcpFlags::SYN, &[]),
    };
    (0..OPERATIONS)
        .map(|flow| packet(&written(&template, flow, CLIENT_ISN, 0)))
        .collect()
}

/// [`wire::parse`].
pub struct Parse(Vec<u8>);

impl Parse {
    pub fn udp() -> Parse {
        Parse(written(&Template::udp(From::Client, OPEN), 0, 0, 0))
    }

    /// With timestamps.
    pub fn tcp() -> Parse {
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        Parse(segment_bytes(From::Client, OPEN, flags, b"data", 0))
    }

    pub fn ipv6() -> Parse {
        let end = |address: &str, port| SocketAddr::new(address.parse().expect("an address"), port);
        let (from, to) = (end("2001:db8::10", 40_000), end("2001:db8::20", OPEN));
        Parse(udp(from, to, &[0x55; 18]))
    }

    pub fn vlan() -> Parse {
        let (from, to) = (
            SocketAddr::from(client(0)),
            SocketAddr::from((SERVER, OPEN)),
        );
        let segment = Segment::new(from, to, TcpFlags::ACK, 1, 1);
        Parse(segment.tagged(&[7]).frame())
    }
}

impl Part for Parse {
    fn run(&mut self) {
        for _ in 0..OPERATIONS {
            let packet = wire::parse(black_box(&self.0));
            black_box(&packet).as_ref().expect("a good frame");
        }
    }
}

/// Packet to key: [`Tuple::of`] and [`FlowKey::new`].
pub struct Keys {
    packets: Vec<Packet>,
    hasher: ahash::RandomState,
}

impl Keys {
    pub fn ipv4() -> Keys {
        Keys::of(beginnings(Protocol::Udp, OPEN))
    }

    pub fn ipv6() -> Keys {
        Keys::of(vec![packet(&Parse::ipv6().0); OPERATIONS as usize])
    }

    fn of(packets: Vec<Packet>) -> Keys {
        let hasher = ahash::RandomState::new();
        Keys { packets, hasher }
    }
}

impl Part for Keys {
    fn run(&mut self) {
        for packet in &self.packets {
            let tuple = Tuple::of(black_box(packet)).expect("UDP has ports");
            black_box(FlowKey::new(&tuple, &self.hasher));
        }
    }
}

/// The flow table, without the engine around it.
pub struct Flows {
    table: Table<Kept>,
    flows: Vec<(FlowKey, Flow<Kept>)>,
    job: Job,
}

#[derive(Clone, Copy)]
enum Job {
    LookUp,
    Insert,
    Remove,
    Sweep,
}

const NOW: Time = Time::from_nanos(1);

impl Flows {
    /// Finds each flow.
    pub fn look_up() -> Flows {
        Flows::with_all(Job::LookUp)
    }

    /// Puts each flow into a table that had them all before.
    pub fn insert() -> Flows {
        let mut flows = Flows::with_all(Job::Remove);
        flows.run();
        flows.job = Job::Insert;
        flows
    }

    /// Takes each flow out.
    pub fn remove() -> Flows {
        Flows::with_all(Job::Remove)
    }

    /// Looks at each flow, whether its time is over; it is not.
    pub fn sweep() -> Flows {
        Flows::with_all(Job::Sweep)
    }

    fn with_all(job: Job) -> Flows {
        let settings = Settings {
            max_flows: OPERATIONS as usize * 2,
            ..Settings::default()
        };
        let table = Table::new(&settings);
        let flow = |packet: &Packet| {
            let tuple = Tuple::of(packet).expect("UDP has ports");
            let (key, from_low) = table.key(&tuple);
            let ip = packet.ip.as_ref().expect("UDP is over IP");
            let flow = Flow::begin(ip, Side::Outside, from_low, &settings, NOW, false);
            (key, flow.expect("UDP begins flows"))
        };
        let flows = beginnings(Protocol::Udp, OPEN).iter().map(flow).collect();
        let flows = Flows { table, flows, job };
        flows.insert_all();
        flows
    }

    fn look_up_all(&self) {
        for (key, _) in &self.flows {
            let expires = self.table.with(black_box(key), |flow| flow.expires);
            black_box(expires).expect("it is there");
        }
    }

    fn insert_all(&self) {
        let mut removed = Vec::new();
        for (key, flow) in &self.flows {
            let inserted = self.table.insert(*key, *flow, NOW, &mut removed);
            inserted.expect("there is room");
        }
    }

    fn remove_all(&self) {
        for (key, _) in &self.flows {
            black_box(self.table.remove(black_box(key))).expect("it is there");
        }
    }

    fn sweep_all(&self) {
        let mut expired = Vec::new();
        for part in 0..self.table.parts() {
            self.table.expired_in(part, NOW, &mut expired);
        }
        assert!(expired.is_empty(), "their time is not over");
    }
}

impl Part for Flows {
    fn run(&mut self) {
        match self.job {
            Job::LookUp => self.look_up_all(),
            Job::Insert => self.insert_all(),
            Job::Remove => self.remove_all(),
            Job::Sweep => self.sweep_all(),
        }
    }
}

/// [`Tcp::update`]: data and acknowledgments by turns.
pub struct Tracker {
    tcp: Tcp,
    segments: Vec<(Direction, TcpSegment)>,
}

impl Tracker {
    pub fn new() -> Tracker {
        const DATA_BYTES: u32 = 4;
        let segment = |template: &Template, seq, ack| match packet(&written(template, 0, seq, ack))
            .ip
            .map(|ip| ip.l4)
        {
            Some(L4::Tcp(segment)) => segment,
            _ => unreachable!("it is TCP"),
        };
        let [syn, syn_ack] =
            handshake(OPEN).map(|(template, seq, ack)| segment(&template, seq, ack));
        let mut tcp = Tcp::begin(&syn).expect("a SYN");
        tcp.update(Direction::Reply, &syn_ack);
        let data = Template::tcp(
            From::Client,
            OPEN,
            TcpFlags::ACK,
            &[0x55; DATA_BYTES as usize],
        );
        let acknowledgment = Template::tcp(From::Server, OPEN, TcpFlags::ACK, &[]);
        let segments = (0..OPERATIONS).map(|number| {
            let said = CLIENT_ISN + 1 + number / 2 * DATA_BYTES;
            let heard = SERVER_ISN + 1;
            match number % 2 {
                0 => (Direction::Original, segment(&data, said, heard)),
                _ => {
                    let acknowledged = segment(&acknowledgment, heard, said + DATA_BYTES);
                    (Direction::Reply, acknowledged)
                }
            }
        });
        Tracker {
            segments: segments.collect(),
            tcp,
        }
    }
}

impl Part for Tracker {
    fn run(&mut self) {
        for (direction, segment) in &self.segments {
            black_box(self.tcp.update(*direction, black_box(segment)));
        }
    }
}

/// [`Ruleset::evaluate`] for first packets.
pub struct Rules {
    ruleset: Ruleset,
    frame: Vec<u8>,
    packet: Packet,
}

impl Rules {
    /// The last rule accepts it.
    pub fn accepting() -> Rules {
        Rules::about(OPEN)
    }

    /// No rule accepts it.
    pub fn dropping() -> Rules {
        Rules::about(SHUT)
    }

    fn about(port: u16) -> Rules {
        let frame = segment_bytes(From::Client, port, TcpFlags::SYN, &[], 0);
        Rules {
            ruleset: ruleset(),
            packet: packet(&frame),
            frame,
        }
    }
}

impl Part for Rules {
    fn run(&mut self) {
        let query = Query {
            packet: &self.packet,
            frame: &self.frame,
            side: Side::Outside,
            state: CtState::New,
            direction: Direction::Original,
            is_expected: false,
            now: Time::default(),
        };
        for _ in 0..OPERATIONS {
            black_box(self.ruleset.evaluate(black_box(&query)));
        }
    }
}

/// What the FTP helper does with one line: each of many sessions gets a segment with it.
pub struct Lines {
    sessions: Vec<SharedSession>,
    expectations: Expectations,
    events: EventQueue,
    held_bytes: AtomicUsize,
    /// All sessions say the same.
    dialogue: Dialogue,
    /// The next segments, a session each.
    next: Vec<(Vec<u8>, Packet)>,
    direction: Direction,
}

impl Lines {
    pub fn command() -> Lines {
        Lines::before(From::Client, b"RETR some/directory/file.bin\r\n")
    }

    pub fn reply() -> Lines {
        let mut lines = Lines::before(From::Client, b"NOOP\r\n");
        lines.run();
        lines.prepare(From::Server, b"200 nothing was done\r\n");
        lines
    }

    fn before(from: From, line: &[u8]) -> Lines {
        let mut lines = Lines::new();
        for (from, line) in LOGIN {
            lines.prepare(from, line);
            lines.run();
        }
        lines.prepare(from, line);
        lines
    }

    fn new() -> Lines {
        let (expectations, events) = (Expectations::default(), EventQueue::new(1024));
        let held_bytes = AtomicUsize::new(0);
        let cx = Context {
            expectations: &expectations,
            events: &events,
            held_bytes: &held_bytes,
            now: NOW,
        };
        let (all, settings) = (Sessions::default(), Arc::new(ftp::Settings::default()));
        let begin = |number: u32| {
            let control = ftp::Control {
                client: client(number).into(),
                server: (SERVER, FTP).into(),
                client_side: Side::Outside,
                vlan: [NO_VLAN; 2],
            };
            let shared = all.begin(u64::from(number), control, &settings, &cx);
            let mut session = ftp::lock(&shared);
            session.syn(Direction::Original, CLIENT_ISN);
            session.syn(Direction::Reply, SERVER_ISN);
            drop(session);
            shared
        };
        Lines {
            sessions: (0..OPERATIONS).map(begin).collect(),
            expectations,
            events,
            held_bytes,
            dialogue: Dialogue::default(),
            next: Vec::new(),
            direction: Direction::Original,
        }
    }

    fn prepare(&mut self, from: From, line: &[u8]) {
        self.direction = match from {
            From::Client => Direction::Original,
            From::Server => Direction::Reply,
        };
        let line = self.dialogue.say(from, line);
        let segment = |flow| {
            let mut frame = vec![0; 256];
            let length = line.write(&mut frame, flow);
            frame.truncate(length);
            let packet = packet(&frame);
            (frame, packet)
        };
        self.next = (0..OPERATIONS).map(segment).collect();
    }
}

impl Part for Lines {
    fn run(&mut self) {
        let cx = Context {
            expectations: &self.expectations,
            events: &self.events,
            held_bytes: &self.held_bytes,
            now: NOW + Duration::from_secs(1),
        };
        let meta = Meta::default();
        let mut released = Released::default();
        for (session, (frame, packet)) in self.sessions.iter().zip(&mut self.next) {
            let ip = packet.ip.as_ref().expect("it is IP");
            let step = ftp::lock(session).segment(
                self.direction,
                frame,
                ip,
                &meta,
                true,
                &mut released,
                &cx,
            );
            assert_eq!(step, Step::Forward);
        }
    }
}
