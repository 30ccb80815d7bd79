//! An engine between two hosts, with the promises that hold after every frame, and frames for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::engine::{Engine, Origin, Out, Settings, Shared, Verdict};
use lotus::observe::{Counters, Event, EventKind, Snapshot};
use lotus::rules::{PortNames, Ruleset};
use lotus::wire::{Meta, Side, TcpFlags, checksum, proto};

/// Nothing passes but FTP control connections, some UDP and ping, and what the helper opens.
const RULES: &str = r#"
table bridge fuzz {
  ct helper ftp { type "ftp" protocol tcp; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ct state invalid drop
    ct state established,related counter accept
    tcp dport 21 ct state new ct helper set "ftp" accept
    udp dport 53 accept
    icmp type echo-request accept
    icmpv6 type echo-request accept
    tcp dport 25 log prefix "mail " reject with tcp reset
    udp dport vmap { 54 : drop, 1000-1999 : jump answered }
  }
  chain answered {
    limit rate over 5/second burst 5 packets drop
    reject with icmpx type admin-prohibited
  }
}
"#;

/// Flows at once: few, so that the table gets full.
const MAX_FLOWS: usize = 32;
/// Bytes of waiting fragments: few, for the same reason.
const FRAGMENT_BYTES: usize = 8 * 1024;
/// What a control connection may hold, both directions together.
const HELD_SEGMENTS_OF_FLOW: u64 = 2 * 32;
const HELD_BYTES_OF_FLOW: u64 = 2 * 32 * 1024;
/// No fragment is shorter: Ethernet and IPv4 headers.
const MIN_FRAGMENT_BYTES: u64 = 34;
/// Longer than any timeout.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// The lowest port that may be opened.
pub const FIRST_DATA_PORT: u16 = 1024;

const INSIDE4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));
const OUTSIDE4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 20));
const INSIDE6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
const OUTSIDE6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20));

/// One engine, and everything around it.
pub struct Lab {
    pub shared: Arc<Shared>,
    engine: Engine,
    counters: Arc<Counters>,
    pub now: Time,
}

/// What became of a frame: the verdict, and what left at the other side, in order.
pub struct Passed {
    pub verdict: Verdict,
    pub frames: Vec<Vec<u8>>,
}

impl Lab {
    pub fn new(mut settings: Settings) -> Lab {
        settings.conntrack.max_flows = MAX_FLOWS;
        settings.conntrack.fragment_bytes = FRAGMENT_BYTES;
        let names = PortNames {
            inside: "in".into(),
            outside: "out".into(),
        };
        let rules = Ruleset::parse("lab.nft", RULES, &names).expect("the lab's rules are good");
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

    /// Sends a frame through, counts as a worker does, and checks what must hold.
    pub fn pass(&mut self, side: Side, mut frame: Vec<u8>, meta: &Meta) -> Passed {
        let mut out = Out::default();
        let bytes = frame.len();
        let verdict = self
            .engine
            .process(side, &mut frame, meta, self.now, &mut out);
        assert_eq!(frame.len(), bytes);
        let mut frames = Vec::new();
        if verdict == Verdict::Forward {
            self.counters.forwarded(side.other().index(), bytes);
            frames.push(frame);
        }
        for left in out.frames {
            let frame = left.frame.frame();
            match left.origin {
                Origin::Released => {
                    assert_ne!(left.to, came_in_at(frame), "sent back where it came from");
                    self.counters.unheld(frame.len());
                    self.counters.forwarded(left.to.index(), frame.len());
                    if left.to == side.other() {
                        frames.push(frame.to_vec());
                    }
                }
                // A reset or an ICMP error, whatever it was made from.
                Origin::Generated => {
                    assert!(is_right(frame), "made a frame that is wrong");
                    self.counters.generated(frame.len());
                }
            }
        }
        self.check();
        Passed { verdict, frames }
    }

    /// Time passes, and somebody notices.
    pub fn tick(&mut self, later: Duration) {
        self.now = self.now + later;
        self.shared
            .tick(self.now, self.shared.parts(), &self.counters);
        self.check();
    }

    /// When everybody has fallen silent, nothing is left.
    pub fn end(&mut self) {
        // A control connection waits for its data connections' end, and they may come first.
        for _ in 0..3 {
            self.tick(FOR_EVER);
        }
        let totals = self.shared.totals();
        assert_eq!(self.counts().held.frames, 0, "held for ever");
        assert_eq!(
            (totals.flows, totals.sessions, totals.expectations),
            (0, 0, 0),
            "flows, sessions, expectations left over"
        );
    }

    pub fn counts(&self) -> Snapshot {
        Snapshot::of([&*self.counters])
    }

    /// The events since the last call. No port is opened but a high one of one of the two ends,
    /// for the other.
    pub fn events(&self) -> Vec<Event> {
        let events: Vec<Event> = std::iter::from_fn(|| self.shared.events().pop())
            .map(|stamped| stamped.event)
            .collect();
        for event in &events {
            let _ = event.to_string();
            if let EventKind::PortOpened(opened) = &event.kind {
                assert!(opened.to.port() >= FIRST_DATA_PORT, "{event}");
                let is_pair = [(INSIDE4, OUTSIDE4), (INSIDE6, OUTSIDE6)]
                    .into_iter()
                    .flat_map(|(a, b)| [(a, b), (b, a)])
                    .any(|pair| pair == (opened.from, opened.to.ip()));
                assert!(is_pair, "{event}");
            }
        }
        events
    }

    fn check(&self) {
        let (counts, totals) = (self.counts(), self.shared.totals());
        assert_eq!(counts.unaccounted_frames(), 0, "the law of accounting");
        assert!(totals.flows <= MAX_FLOWS as u64, "too many flows");
        assert!(
            totals.expectations <= totals.sessions,
            "more than one expectation for a session"
        );
        let fragment_bytes = FRAGMENT_BYTES as u64;
        let held = counts.held;
        assert!(
            held.bytes <= totals.flows * HELD_BYTES_OF_FLOW + fragment_bytes,
            "{} bytes held",
            held.bytes
        );
        assert!(
            held.frames
                <= totals.flows * HELD_SEGMENTS_OF_FLOW + fragment_bytes / MIN_FRAGMENT_BYTES,
            "{} frames held",
            held.frames
        );
    }
}

/// Whether it parses, and its checksums hold.
fn is_right(frame: &[u8]) -> bool {
    let Ok(packet) = lotus::wire::parse(frame) else {
        return false;
    };
    let at = packet.ether.payload_offset;
    packet.ip.is_some_and(|ip| {
        let is_header_right = ip.src.is_ipv6()
            || checksum::ipv4_header_is_right(frame.get(at..ip.l4_offset).unwrap_or_default());
        is_header_right && checksum::transport_is_right(frame, &ip)
    })
}

/// The address of the host at a side.
pub fn host(side: Side, is_v6: bool) -> IpAddr {
    match (side, is_v6) {
        (Side::Inside, false) => INSIDE4,
        (Side::Outside, false) => OUTSIDE4,
        (Side::Inside, true) => INSIDE6,
        (Side::Outside, true) => OUTSIDE6,
    }
}

/// The two ends of a connection between the two hosts.
#[derive(Clone, Copy)]
pub struct Ends {
    inside: SocketAddr,
    outside: SocketAddr,
}

/// Who sends to whom.
#[derive(Clone, Copy)]
pub struct Way {
    pub side: Side,
    pub src: SocketAddr,
    pub dst: SocketAddr,
}

impl Ends {
    pub fn new(is_v6: bool, inside_port: u16, outside_port: u16) -> Ends {
        let end = |side, port| SocketAddr::new(host(side, is_v6), port);
        Ends {
            inside: end(Side::Inside, inside_port),
            outside: end(Side::Outside, outside_port),
        }
    }

    pub fn from(self, side: Side) -> Way {
        let (src, dst) = match side {
            Side::Inside => (self.inside, self.outside),
            Side::Outside => (self.outside, self.inside),
        };
        Way { side, src, dst }
    }
}

/// A TCP segment to be built.
pub struct Tcp {
    pub way: Way,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Tcp {
    pub fn new(ends: Ends, from: Side) -> Tcp {
        Tcp {
            way: ends.from(from),
            seq: 0,
            ack: 0,
            flags: TcpFlags::ACK,
            window: 60_000,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    pub fn syn(mut self) -> Tcp {
        self.flags = TcpFlags::SYN;
        self
    }

    /// Sequence space that it takes.
    pub fn seq_len(&self) -> u32 {
        let bit = |flag| u32::from(self.flags & flag != 0);
        self.payload.len() as u32 + bit(TcpFlags::SYN) + bit(TcpFlags::FIN)
    }

    pub fn frame(&self) -> Vec<u8> {
        let Way { side, src, dst } = self.way;
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let mut segment = Vec::new();
        segment.extend(src.port().to_be_bytes());
        segment.extend(dst.port().to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([(5 + options.len() as u8 / 4) << 4, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(options);
        segment.extend(&self.payload);
        put_sum(&mut segment, 16, src.ip(), dst.ip(), proto::TCP);
        ip(side, src.ip(), dst.ip(), proto::TCP, &segment)
    }
}

pub fn udp(way: Way, payload: &[u8]) -> Vec<u8> {
    let Way { side, src, dst } = way;
    let mut datagram = Vec::new();
    datagram.extend(src.port().to_be_bytes());
    datagram.extend(dst.port().to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    put_sum(&mut datagram, 6, src.ip(), dst.ip(), proto::UDP);
    ip(side, src.ip(), dst.ip(), proto::UDP, &datagram)
}

/// An ICMP or ICMPv6 message whose second word is given.
pub fn icmp(way: Way, kind: u8, code: u8, word: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let (src, dst) = (way.src.ip(), way.dst.ip());
    let mut message = vec![kind, code, 0, 0];
    message.extend(word);
    message.extend(rest);
    let protocol = if src.is_ipv4() {
        let sum = !checksum::fold(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        proto::ICMP
    } else {
        put_sum(&mut message, 2, src, dst, proto::ICMPV6);
        proto::ICMPV6
    };
    ip(way.side, src, dst, protocol, &message)
}

pub fn echo_request(way: Way, id: u8) -> Vec<u8> {
    let kind = if way.src.is_ipv4() { 8 } else { 128 };
    icmp(way, kind, 0, [0, id, 0, 1], b"ping")
}

/// "Port unreachable" about a frame.
pub fn unreachable(way: Way, about: &[u8]) -> Vec<u8> {
    let (kind, code) = if way.src.is_ipv4() { (3, 3) } else { (1, 4) };
    let quote = about.get(ETHERNET_BYTES..).unwrap_or_default();
    icmp(way, kind, code, [0; 4], &quote[..quote.len().min(128)])
}

/// One fragment of a frame: bytes of what follows its IP header.
pub fn fragment(whole: &[u8], id: u8, start: usize, len: usize) -> Vec<u8> {
    let is_v6 = whole[12] == 0x86;
    let header = ETHERNET_BYTES + if is_v6 { 40 } else { 20 };
    let data = whole.get(header..).unwrap_or_default();
    let start = (start * 8).min(data.len() & !7);
    let end = (start + len * 8).min(data.len());
    let more = end < data.len();
    let offset = start as u16;
    let mut frame = whole[..header].to_vec();
    if is_v6 {
        let next = std::mem::replace(&mut frame[20], 44);
        let [high, low] = (offset | u16::from(more)).to_be_bytes();
        frame.extend([next, 0, high, low, 0, 0, 0, id]);
        let length = (frame.len() - header + end - start) as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
    } else {
        let length = (20 + end - start) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[18..20].copy_from_slice(&[0, id]);
        let bits = (offset / 8) | if more { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&bits.to_be_bytes());
        put_ipv4_sum(&mut frame);
    }
    frame.extend(&data[start..end]);
    frame
}

const ETHERNET_BYTES: usize = 14;

pub fn ethernet(from: Side, ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xff, 2, 0, 0, 0, 0, mark(from)];
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// Makes a raw frame tell by its source address where it came in.
pub fn mark_side(frame: &mut [u8], side: Side) {
    if let Some(byte) = frame.get_mut(11) {
        *byte = mark(side);
    }
}

fn mark(side: Side) -> u8 {
    1 + side.index() as u8
}

fn came_in_at(frame: &[u8]) -> Side {
    let is_from = |side: &Side| frame.get(11) == Some(&mark(*side));
    Side::BOTH
        .into_iter()
        .find(is_from)
        .expect("all frames of the lab are marked")
}

fn ip(from: Side, src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame;
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame = ethernet(from, 0x0800);
            frame.extend([0x45, 0]);
            frame.extend((20 + payload.len() as u16).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
            put_ipv4_sum(&mut frame);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame = ethernet(from, 0x86dd);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        _ => unreachable!("both ends are of one family"),
    }
    frame.extend(payload);
    frame
}

fn put_ipv4_sum(frame: &mut [u8]) {
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

fn put_sum(bytes: &mut [u8], at: usize, src: IpAddr, dst: IpAddr, protocol: u8) {
    let pseudo = checksum::pseudo_header(src, dst, protocol, bytes.len());
    let sum = !checksum::fold(checksum::sum(bytes) + pseudo);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The fuzzer's bytes, read one after the other; zero when there are no more.
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// At most this many.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}
