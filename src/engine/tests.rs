//! The engine as a whole, packet by packet: a lab, and connections with hand-made segments.

mod conntrack;
mod ftp_audit;
mod ftp_bytes;
mod ftp_ports;
mod ftp_replies;
mod ftp_sessions;
mod ftp_settings;
mod refusal;
mod reject;
mod reload;
mod rules;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::conntrack::Time;
use crate::observe::{Counters, DropReason, Event, EventKind, Snapshot};
use crate::rules::{PortNames, Ruleset};
use crate::wire::testing::{self, Tcp};
use crate::wire::{Ip, L4, Meta, Packet, Side, TcpFlags, checksum};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN | TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;

/// Nothing passes but FTP to the server outside the rules' default, and what the helper opens.
const RULES: &str = r#"
table bridge test {
  ct helper ftp { type "ftp" protocol tcp; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ct state invalid drop
    ct state established,related accept
    tcp dport 21 ct state new ct helper set "ftp" accept
    udp dport 53 accept
    icmp type echo-request accept
  }
}
"#;

struct Lab {
    shared: Arc<Shared>,
    engine: Engine,
    counters: Arc<Counters>,
    now: Time,
}

fn parse(rules: &str) -> Ruleset {
    let names = PortNames {
        inside: "in".into(),
        outside: "out".into(),
    };
    Ruleset::parse("test.nft", rules, &names).expect("good rules")
}

/// What became of a frame: what left at the far side, in order.
#[derive(Debug)]
struct Passed {
    verdict: Verdict,
    frames: Vec<Vec<u8>>,
    /// What lotus made itself, and where it leaves.
    made: Vec<(Side, Vec<u8>)>,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(Settings::default())
    }

    /// With these settings, by name.
    fn set(settings: &[(&str, &str)]) -> Lab {
        let mut made = Settings::default();
        for (name, value) in settings {
            made.set(name, value).unwrap();
        }
        Lab::with(made)
    }

    fn with(settings: Settings) -> Lab {
        Lab::of(parse(RULES), settings)
    }

    fn of(rules: Ruleset, settings: Settings) -> Lab {
        let shared = Shared::new(rules, settings);
        let counters = Arc::new(Counters::default());
        let engine = Engine::new(Arc::clone(&shared), Arc::clone(&counters));
        Lab {
            shared,
            engine,
            counters,
            now: Time::from_nanos(1_000_000),
        }
    }

    /// Sends a frame through and checks the law.
    fn pass(&mut self, side: Side, mut frame: Vec<u8>) -> Passed {
        let mut out = Out::default();
        let meta = Meta::default();
        let verdict = self
            .engine
            .process(side, &mut frame, &meta, self.now, &mut out);
        let mut frames = Vec::new();
        if verdict == Verdict::Forward {
            self.counters.forwarded(side.other().index(), frame.len());
            frames.push(frame);
        }
        let mut made = Vec::new();
        for sent in out.frames {
            if sent.origin == Origin::Generated {
                made.push((sent.to, sent.frame.frame().to_vec()));
                continue;
            }
            assert_eq!(sent.to, side.other());
            let bytes = sent.frame.frame().len();
            self.counters.unheld(bytes);
            self.counters.forwarded(side.other().index(), bytes);
            frames.push(sent.frame.frame().to_vec());
        }
        for frame in frames.iter().chain(made.iter().map(|(_, frame)| frame)) {
            assert!(is_right(frame), "a frame with a wrong checksum left");
        }
        assert_eq!(self.counts().unaccounted_frames(), 0);
        Passed {
            verdict,
            frames,
            made,
        }
    }

    fn counts(&self) -> Snapshot {
        Snapshot::of([&*self.counters])
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counts().dropped_for(reason)
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn tick(&mut self) {
        self.shared
            .tick(self.now, self.shared.parts(), &self.counters);
        assert_eq!(self.counts().unaccounted_frames(), 0);
    }

    fn events(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.shared.events().pop())
            .map(|stamped| stamped.event)
            .collect()
    }

    fn told(&self) -> Vec<String> {
        let events = self.events();
        let told = events.iter().filter(|e| !e.kind.is_for_records_only());
        told.map(ToString::to_string).collect()
    }

    fn is_told(&self, words: &str) -> bool {
        self.told().iter().any(|line| line.contains(words))
    }
}

fn is_right(frame: &[u8]) -> bool {
    let packet = crate::wire::parse(frame).expect("a good frame");
    packet
        .ip
        .filter(|ip| ip.fragment.is_none() && ip.l4 != L4::Other)
        .is_none_or(|ip| checksum::transport_is_right(frame, &ip))
}

fn parsed(frame: &[u8]) -> (Packet, Ip) {
    let packet = crate::wire::parse(frame).expect("a good frame");
    let ip = packet.ip.clone().expect("IP");
    (packet, ip)
}

fn payload(frame: &[u8]) -> Vec<u8> {
    let (_, ip) = parsed(frame);
    frame[ip.payload()].to_vec()
}

impl Passed {
    fn is_forward(&self) -> bool {
        self.verdict == Verdict::Forward
    }

    /// All payloads that left, joined.
    fn bytes(&self) -> Vec<u8> {
        self.frames
            .iter()
            .flat_map(|frame| payload(frame))
            .collect()
    }
}

/// A TCP connection with hand-made segments.
#[derive(Clone)]
struct Wire {
    client: SocketAddr,
    server: SocketAddr,
    client_side: Side,
    /// Next sequence number of client and server.
    next: [u32; 2],
}

#[derive(Clone, Copy, PartialEq)]
enum Speaker {
    Client,
    Server,
}
use Speaker::{Client, Server};

impl Wire {
    fn new(client: &str, server: &str, client_side: Side) -> Wire {
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        Wire {
            client,
            server,
            client_side,
            next: [1000, u32::MAX - 20],
        }
    }

    fn segment(&self, from: Speaker, flags: u8, payload: &[u8]) -> Tcp {
        let [client, server] = self.next;
        let tcp = match from {
            Client => Tcp::new(self.client, self.server, flags, client, server),
            Server => Tcp::new(self.server, self.client, flags, server, client),
        };
        if payload.is_empty() {
            tcp
        } else {
            tcp.data(payload)
        }
    }

    fn side(&self, from: Speaker) -> Side {
        if from == Client {
            self.client_side
        } else {
            self.client_side.other()
        }
    }

    fn next(&mut self, from: Speaker) -> &mut u32 {
        &mut self.next[if from == Client { 0 } else { 1 }]
    }

    /// The first segment.
    fn syn(&self) -> Tcp {
        Tcp {
            ack: 0,
            ..self.segment(Client, SYN, b"")
        }
    }

    /// Passes the first segment.
    fn begin(&self, lab: &mut Lab) -> Passed {
        lab.pass(self.side(Client), self.syn().frame())
    }

    fn connect(&mut self, lab: &mut Lab) -> bool {
        if !self.begin(lab).is_forward() {
            return false;
        }
        *self.next(Client) += 1;
        let answer = self.segment(Server, SYN | ACK, b"");
        if !lab.pass(self.side(Server), answer.frame()).is_forward() {
            return false;
        }
        *self.next(Server) = self.next(Server).wrapping_add(1);
        lab.pass(self.side(Client), self.segment(Client, ACK, b"").frame())
            .is_forward()
    }

    /// Sends bytes in one segment; they count as sent only if they were not dropped.
    fn say(&mut self, lab: &mut Lab, from: Speaker, bytes: &[u8]) -> Passed {
        let passed = lab.pass(self.side(from), self.segment(from, 0, bytes).frame());
        if !matches!(passed.verdict, Verdict::Drop(_)) {
            *self.next(from) = self.next(from).wrapping_add(bytes.len() as u32);
        }
        passed
    }

    fn dialogue(&mut self, lab: &mut Lab, lines: &[(Speaker, &str)]) {
        for (from, line) in lines {
            let bytes = [line.as_bytes(), b"\r\n"].concat();
            let passed = self.say(lab, *from, &bytes);
            assert_eq!(passed.bytes(), bytes, "{line}: {:?}", passed.verdict);
        }
    }

    fn login(&mut self, lab: &mut Lab) {
        assert!(self.connect(lab));
        self.log_in(lab);
    }

    /// On a connection that is open.
    fn log_in(&mut self, lab: &mut Lab) {
        self.dialogue(
            lab,
            &[
                (Server, "220 ready"),
                (Client, "USER joe"),
                (Server, "331 password?"),
                (Client, "PASS secret"),
                (Server, "230-welcome"),
                (Server, " 227 (192,0,2,20,200,200)"),
                (Server, "230 done"),
            ],
        );
    }

    fn close(&mut self, lab: &mut Lab) {
        for from in [Client, Server] {
            let fin = self.segment(from, FIN, b"").frame();
            assert!(lab.pass(self.side(from), fin).is_forward());
            *self.next(from) = self.next(from).wrapping_add(1);
        }
        assert!(
            lab.pass(self.side(Client), self.segment(Client, ACK, b"").frame())
                .is_forward()
        );
    }
}

const V4: [&str; 2] = ["192.0.2.10", "192.0.2.20"];
const V6: [&str; 2] = ["2001:db8::10", "2001:db8::20"];

/// Opens port 50000 of V4's server.
const OPEN: &[(Speaker, &str)] = &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,80)")];

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(host: &str, port: u16) -> String {
    SocketAddr::new(host.parse::<IpAddr>().unwrap(), port).to_string()
}

fn control(hosts: [&str; 2], client_side: Side) -> Wire {
    Wire::new(&at(hosts[0], 40_000), &at(hosts[1], 21), client_side)
}

/// A session that is logged in, client outside.
fn session(lab: &mut Lab) -> Wire {
    let mut wire = control(V4, Side::Outside);
    wire.login(lab);
    wire
}

/// Whether a connection can be made.
fn connects(lab: &mut Lab, from: &str, to: &str, side: Side) -> bool {
    Wire::new(from, to, side).connect(lab)
}

/// The data connection of V4's client, which is outside, to a port of its server.
fn to_port(source: u16, port: u16) -> Wire {
    Wire::new(&at(V4[0], source), &at(V4[1], port), Side::Outside)
}

/// Passive mode: whether V4's client can connect to a port of its server.
fn reaches(lab: &mut Lab, source: u16, port: u16) -> bool {
    to_port(source, port).connect(lab)
}

/// Active mode: whether V4's server can connect to a port of its client.
fn calls_back(lab: &mut Lab, port: u16) -> bool {
    connects(lab, &at(V4[1], 20), &at(V4[0], port), Side::Inside)
}

/// Writes the checksum of an IPv4 header.
fn sum_header(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// The fragments of an IPv4 frame, with at most this many bytes of data each.
fn fragments(frame: &[u8], data_bytes: usize) -> Vec<Vec<u8>> {
    let (head, data) = frame.split_at(34);
    let chunks: Vec<_> = data.chunks(data_bytes).collect();
    let last = chunks.len() - 1;
    chunks
        .iter()
        .enumerate()
        .map(|(at, chunk)| {
            let mut piece = head.to_vec();
            let bits = (at * data_bytes / 8) as u16 | if at == last { 0 } else { 0x2000 };
            piece[16..18].copy_from_slice(&(20 + chunk.len() as u16).to_be_bytes());
            piece[20..22].copy_from_slice(&bits.to_be_bytes());
            sum_header(&mut piece);
            piece.extend_from_slice(chunk);
            piece
        })
        .collect()
}

/// The fragments of an IPv6 frame; the bits of each are its offset and whether more follow.
fn fragments_v6(frame: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (head, data) = frame.split_at(54);
    let ends = cuts.iter().copied().chain([data.len()]);
    let mut start = 0;
    ends.map(|end| {
        let mut piece = head.to_vec();
        let bits = start as u16 | u16::from(end != data.len());
        piece[18..20].copy_from_slice(&(8 + (end - start) as u16).to_be_bytes());
        let next = std::mem::replace(&mut piece[20], 44);
        piece.extend([next, 0]);
        piece.extend(bits.to_be_bytes());
        piece.extend([0, 0, 0, 9]);
        piece.extend(&data[start..end]);
        start = end;
        piece
    })
    .collect()
}
