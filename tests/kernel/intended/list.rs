//! The list, and what its examples are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lotus::observe::DropReason;
use lotus::wire::{Side, TcpFlags, proto};

use super::{Example, Intended, Kind};
use crate::bed::Arrangement;
use crate::frame::{Ip, Link, Segment};
use crate::values::{INSIDE_V4, INSIDE_V6, MACS, OUTSIDE_V4, OUTSIDE_V6};

pub const IP_CHECKSUM: &str = "a wrong IPv4 header checksum";
pub const CHECKSUM: &str = "a wrong checksum of a SYN, FIN or RST";
pub const TCP_FLAGS: &str = "TCP flags that no TCP sends";
pub const TCP_HEADER: &str = "a TCP port 0";
pub const UDP_HEADER: &str = "a UDP length beyond the datagram";
pub const ICMP_HEADER: &str = "a cut ICMP header";
pub const SOURCE_ROUTE: &str = "an IPv4 source route";
pub const WRONG_SIDE: &str = "a flow's packet from the wrong side";
pub const NOT_IN_FLIGHT: &str = "an ICMP error about a segment that is not in flight";
pub const OLD_SEGMENT: &str = "a segment or an acknowledgment from long ago";
pub const INEXACT_RST: &str = "a RST that may be forged";
pub const EARLY_DATA: &str = "data of a server that has not answered the SYN";

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN;
const RST: u8 = TcpFlags::RST;

/// A flow's packets pass if it began in order.
const TRACKED: &str = "ct state new,established accept";
/// Everything passes but packets of a flow that is there already, from another machine.
const BEGINS_ANEW: &str = "ether saddr 02:00:00:00:01:11 ct state established drop\n  accept";

pub const LIST: &[Intended] = &[
    Intended {
        name: IP_CHECKSUM,
        why: "the receiver would drop it, a router too; a bridge does not look",
        kind: Kind::Drops(DropReason::IpChecksumBad),
        example: one_that_only_the_kernel_takes(|| vec![spoiled(syn(), 24)]),
    },
    Intended {
        name: CHECKSUM,
        why: "it would move the flow's state, and the receiver never takes it",
        kind: Kind::Drops(DropReason::ChecksumBad),
        example: one_that_only_the_kernel_takes(|| vec![spoiled(syn(), 50)]),
    },
    Intended {
        name: TCP_FLAGS,
        why: "only scans and evasions send them, and receivers differ in what they make of them",
        kind: Kind::Drops(DropReason::TcpFlagsBad),
        example: one_that_only_the_kernel_takes(|| vec![forth(SYN | FIN, 1000, 0)]),
    },
    Intended {
        name: TCP_HEADER,
        why: "port 0 is reserved; no flow can have it",
        kind: Kind::Drops(DropReason::TcpHeaderBad),
        example: one_that_only_the_kernel_takes(|| {
            let ip = v4(proto::TCP);
            alone(&ip, &segment(&ip, (0, 80), SYN, (1000, 0)).bytes(&ip))
        }),
    },
    Intended {
        name: UDP_HEADER,
        why: "what it is about lies outside the packet",
        kind: Kind::Drops(DropReason::UdpHeaderBad),
        example: one_that_only_the_kernel_takes(|| {
            let mut l4 = question(b"abcd");
            l4[5] = 200;
            alone(&v4(proto::UDP), &l4)
        }),
    },
    Intended {
        name: ICMP_HEADER,
        why: "no message is so short",
        kind: Kind::Drops(DropReason::IcmpHeaderBad),
        example: one_that_only_the_kernel_takes(|| alone(&v4(proto::ICMP), &[8, 0, 0, 0])),
    },
    Intended {
        name: SOURCE_ROUTE,
        why: "a source route goes around the rules about destinations (RFC 7126 section 4.3)",
        kind: Kind::Drops(DropReason::IpSourceRoute),
        example: one_that_only_the_kernel_takes(|| {
            let mut ip = v4(proto::UDP);
            ip.options = vec![131, 3, 4, 0];
            alone(&ip, &question(b"abcd"))
        }),
    },
    Intended {
        name: WRONG_SIDE,
        why: "a flow is bound to its sides, so that nobody outside can speak for an inside address",
        kind: Kind::Drops(DropReason::WrongSide),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || {
                let frame = link(Side::Inside).ip(&v4(proto::UDP), &question(b"data"));
                vec![(Side::Inside, frame.clone()), (Side::Outside, frame)]
            },
            lotus: &[true, false],
            kernel: &[true, true],
        },
    },
    Intended {
        name: NOT_IN_FLIGHT,
        why: "who can't see the connection can't guess its numbers (RFC 5927 section 4.1)",
        kind: Kind::Invalid,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: "ct state new,related accept",
            packets: || {
                let (inside, frame) = syn();
                let mut quote = frame[14..42].to_vec();
                quote[24] ^= 0x40; // its sequence number
                let ip = v4_back(proto::ICMP);
                let error = link(Side::Outside).ip(&ip, &ip.icmp(3, 1, [0; 4], &quote));
                vec![(inside, frame), (Side::Outside, error)]
            },
            lotus: &[true, false],
            kernel: &[true, true],
        },
    },
    Intended {
        name: OLD_SEGMENT,
        why: "more than a window old it is invalid, as it was in Linux up to 6.0; now the kernel lets it \
              pass without a change of state",
        kind: Kind::Invalid,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: TRACKED,
            packets: || {
                let old = back(ACK, 5001, 1001_u32.wrapping_sub(1_000_000));
                [handshake(), vec![old]].concat()
            },
            lotus: &[true, true, true, false],
            kernel: &[true, true, true, true],
        },
    },
    Intended {
        name: INEXACT_RST,
        why: "outside the window, or as an answer to a SYN that it does not acknowledge (RFC 5961 \
              section 3.2); the kernel believes it unless the connection is established",
        kind: Kind::Invalid,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: TRACKED,
            packets: || vec![syn(), back(RST, 5000, 0)],
            lotus: &[true, false],
            kernel: &[true, true],
        },
    },
    Intended {
        name: "a RST of a client that nobody has answered, with an acknowledgment",
        why: "it acknowledges what was never sent; the kernel compares it with 0, and half of all numbers \
              are less. With 0 itself the kernel forgets the flow, though the server may ignore the RST",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: TRACKED,
            packets: || {
                vec![
                    syn(),
                    forth(RST | ACK, 1001, 0x9000_0000),
                    forth(RST | ACK, 1001, 5000),
                    forth(RST | ACK, 1001, 0),
                    back(SYN | ACK, 5000, 1001),
                ]
            },
            lotus: &[true, false, false, true, true],
            kernel: &[true, true, false, true, false],
        },
    },
    Intended {
        name: EARLY_DATA,
        why: "only an acknowledgment without data can be an answer of an old connection to a SYN",
        kind: Kind::Invalid,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: TRACKED,
            packets: || vec![syn(), back_data(5000, 1001)],
            lotus: &[true, false],
            kernel: &[true, true],
        },
    },
    Intended {
        name: "a SYN against a connection's direction, a SYN-ACK along it",
        why: "either end may have begun anew; the kernel thinks of the client only",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: TRACKED,
            packets: || {
                let anew = vec![back(SYN, 900_000, 0), forth(SYN | ACK, 900_000, 5001)];
                [handshake(), anew].concat()
            },
            lotus: &[true, true, true, true, true],
            kernel: &[true, true, true, false, false],
        },
    },
    Intended {
        name: "`ether` before IP matches in inet tables matches in VLANs, too",
        why: "as in bridge tables; nft looks for an untagged IP frame then",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: "ether saddr 02:00:00:00:01:10 ip saddr 192.0.2.10 accept",
            packets: || tagged(&[(0x8100, 5)], &v4(proto::UDP), &question(b"")),
            lotus: &[true],
            kernel: &[false],
        },
    },
    Intended {
        name: "a SYN on a connection that the other end reset",
        why: "it begins a new connection; the kernel takes it for a part of the old one until it is \
              answered, unless who sends it sent the RST, too",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: BEGINS_ANEW,
            packets: || {
                let reset = back(RST, 5001, 0);
                [handshake(), vec![reset, from_another(syn())]].concat()
            },
            lotus: &[true, true, true, true, true],
            kernel: &[true, true, true, true, false],
        },
    },
    Intended {
        name: "an acknowledgment that is not that of the last FIN",
        why: "the connection is not over; to the kernel any ACK behind two FINs ends it, and a SYN then \
              begins a new one",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: BEGINS_ANEW,
            packets: || {
                vec![
                    syn(),
                    back(SYN | ACK, 5000, 1001),
                    forth(ACK | FIN, 1001, 5001),
                    back(ACK | FIN, 5001, 1002),
                    back_data(5002, 1002),
                    from_another(syn()),
                ]
            },
            lotus: &[true, true, true, true, true, false],
            kernel: &[true, true, true, true, true, true],
        },
    },
    Intended {
        name: "data that answers a SYN in a connection whose both ends have sent FIN",
        why: "it is data; the kernel takes it for a challenge ACK (RFC 5961 section 4), and what \
              acknowledges it for invalid",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: TRACKED,
            packets: || {
                vec![
                    syn(),
                    back(SYN | ACK, 5000, 1001),
                    forth(ACK | FIN, 1001, 5001),
                    back(ACK | FIN, 5001, 1001),
                    forth(SYN, 900_000, 0),
                    back_data(5002, 1002),
                    forth(ACK, 1002, 5006),
                ]
            },
            lotus: &[true, true, true, true, true, true, true],
            kernel: &[true, true, true, true, true, true, false],
        },
    },
    Intended {
        name: "`ether type` is the type behind all tags",
        why: "who writes `ether type ip` means IPv4 in any VLAN; `vlan` matches tagged frames",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "ether type ip accept",
            packets: || tagged(&[(0x8100, 5)], &v4(proto::UDP), &question(b"")),
            lotus: &[true],
            kernel: &[false],
        },
    },
    Intended {
        name: "`icmp`, `icmpv6` and `arp` in bridge tables match in VLANs, too",
        why: "nft puts `ether type` before them, which then is that of the tag; `tcp` and `udp` match",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "icmp type echo-request accept",
            packets: || {
                let ip = v4(proto::ICMP);
                tagged(&[(0x8100, 5)], &ip, &ip.icmp(8, 0, [0; 4], b""))
            },
            lotus: &[true],
            kernel: &[false],
        },
    },
    Intended {
        name: "two tags",
        why: "the kernel's bridge looks behind one; lotus is put into provider networks, too",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "udp dport 53 accept",
            packets: || {
                let tags = [(0x88a8, 5), (0x8100, 6)];
                tagged(&tags, &v4(proto::UDP), &question(b""))
            },
            lotus: &[true],
            kernel: &[false],
        },
    },
    Intended {
        name: "`th` is TCP, UDP and SCTP only",
        why: "the same bytes are no ports in other protocols",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "th dport 80 accept",
            packets: || alone(&v4(89), &[0, 1, 0, 80, 0, 0, 0, 0]),
            lotus: &[false],
            kernel: &[true],
        },
    },
    Intended {
        name: "`ip6 nexthdr` is the protocol behind all extension headers",
        why: "else a padding option would hide what a packet is",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "ip6 nexthdr udp accept",
            packets: || {
                let ip = Ip {
                    src: Ipv6Addr::from_bits(INSIDE_V6[0]).into(),
                    dst: Ipv6Addr::from_bits(OUTSIDE_V6[0]).into(),
                    extensions: vec![(60, vec![0, 1, 4, 0, 0, 0, 0])],
                    ..v4(proto::UDP)
                };
                alone(&ip, &ip.udp(1000, 53, b""))
            },
            lotus: &[true],
            kernel: &[false],
        },
    },
    Intended {
        name: "fragments are judged as the datagram that they make",
        why: "a fragment passes no rule that it was not judged by; the kernel's bridge judges each alone",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "udp dport 53 accept",
            packets: || fragments(32),
            // The first one waits for the second one.
            lotus: &[false, true],
            kernel: &[true, false],
        },
    },
    Intended {
        name: "a first fragment of less than 20 bytes",
        why: "a TCP header does not fit into it (RFC 1858 section 4)",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: "udp dport 53 accept",
            packets: || fragments(16),
            lotus: &[false, false],
            kernel: &[false, true],
        },
    },
    Intended {
        name: "a second SYN-ACK with another number",
        why: "the first one was lost and the server answered the next SYN anew; with the kernel, \
              the connection hangs until the client gives up",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: TRACKED,
            packets: || {
                vec![
                    syn(),
                    back(SYN | ACK, 5000, 1001),
                    back(SYN | ACK, 9_000_000, 1001),
                    back(ACK, 9_000_001, 1001),
                ]
            },
            lotus: &[true, true, true, true],
            kernel: &[true, true, true, false],
        },
    },
    Intended {
        name: "checksums of data segments are not verified",
        why: "it would cost each packet, and the receiver drops them",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: "udp dport 53 ct state new accept",
            packets: || {
                let mut l4 = question(b"abcd");
                l4[6] ^= 0x55;
                alone(&v4(proto::UDP), &l4)
            },
            lotus: &[true],
            kernel: &[false],
        },
    },
    Intended {
        name: "SCTP, DCCP and GRE are tracked by addresses alone",
        why: "lotus reads no state of theirs; the kernel wants an SCTP association to begin with INIT",
        kind: Kind::Avoided,
        example: Example {
            arrangement: Arrangement::BridgeAndIp,
            rules: "ct state new accept",
            packets: || alone(&v4(132), &[0; 16]),
            lotus: &[true],
            kernel: &[false],
        },
    },
];

/// A packet that rules accept, and lotus drops all the same.
const fn one_that_only_the_kernel_takes(packets: fn() -> Vec<Packet>) -> Example {
    Example {
        arrangement: Arrangement::Bridge,
        rules: "accept",
        packets,
        lotus: &[false],
        kernel: &[true],
    }
}

type Packet = (Side, Vec<u8>);

/// The header of what the inside host sends.
fn v4(protocol: u8) -> Ip {
    let address = |octets| IpAddr::V4(Ipv4Addr::from(octets));
    Ip::new(address(INSIDE_V4[0]), address(OUTSIDE_V4[0]), protocol)
}

fn v4_back(protocol: u8) -> Ip {
    let there = v4(protocol);
    Ip::new(there.dst, there.src, protocol)
}

fn link(side: Side) -> Link {
    let (src, dst) = match side {
        Side::Inside => (MACS[0], MACS[3]),
        Side::Outside => (MACS[3], MACS[0]),
    };
    Link {
        src,
        dst,
        tags: Vec::new(),
    }
}

/// One packet of the inside host.
fn alone(ip: &Ip, l4: &[u8]) -> Vec<Packet> {
    tagged(&[], ip, l4)
}

fn tagged(tags: &[(u16, u16)], ip: &Ip, l4: &[u8]) -> Vec<Packet> {
    let link = Link {
        tags: tags.to_vec(),
        ..link(Side::Inside)
    };
    vec![(Side::Inside, link.ip(ip, l4))]
}

/// UDP to port 53, over IPv4.
fn question(payload: &[u8]) -> Vec<u8> {
    v4(proto::UDP).udp(1000, 53, payload)
}

/// A question of 40 bytes of UDP, in two fragments.
fn fragments(cut: usize) -> Vec<Packet> {
    let pieces = link(Side::Inside).fragments(&v4(proto::UDP), &question(&[0; 32]), &[cut]);
    pieces
        .into_iter()
        .map(|frame| (Side::Inside, frame))
        .collect()
}

/// A segment from port 1000 of the inside host to port 80.
fn forth(flags: u8, seq: u32, ack: u32) -> Packet {
    let ip = v4(proto::TCP);
    let l4 = segment(&ip, (1000, 80), flags, (seq, ack)).bytes(&ip);
    (Side::Inside, link(Side::Inside).ip(&ip, &l4))
}

/// A segment from there.
fn back(flags: u8, seq: u32, ack: u32) -> Packet {
    answer(flags, seq, ack, b"")
}

fn back_data(seq: u32, ack: u32) -> Packet {
    answer(ACK, seq, ack, b"data")
}

fn answer(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Packet {
    let ip = v4_back(proto::TCP);
    let segment = Segment {
        payload: payload.to_vec(),
        ..segment(&ip, (80, 1000), flags, (seq, ack))
    };
    let frame = link(Side::Outside).ip(&ip, &segment.bytes(&ip));
    (Side::Outside, frame)
}

fn syn() -> Packet {
    forth(SYN, 1000, 0)
}

/// The next numbers are 1001 and 5001.
fn handshake() -> Vec<Packet> {
    vec![syn(), back(SYN | ACK, 5000, 1001), forth(ACK, 1001, 5001)]
}

/// From the MAC address that [`BEGINS_ANEW`] looks for.
fn from_another((side, mut frame): Packet) -> Packet {
    frame[6..12].copy_from_slice(&MACS[1]);
    (side, frame)
}

fn spoiled((side, mut frame): Packet, at: usize) -> Packet {
    frame[at] ^= 0x55;
    (side, frame)
}

fn segment(ip: &Ip, (from, to): (u16, u16), flags: u8, (seq, ack): (u32, u32)) -> Segment {
    Segment {
        from: (ip.src, from).into(),
        to: (ip.dst, to).into(),
        flags,
        seq,
        ack,
        window: 65535,
        options: Vec::new(),
        payload: Vec::new(),
    }
}
