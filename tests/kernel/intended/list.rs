//! The list, and what its examples are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lotus::observe::DropReason;
use lotus::wire::{Side, TcpFlags, proto};

use super::{Example, Intended, Kind};
use crate::bed::Arrangement;
use crate::frame::{IPV4, Ip, Link, Segment};
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

pub const LIST: &[Intended] = &[
    Intended {
        name: IP_CHECKSUM,
        why: "the receiver would drop it, a router too; a bridge does not look",
        kind: Kind::Drops(DropReason::IpChecksumBad),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || {
                let mut frame = segment(1000, 80, TcpFlags::SYN);
                frame[24] ^= 0x55;
                vec![(Side::Inside, frame)]
            },
            lotus: &[false],
            kernel: &[true],
        },
    },
    Intended {
        name: CHECKSUM,
        why: "it would move the flow's state, and the receiver never takes it",
        kind: Kind::Drops(DropReason::ChecksumBad),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || {
                let mut frame = segment(1000, 80, TcpFlags::SYN);
                frame[50] ^= 0x55;
                vec![(Side::Inside, frame)]
            },
            lotus: &[false],
            kernel: &[true],
        },
    },
    Intended {
        name: TCP_FLAGS,
        why: "only scans and evasions send them, and receivers differ in what they make of them",
        kind: Kind::Drops(DropReason::TcpFlagsBad),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || {
                vec![(
                    Side::Inside,
                    segment(1000, 80, TcpFlags::SYN | TcpFlags::FIN),
                )]
            },
            lotus: &[false],
            kernel: &[true],
        },
    },
    Intended {
        name: TCP_HEADER,
        why: "port 0 is reserved; no flow can have it",
        kind: Kind::Drops(DropReason::TcpHeaderBad),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || vec![(Side::Inside, segment(0, 80, TcpFlags::SYN))],
            lotus: &[false],
            kernel: &[true],
        },
    },
    Intended {
        name: UDP_HEADER,
        why: "what it is about lies outside the packet",
        kind: Kind::Drops(DropReason::UdpHeaderBad),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || {
                let ip = v4(proto::UDP);
                let mut l4 = ip.udp(1000, 53, b"abcd");
                l4[5] = 200;
                vec![(Side::Inside, link(Side::Inside).ip(&ip, &l4))]
            },
            lotus: &[false],
            kernel: &[true],
        },
    },
    Intended {
        name: ICMP_HEADER,
        why: "no message is so short",
        kind: Kind::Drops(DropReason::IcmpHeaderBad),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || {
                vec![(
                    Side::Inside,
                    link(Side::Inside).ip(&v4(proto::ICMP), &[8, 0, 0, 0]),
                )]
            },
            lotus: &[false],
            kernel: &[true],
        },
    },
    Intended {
        name: SOURCE_ROUTE,
        why: "a source route goes around the rules about destinations (RFC 7126 section 4.3)",
        kind: Kind::Drops(DropReason::IpSourceRoute),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || {
                let mut ip = v4(proto::UDP);
                ip.options = vec![131, 3, 4, 0];
                let l4 = ip.udp(1000, 53, b"abcd");
                vec![(Side::Inside, link(Side::Inside).ip(&ip, &l4))]
            },
            lotus: &[false],
            kernel: &[true],
        },
    },
    Intended {
        name: WRONG_SIDE,
        why: "a flow is bound to its sides, so that nobody outside can speak for an inside address",
        kind: Kind::Drops(DropReason::WrongSide),
        example: Example {
            arrangement: Arrangement::Bridge,
            rules: "accept",
            packets: || {
                let frame = udp(1000, 53);
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
                let syn = segment(1000, 80, TcpFlags::SYN);
                let mut quote = syn[14..42].to_vec();
                quote[24] ^= 0x40; // its sequence number
                let ip = Ip {
                    src: v4(0).dst,
                    dst: v4(0).src,
                    ..v4(proto::ICMP)
                };
                let l4 = ip.icmp(3, 1, [0; 4], &quote);
                let error = link(Side::Outside).ip(&ip, &l4);
                vec![(Side::Inside, syn), (Side::Outside, error)]
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
            rules: "ct state new,established accept",
            packets: || {
                let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
                vec![
                    (Side::Inside, segment(1000, 80, syn)),
                    (Side::Outside, tcp_back(80, 1000, syn | ack, 5000, 1001)),
                    (
                        Side::Inside,
                        tcp(Side::Inside, v4(proto::TCP), (1000, 80), ack, (1001, 5001)),
                    ),
                    (
                        Side::Outside,
                        tcp_back(80, 1000, ack, 5001, 1001_u32.wrapping_sub(1_000_000)),
                    ),
                ]
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
            rules: "ct state new,established accept",
            packets: || {
                vec![
                    (Side::Inside, segment(1000, 80, TcpFlags::SYN)),
                    (Side::Outside, tcp_back(80, 1000, TcpFlags::RST, 5000, 0)),
                ]
            },
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
            rules: "ct state new,established accept",
            packets: || {
                let (syn, ack, rst) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::RST);
                let forth =
                    |flags, numbers| tcp(Side::Inside, v4(proto::TCP), (1000, 80), flags, numbers);
                vec![
                    (Side::Inside, segment(1000, 80, syn)),
                    (Side::Inside, forth(rst | ack, (1001, 0x9000_0000))),
                    (Side::Inside, forth(rst | ack, (1001, 5000))),
                    (Side::Inside, forth(rst | ack, (1001, 0))),
                    (Side::Outside, tcp_back(80, 1000, syn | ack, 5000, 1001)),
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
            rules: "ct state new,established accept",
            packets: || {
                let early = back_data(5000, 1001);
                vec![
                    (Side::Inside, segment(1000, 80, TcpFlags::SYN)),
                    (Side::Outside, early),
                ]
            },
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
            rules: "ct state new,established accept",
            packets: || {
                let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
                let forth =
                    |flags, seq| tcp(Side::Inside, v4(proto::TCP), (1000, 80), flags, (seq, 5001));
                vec![
                    (Side::Inside, segment(1000, 80, syn)),
                    (Side::Outside, tcp_back(80, 1000, syn | ack, 5000, 1001)),
                    (Side::Inside, forth(ack, 1001)),
                    (Side::Outside, tcp_back(80, 1000, syn, 900_000, 0)),
                    (Side::Inside, forth(syn | ack, 900_000)),
                ]
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
            packets: || {
                let tagged = Link {
                    tags: vec![(0x8100, 5)],
                    ..link(Side::Inside)
                };
                vec![(
                    Side::Inside,
                    tagged.ip(&v4(proto::UDP), &v4(proto::UDP).udp(1000, 53, b"")),
                )]
            },
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
            // The last SYN is told apart by its MAC address.
            rules: "ether saddr 02:00:00:00:01:11 ct state established drop\n  accept",
            packets: || {
                let (syn, ack, rst) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::RST);
                let mut again = segment(1000, 80, syn);
                again[6..12].copy_from_slice(&MACS[1]);
                vec![
                    (Side::Inside, segment(1000, 80, syn)),
                    (Side::Outside, tcp_back(80, 1000, syn | ack, 5000, 1001)),
                    (
                        Side::Inside,
                        tcp(Side::Inside, v4(proto::TCP), (1000, 80), ack, (1001, 5001)),
                    ),
                    (Side::Outside, tcp_back(80, 1000, rst, 5001, 0)),
                    (Side::Inside, again),
                ]
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
            // The last SYN is told apart by its MAC address.
            rules: "ether saddr 02:00:00:00:01:11 ct state established drop\n  accept",
            packets: || {
                let (syn, ack, fin) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN);
                let forth = v4(proto::TCP);
                let fin_forth = tcp(Side::Inside, forth, (1000, 80), ack | fin, (1001, 5001));
                let mut again = segment(1000, 80, syn);
                again[6..12].copy_from_slice(&MACS[1]);
                vec![
                    (Side::Inside, segment(1000, 80, syn)),
                    (Side::Outside, tcp_back(80, 1000, syn | ack, 5000, 1001)),
                    (Side::Inside, fin_forth),
                    (Side::Outside, tcp_back(80, 1000, ack | fin, 5001, 1002)),
                    (Side::Outside, back_data(5002, 1002)),
                    (Side::Inside, again),
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
            rules: "ct state new,established accept",
            packets: || {
                let (syn, ack, fin) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN);
                let forth =
                    |flags, numbers| tcp(Side::Inside, v4(proto::TCP), (1000, 80), flags, numbers);
                vec![
                    (Side::Inside, segment(1000, 80, syn)),
                    (Side::Outside, tcp_back(80, 1000, syn | ack, 5000, 1001)),
                    (Side::Inside, forth(ack | fin, (1001, 5001))),
                    (Side::Outside, tcp_back(80, 1000, ack | fin, 5001, 1001)),
                    (Side::Inside, forth(syn, (900_000, 0))),
                    (Side::Outside, back_data(5002, 1002)),
                    (Side::Inside, forth(ack, (1002, 5006))),
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
            packets: || {
                let tagged = Link {
                    tags: vec![(0x8100, 5)],
                    ..link(Side::Inside)
                };
                vec![(
                    Side::Inside,
                    tagged.ip(&v4(proto::UDP), &v4(proto::UDP).udp(1000, 53, b"")),
                )]
            },
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
                let tagged = Link {
                    tags: vec![(0x8100, 5)],
                    ..link(Side::Inside)
                };
                let ip = v4(proto::ICMP);
                vec![(Side::Inside, tagged.ip(&ip, &ip.icmp(8, 0, [0; 4], b"")))]
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
                let tagged = Link {
                    tags: vec![(0x88a8, 5), (0x8100, 6)],
                    ..link(Side::Inside)
                };
                let ip = v4(proto::UDP);
                vec![(
                    Side::Inside,
                    tagged.frame(IPV4, &ip.datagram(&ip.udp(1000, 53, b""))),
                )]
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
            packets: || {
                vec![(
                    Side::Inside,
                    link(Side::Inside).ip(&v4(89), &[0, 1, 0, 80, 0, 0, 0, 0]),
                )]
            },
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
                vec![(
                    Side::Inside,
                    link(Side::Inside).ip(&ip, &ip.udp(1000, 53, b"")),
                )]
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
            packets: || {
                let ip = v4(proto::UDP);
                let frames = link(Side::Inside).fragments(&ip, &ip.udp(1000, 53, &[0; 32]), &[32]);
                frames
                    .into_iter()
                    .map(|frame| (Side::Inside, frame))
                    .collect()
            },
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
            packets: || {
                let ip = v4(proto::UDP);
                let frames = link(Side::Inside).fragments(&ip, &ip.udp(1000, 53, &[0; 32]), &[16]);
                frames
                    .into_iter()
                    .map(|frame| (Side::Inside, frame))
                    .collect()
            },
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
            rules: "ct state new,established accept",
            packets: || {
                let answer = |seq| tcp_back(80, 1000, TcpFlags::SYN | TcpFlags::ACK, seq, 1001);
                vec![
                    (Side::Inside, segment(1000, 80, TcpFlags::SYN)),
                    (Side::Outside, answer(5000)),
                    (Side::Outside, answer(9_000_000)),
                    (
                        Side::Outside,
                        tcp_back(80, 1000, TcpFlags::ACK, 9_000_001, 1001),
                    ),
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
                let ip = v4(proto::UDP);
                let mut l4 = ip.udp(1000, 53, b"abcd");
                l4[6] ^= 0x55;
                vec![(Side::Inside, link(Side::Inside).ip(&ip, &l4))]
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
            packets: || vec![(Side::Inside, link(Side::Inside).ip(&v4(132), &[0; 16]))],
            lotus: &[true],
            kernel: &[false],
        },
    },
];

fn v4(protocol: u8) -> Ip {
    let address = |octets| IpAddr::V4(Ipv4Addr::from(octets));
    Ip::new(address(INSIDE_V4[0]), address(OUTSIDE_V4[0]), protocol)
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

fn udp(from: u16, to: u16) -> Vec<u8> {
    let ip = v4(proto::UDP);
    link(Side::Inside).ip(&ip, &ip.udp(from, to, b"data"))
}

fn segment(from: u16, to: u16, flags: u8) -> Vec<u8> {
    tcp(Side::Inside, v4(proto::TCP), (from, to), flags, (1000, 0))
}

fn tcp_back(from: u16, to: u16, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let there = v4(proto::TCP);
    let back = Ip::new(there.dst, there.src, proto::TCP);
    tcp(Side::Outside, back, (from, to), flags, (seq, ack))
}

fn back_data(seq: u32, ack: u32) -> Vec<u8> {
    let ip = Ip::new(v4(0).dst, v4(0).src, proto::TCP);
    let data = Segment {
        payload: b"data".to_vec(),
        ..header(&ip, (80, 1000), TcpFlags::ACK, (seq, ack))
    };
    link(Side::Outside).ip(&ip, &data.bytes(&ip))
}

fn tcp(side: Side, ip: Ip, ports: (u16, u16), flags: u8, numbers: (u32, u32)) -> Vec<u8> {
    let segment = header(&ip, ports, flags, numbers);
    link(side).ip(&ip, &segment.bytes(&ip))
}

fn header(ip: &Ip, (from, to): (u16, u16), flags: u8, (seq, ack): (u32, u32)) -> Segment {
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
