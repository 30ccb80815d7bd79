//! ICMP errors, and packets with a defect: each has ports that no conversation has, so that it
//! changes nothing for others.

use lotus::wire::{Side, TcpFlags, proto};

use super::Traffic;
use crate::frame::{IPV4, IPV6, Ip, Segment, untagged};
use crate::intended;

/// What is before the IP header of an untagged frame.
const ETHERNET_BYTES: usize = 14;

impl Traffic<'_> {
    /// An error about one of the last packets, sent to who sent it.
    pub(super) fn icmp_error(&mut self) {
        let recent = self.packets.len().min(10);
        let is_quotable =
            |frame: &[u8]| matches!(u16::from_be_bytes([frame[12], frame[13]]), IPV4 | IPV6);
        let candidates: Vec<_> = self.packets[self.packets.len() - recent..]
            .iter()
            .filter(|packet| {
                is_quotable(&packet.frame) && !packet.is_fragment && packet.defect.is_none()
            })
            .cloned()
            .collect();
        if candidates.is_empty() {
            return;
        }
        let about = self.rng.pick(&candidates).clone();
        let plain = untagged(&about.frame);
        let datagram = &plain[ETHERNET_BYTES..];
        let Ok(parsed) = lotus::wire::parse(&plain) else {
            return;
        };
        let Some(quoted) = parsed.ip else { return };
        // Nobody sends an error about an error (RFC 1122 section 3.2.2).
        if matches!(quoted.protocol, proto::ICMP | proto::ICMPV6)
            && !about.words.starts_with("echo request")
        {
            return;
        }
        let is_v6 = quoted.src.is_ipv6();
        let protocol = if is_v6 { proto::ICMPV6 } else { proto::ICMP };
        let ends = self.ends();
        let same_family = ends.inside.is_ipv6() == is_v6;
        // From who should have got it, or from a router on the way.
        let from = match self.rng.percent(30) && same_family {
            true => ends.of(about.side.other()).ip(),
            false => quoted.dst,
        };
        // Rarely to somebody else than who sent it.
        let to = match self.rng.percent(10) && same_family {
            true => ends.of(about.side).ip(),
            false => quoted.src,
        };
        let ip = Ip::new(from, to, protocol);
        let (kind, code) = match is_v6 {
            false => *self
                .rng
                .pick(&[(3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (5, 1)]),
            true => *self.rng.pick(&[(1, 4), (1, 3), (2, 0), (3, 0), (4, 1)]),
        };
        let header_bytes = quoted.l4_offset - ETHERNET_BYTES;
        let quote = &datagram[..(header_bytes + 8).min(datagram.len())];
        let l4 = ip.icmp(kind, code, [0, 0, 0, 0], quote);
        let mut link = ends.link(about.side.other());
        link.tags.clear();
        let mut frame = link.ip(&ip, &l4);
        // In the VLAN of what it is about.
        let tags = about.frame.len() - plain.len();
        let inserted = about.frame[12..12 + tags].to_vec();
        frame.splice(12..12, inserted);
        let words = format!(
            "ICMP error {kind} code {code}, {from} > {to}, about \"{}\"",
            about.words
        );
        self.push(about.side.other(), frame, words);
        if quoted.protocol == proto::TCP {
            self.mark(Some(intended::NOT_IN_FLIGHT));
        }
    }

    /// A packet that lotus drops whatever the rules say.
    pub(super) fn oddity(&mut self) {
        let mut ends = self.ends();
        let side = ends.from;
        let fresh = self.fresh();
        match side {
            Side::Inside => ends.inside.set_port(fresh),
            Side::Outside => ends.outside.set_port(fresh),
        }
        let is_v6 = ends.inside.is_ipv6();
        let mut ip = Ip::new(ends.of(side).ip(), ends.of(side.other()).ip(), proto::TCP);
        let mut segment = Segment {
            from: ends.of(side),
            to: ends.of(side.other()),
            flags: TcpFlags::SYN,
            seq: 1,
            ack: 0,
            window: 1000,
            options: Vec::new(),
            payload: Vec::new(),
        };
        let link = ends.link(side);
        let (name, frame) = match self.rng.below(8) {
            0 if !is_v6 => {
                let mut frame = link.ip(&ip, &segment.bytes(&ip));
                let at = frame.len() - 20 - 20 + 10;
                frame[at] ^= 0x55;
                (intended::IP_CHECKSUM, frame)
            }
            1 => {
                let mut bytes = segment.bytes(&ip);
                bytes[16] ^= 0x55;
                (intended::CHECKSUM, link.ip(&ip, &bytes))
            }
            2 => {
                segment.flags = *self.rng.pick(&[
                    0,
                    TcpFlags::SYN | TcpFlags::FIN,
                    TcpFlags::SYN | TcpFlags::RST,
                    TcpFlags::FIN,
                    TcpFlags::FIN | TcpFlags::PSH | TcpFlags::URG,
                    0x3f,
                ]);
                (intended::TCP_FLAGS, link.ip(&ip, &segment.bytes(&ip)))
            }
            3 => {
                segment.from.set_port(0);
                (intended::TCP_HEADER, link.ip(&ip, &segment.bytes(&ip)))
            }
            4 => {
                ip.protocol = proto::UDP;
                let mut bytes = ip.udp(fresh, segment.to.port(), b"abcd");
                bytes[5] = 200;
                (intended::UDP_HEADER, link.ip(&ip, &bytes))
            }
            5 if !is_v6 => {
                // Loose source route to nowhere, and padding.
                ip.options = vec![131, 3, 4, 0];
                (intended::SOURCE_ROUTE, link.ip(&ip, &segment.bytes(&ip)))
            }
            6 => {
                ip.protocol = if is_v6 { proto::ICMPV6 } else { proto::ICMP };
                (intended::ICMP_HEADER, link.ip(&ip, &[8, 0, 0, 0]))
            }
            _ => return self.wrong_side(ends),
        };
        self.push(
            side,
            frame,
            format!("{name}: {} > {}", ends.of(side), ends.of(side.other())),
        );
        self.mark(Some(name));
    }

    /// A datagram, and one that claims to be of the same flow and comes in at the other side.
    fn wrong_side(&mut self, ends: super::Ends) {
        let side = ends.from;
        self.udp(&ends, side);
        // Nothing is said about either of them later.
        self.mark(Some(intended::WRONG_SIDE));
        let ip = Ip::new(ends.of(side).ip(), ends.of(side.other()).ip(), proto::UDP);
        let l4 = ip.udp(ends.of(side).port(), ends.of(side.other()).port(), b"liar");
        let frame = ends.link(side).ip(&ip, &l4);
        let words = format!(
            "from the wrong side: {} > {}",
            ends.of(side),
            ends.of(side.other())
        );
        self.push(side.other(), frame, words);
        self.mark(Some(intended::WRONG_SIDE));
    }
}
