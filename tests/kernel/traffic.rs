//! Sequences of packets: conversations that mostly go as they should, and what should not come.

mod oddities;
mod tcp;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use lotus::wire::{Side, proto};

use crate::bed::Arrangement;
use crate::frame::{ARP, Ip, Link, Segment, octets};
use crate::intended::Avoid;
use crate::rng::Rng;
use crate::values::{self, DSCPS, HOP_LIMITS, MACS, PORTS};
use tcp::Talk;

/// 802.1Q and 802.1ad tags.
const CUSTOMER_TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
/// Where datagrams are cut. The first fragment has room for a TCP header, also if something begins 8
/// bytes before its end.
const CUTS: [&[usize]; 4] = [&[32], &[40, 56], &[32, 40, 48], &[48]];
/// Conversations that go on at the same time.
const TALKS: usize = 6;

/// A packet of a sequence.
#[derive(Clone, Debug)]
pub struct Packet {
    pub side: Side,
    pub frame: Vec<u8>,
    /// What it is, for a person.
    pub words: String,
    /// The intended difference that it may show.
    pub defect: Option<&'static str>,
    /// It is a part of a datagram: it may come out as other parts.
    pub is_fragment: bool,
}

/// The two ends of a conversation.
#[derive(Clone, Debug)]
struct Ends {
    inside: SocketAddr,
    outside: SocketAddr,
    /// Where it began.
    from: Side,
    tags: Vec<(u16, u16)>,
    macs: [usize; 2],
}

enum Conversation {
    Tcp(Ends, Talk),
    Udp(Ends),
    Echo(Ends, u16),
    Other(Ends, u8),
}

struct Traffic<'r> {
    rng: &'r mut Rng,
    arrangement: Arrangement,
    avoid: Avoid,
    packets: Vec<Packet>,
    talks: Vec<Conversation>,
    /// Pairs of ends so far: addresses, ports.
    used: HashSet<(IpAddr, IpAddr, [u16; 2])>,
    /// Source ports and identifiers that nothing else has.
    fresh: u16,
}

/// Draws a sequence of so many packets.
pub fn packets(rng: &mut Rng, arrangement: Arrangement, avoid: Avoid, count: usize) -> Vec<Packet> {
    let mut traffic = Traffic {
        rng,
        arrangement,
        avoid,
        packets: Vec::new(),
        talks: Vec::new(),
        used: HashSet::new(),
        fresh: 10_000,
    };
    while traffic.packets.len() < count {
        traffic.step();
    }
    traffic.packets.truncate(count);
    traffic.packets
}

impl Ends {
    fn of(&self, side: Side) -> SocketAddr {
        match side {
            Side::Inside => self.inside,
            Side::Outside => self.outside,
        }
    }

    /// From this side to the other one.
    fn link(&self, side: Side) -> Link {
        let [inside, outside] = self.macs.map(|number| MACS[number]);
        let (src, dst) = match side {
            Side::Inside => (inside, outside),
            Side::Outside => (outside, inside),
        };
        Link {
            src,
            dst,
            tags: self.tags.clone(),
        }
    }
}

impl Traffic<'_> {
    fn step(&mut self) {
        match self.rng.below(100) {
            0..=4 => self.oddity(),
            5..=9 => self.neighbours(),
            10..=13 => self.icmp_error(),
            14..=18 if !self.avoid.fragments => self.fragments(),
            19..=35 => self.begin(),
            _ if self.talks.is_empty() => self.begin(),
            _ => {
                let at = self.rng.below(self.talks.len() as u64) as usize;
                self.go_on(at);
            }
        }
    }

    fn begin(&mut self) {
        let ends = self.ends();
        let talk = match self.rng.below(10) {
            0..=4 => Conversation::Tcp(ends, Talk::new(self.rng)),
            5..=7 => Conversation::Udp(ends),
            8 => Conversation::Echo(ends, self.rng.below(3) as u16),
            _ => {
                // The kernel tracks SCTP and GRE by what is in them, lotus by their number.
                let protocols: &[u8] = match self.arrangement {
                    Arrangement::Bridge => &[132, 47, 89, 2],
                    Arrangement::BridgeAndIp => &[89, 2],
                };
                Conversation::Other(ends, *self.rng.pick(protocols))
            }
        };
        if self.talks.len() >= TALKS {
            let at = self.rng.below(TALKS as u64) as usize;
            self.talks.swap_remove(at);
        }
        self.talks.push(talk);
        self.go_on(self.talks.len() - 1);
    }

    /// Two ends that had nothing to do with each other.
    fn ends(&mut self) -> Ends {
        let is_v6 = self.rng.percent(40);
        let macs = [self.rng.below(3) as usize, 3 + self.rng.below(3) as usize];
        let tags = self.tags();
        loop {
            let host = |side: bool, rng: &mut Rng| *rng.pick(&values::hosts(is_v6, side));
            let (inside, outside) = (host(true, self.rng), host(false, self.rng));
            let ports = [*self.rng.pick(&PORTS), *self.rng.pick(&PORTS)];
            if self.used.insert((inside, outside, ports)) {
                return Ends {
                    inside: (inside, ports[0]).into(),
                    outside: (outside, ports[1]).into(),
                    from: *self.rng.pick(&Side::BOTH),
                    tags,
                    macs,
                };
            }
        }
    }

    fn tags(&mut self) -> Vec<(u16, u16)> {
        if self.avoid.tags || !self.rng.percent(25) {
            return Vec::new();
        }
        let control = *self.rng.pick(&[0, 5, 6, 0x6005]);
        match self.arrangement {
            Arrangement::Bridge if self.rng.percent(20) => vec![(SERVICE_TAG, control)],
            _ => vec![(CUSTOMER_TAG, control)],
        }
    }

    fn go_on(&mut self, at: usize) {
        let side_of = |ends: &Ends, rng: &mut Rng| match rng.percent(60) {
            true => ends.from,
            false => ends.from.other(),
        };
        match &mut self.talks[at] {
            Conversation::Tcp(ends, talk) => {
                let step = talk.step(self.rng);
                let ends = ends.clone();
                let side = if step.forth {
                    ends.from
                } else {
                    ends.from.other()
                };
                let segment = Segment {
                    from: ends.of(side),
                    to: ends.of(side.other()),
                    ..step.segment
                };
                self.tcp(&ends, side, &segment, step.words);
                self.mark(step.defect);
                if step.is_last {
                    self.talks.swap_remove(at);
                }
            }
            Conversation::Udp(ends) => {
                let ends = ends.clone();
                let side = side_of(&ends, self.rng);
                self.udp(&ends, side);
            }
            Conversation::Echo(ends, id) => {
                let (ends, id) = (ends.clone(), *id);
                let side = side_of(&ends, self.rng);
                let is_answer = (side != ends.from) != self.rng.percent(5);
                self.echo(&ends, side, is_answer, id);
            }
            Conversation::Other(ends, protocol) => {
                let (ends, protocol) = (ends.clone(), *protocol);
                let side = side_of(&ends, self.rng);
                let ip = self.header(&ends, side, protocol);
                let mut payload =
                    crate::frame::ports(ends.of(side).port(), ends.of(side.other()).port());
                payload.extend([0; 12]);
                self.ip(&ends, side, &ip, &payload, format!("protocol {protocol}"));
            }
        }
    }

    fn tcp(&mut self, ends: &Ends, side: Side, segment: &Segment, words: &str) {
        let ip = self.header(ends, side, proto::TCP);
        let words = format!(
            "{words}: {} > {} flags {:#x} seq {} ack {} window {} options {:x?} {} bytes",
            segment.from,
            segment.to,
            segment.flags,
            segment.seq,
            segment.ack,
            segment.window,
            segment.options,
            segment.payload.len()
        );
        self.ip(ends, side, &ip, &segment.bytes(&ip), words);
    }

    fn udp(&mut self, ends: &Ends, side: Side) {
        let ip = self.header(ends, side, proto::UDP);
        let payload = vec![0x55; self.rng.below(40) as usize];
        let l4 = ip.udp(ends.of(side).port(), ends.of(side.other()).port(), &payload);
        let words = format!("UDP {} > {}", ends.of(side), ends.of(side.other()));
        self.ip(ends, side, &ip, &l4, words);
    }

    fn echo(&mut self, ends: &Ends, side: Side, is_answer: bool, id: u16) {
        let is_v6 = ends.inside.is_ipv6();
        let protocol = if is_v6 { proto::ICMPV6 } else { proto::ICMP };
        let ip = self.header(ends, side, protocol);
        let kind = match (is_v6, is_answer) {
            (false, false) => 8,
            (false, true) => 0,
            (true, false) => 128,
            (true, true) => 129,
        };
        let [high, low] = id.to_be_bytes();
        let l4 = ip.icmp(kind, 0, [high, low, 0, 1], b"ping");
        let what = if is_answer { "answer" } else { "request" };
        self.ip(
            ends,
            side,
            &ip,
            &l4,
            format!("echo {what} {id}, {} > {}", ip.src, ip.dst),
        );
    }

    /// A header with fields that vary.
    fn header(&mut self, ends: &Ends, side: Side, protocol: u8) -> Ip {
        let mut ip = Ip::new(ends.of(side).ip(), ends.of(side.other()).ip(), protocol);
        if self.rng.percent(30) {
            ip.hop_limit = *self.rng.pick(&HOP_LIMITS);
        }
        if self.rng.percent(30) {
            ip.traffic_class = self.rng.pick(&DSCPS) << 2 | self.rng.below(4) as u8;
        }
        ip.id = self.fresh();
        match ip.src {
            IpAddr::V4(_) if self.rng.percent(4) => ip.options = vec![1; 4],
            IpAddr::V6(_) if !self.avoid.extensions && self.rng.percent(8) => {
                // Hop by hop or destination options, with nothing but padding.
                let kind = *self.rng.pick(&[0, 60]);
                ip.extensions.push((kind, vec![0, 1, 4, 0, 0, 0, 0]));
            }
            _ => {}
        }
        ip
    }

    fn ip(&mut self, ends: &Ends, side: Side, ip: &Ip, l4: &[u8], words: String) {
        let mut frame = ends.link(side).ip(ip, l4);
        if self.rng.percent(5) {
            frame.extend([0; 10]); // padding
        }
        let mut about = Vec::new();
        if ip.hop_limit != 64 {
            about.push(format!("ttl {}", ip.hop_limit));
        }
        if ip.traffic_class != 0 {
            about.push(format!("tos {:#x}", ip.traffic_class));
        }
        if !ip.options.is_empty() || !ip.extensions.is_empty() {
            about.push("options".to_owned());
        }
        if let Some((kind, control)) = ends.tags.first() {
            about.push(format!("tag {kind:x} {control:x}"));
        }
        let words = format!("{words} {}", about.join(", "));
        self.push(side, frame, words.trim_end().to_owned());
    }

    fn push(&mut self, side: Side, frame: Vec<u8>, words: String) {
        self.packets.push(Packet {
            side,
            frame,
            words,
            defect: None,
            is_fragment: false,
        });
    }

    /// The newest packet may show an intended difference.
    fn mark(&mut self, defect: Option<&'static str>) {
        if let Some(packet) = self.packets.last_mut() {
            packet.defect = defect;
        }
    }

    fn fresh(&mut self) -> u16 {
        self.fresh += 1;
        self.fresh
    }

    /// What hosts say so that they find each other: never tracked.
    fn neighbours(&mut self) {
        let ends = self.ends();
        let side = ends.from;
        let (from, to) = (ends.of(side).ip(), ends.of(side.other()).ip());
        if from.is_ipv6() {
            let mut ip = Ip::new(from, to, proto::ICMPV6);
            ip.hop_limit = 255;
            let kind = *self.rng.pick(&[135, 136, 133, 134]);
            let l4 = match kind {
                133 => ip.icmp(kind, 0, [0; 4], &[]),
                134 => ip.icmp(kind, 0, [64, 0, 0, 0], &[0; 8]),
                _ => ip.icmp(kind, 0, [0; 4], &octets(to)),
            };
            return self.ip(
                &ends,
                side,
                &ip,
                &l4,
                format!("ICMPv6 type {kind}, {from} > {to}"),
            );
        }
        let mut link = ends.link(side);
        if self.rng.percent(50) {
            link.dst = [0xff; 6];
        }
        if self.rng.percent(25) {
            let ethertype = *self.rng.pick(&[0x88cc, 0x9000, 0x22f0, 0x0026]);
            let frame = link.frame(ethertype, &[0x42; 46]);
            return self.push(
                side,
                frame,
                format!("Ethernet type {ethertype:#06x}, tags {:x?}", link.tags),
            );
        }
        let operation = *self.rng.pick(&[1, 2, 8]);
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
        arp.extend(link.src);
        arp.extend(octets(from));
        arp.extend(if operation == 1 {
            [0; 6]
        } else {
            MACS[ends.macs[side.other().index()]]
        });
        arp.extend(octets(to));
        let frame = link.frame(ARP, &arp);
        self.push(
            side,
            frame,
            format!(
                "ARP operation {operation}, {from} asks {to}, tags {:x?}",
                link.tags
            ),
        );
    }

    /// A datagram in fragments, mostly all of them.
    fn fragments(&mut self) {
        let ends = self.ends();
        let side = *self.rng.pick(&Side::BOTH);
        let mut ip = self.header(&ends, side, proto::UDP);
        (ip.options, ip.extensions) = (Vec::new(), Vec::new());
        let is_echo = self.rng.percent(30);
        let data = vec![0x33; 60 + self.rng.below(60) as usize];
        let l4 = if is_echo {
            ip.protocol = if ip.src.is_ipv6() {
                proto::ICMPV6
            } else {
                proto::ICMP
            };
            let kind = if ip.src.is_ipv6() { 128 } else { 8 };
            ip.icmp(kind, 0, [0, 1, 0, 1], &data)
        } else {
            ip.udp(ends.of(side).port(), ends.of(side.other()).port(), &data)
        };
        let cuts = *self.rng.pick(&CUTS);
        let mut frames = ends.link(side).fragments(&ip, &l4, cuts);
        let whole = frames.len();
        let mut note = "";
        match self.rng.below(10) {
            0 => {
                frames.pop();
                note = ", the last one missing";
            }
            1 => {
                frames.remove(0);
                note = ", the first one missing";
            }
            2 => {
                frames.reverse();
                note = ", backwards";
            }
            3 => {
                frames.insert(0, frames[0].clone());
                note = ", the first one twice";
            }
            4 => {
                // From 8 bytes before the second one's place on.
                let overlapping = ends
                    .link(side)
                    .ip_fragment(&ip, &l4, cuts[0] - 8, cuts[0] + 8);
                frames.insert(1, overlapping);
                note = ", overlapping";
            }
            _ => {}
        }
        let what = if is_echo { "echo request" } else { "UDP" };
        let words = format!(
            "fragment of {what} {} > {} id {} in {whole}{note}",
            ends.of(side),
            ends.of(side.other()),
            ip.id
        );
        for frame in frames {
            self.push(side, frame, words.clone());
            if let Some(packet) = self.packets.last_mut() {
                packet.is_fragment = true;
            }
        }
    }
}
