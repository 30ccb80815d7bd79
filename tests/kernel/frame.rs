//! Frames by parts, right unless a part says otherwise.

use std::net::{IpAddr, SocketAddr};

use lotus::wire::{checksum, proto};

pub const ARP: u16 = 0x0806;
pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
const IPV6_FRAGMENT: u8 = 44;

pub type Mac = [u8; 6];

/// The link layer.
#[derive(Clone, Debug)]
pub struct Link {
    pub src: Mac,
    pub dst: Mac,
    /// Type and control information of each tag, the outer one first.
    pub tags: Vec<(u16, u16)>,
}

/// An IP header.
#[derive(Clone, Debug)]
pub struct Ip {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    pub id: u16,
    /// IPv4 options, whole words.
    pub options: Vec<u8>,
    /// IPv6: extension headers before the payload, by protocol number and all bytes but the first.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

/// A TCP header.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Link {
    pub fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = [self.dst, self.src].concat();
        for (kind, control) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    pub fn ip(&self, ip: &Ip, payload: &[u8]) -> Vec<u8> {
        self.frame(ip.ethertype(), &ip.datagram(payload))
    }

    /// A fragment with these bytes of the payload, and more behind it.
    pub fn ip_fragment(&self, ip: &Ip, payload: &[u8], from: usize, to: usize) -> Vec<u8> {
        self.frame(ip.ethertype(), &ip.fragment(from, true, &payload[from..to]))
    }

    /// A datagram in fragments, cut at these offsets (multiples of 8) of its payload.
    pub fn fragments(&self, ip: &Ip, payload: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let starts = [&[0], cuts].concat();
        let ends = [cuts, &[payload.len()]].concat();
        let pieces = starts.iter().zip(ends);
        pieces
            .map(|(&start, end)| {
                let more = end < payload.len();
                self.frame(
                    ip.ethertype(),
                    &ip.fragment(start, more, &payload[start..end]),
                )
            })
            .collect()
    }
}

impl Ip {
    pub fn new(src: IpAddr, dst: IpAddr, protocol: u8) -> Ip {
        Ip {
            src,
            dst,
            protocol,
            hop_limit: 64,
            traffic_class: 0,
            id: 1,
            options: Vec::new(),
            extensions: Vec::new(),
        }
    }

    pub fn ethertype(&self) -> u16 {
        match self.src {
            IpAddr::V4(_) => IPV4,
            IpAddr::V6(_) => IPV6,
        }
    }

    pub fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(_), IpAddr::V4(_)) => self.v4(0x4000, payload),
            _ => {
                let mut first = self.protocol;
                let mut chain = payload.to_vec();
                for (protocol, rest) in self.extensions.iter().rev() {
                    let mut header = vec![first];
                    header.extend(rest);
                    header.extend(chain);
                    (first, chain) = (*protocol, header);
                }
                self.v6(first, &chain)
            }
        }
    }

    pub fn fragment(&self, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
        assert_eq!(offset % 8, 0, "fragments begin at whole words");
        match self.src {
            IpAddr::V4(_) => {
                let more = if more { 0x2000 } else { 0 };
                self.v4((offset / 8) as u16 | more, data)
            }
            IpAddr::V6(_) => {
                let mut payload = vec![self.protocol, 0];
                payload.extend((offset as u16 | u16::from(more)).to_be_bytes());
                payload.extend(u32::from(self.id).to_be_bytes());
                payload.extend(data);
                self.v6(IPV6_FRAGMENT, &payload)
            }
        }
    }

    fn v4(&self, fragment_bits: u16, payload: &[u8]) -> Vec<u8> {
        let header_bytes = 20 + self.options.len();
        let mut header = vec![0x40 | (header_bytes / 4) as u8, self.traffic_class];
        header.extend(((header_bytes + payload.len()) as u16).to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend(fragment_bits.to_be_bytes());
        header.extend([self.hop_limit, self.protocol, 0, 0]);
        for address in [self.src, self.dst] {
            header.extend(octets(address));
        }
        header.extend(&self.options);
        let sum = !checksum::fold(checksum::sum(&header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header.extend(payload);
        header
    }

    fn v6(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = vec![
            0x60 | self.traffic_class >> 4,
            self.traffic_class << 4,
            0,
            0,
        ];
        header.extend((payload.len() as u16).to_be_bytes());
        header.extend([first, self.hop_limit]);
        for address in [self.src, self.dst] {
            header.extend(octets(address));
        }
        header.extend(payload);
        header
    }

    /// A transport header with its checksum at `at`.
    pub fn summed(&self, mut l4: Vec<u8>, at: usize) -> Vec<u8> {
        let pseudo = match self.protocol {
            proto::ICMP => 0,
            _ => checksum::pseudo_header(self.src, self.dst, self.protocol, l4.len()),
        };
        let sum = !checksum::fold(checksum::sum(&l4) + pseudo);
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        l4
    }

    pub fn udp(&self, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let mut l4 = ports(from, to);
        l4.extend((8 + payload.len() as u16).to_be_bytes());
        l4.extend([0, 0]);
        l4.extend(payload);
        self.summed(l4, 6)
    }

    /// An ICMP or ICMPv6 message: type, code, its second word, and the rest.
    pub fn icmp(&self, kind: u8, code: u8, word: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let mut l4 = vec![kind, code, 0, 0];
        l4.extend(word);
        l4.extend(rest);
        self.summed(l4, 2)
    }
}

impl Segment {
    pub fn bytes(&self, ip: &Ip) -> Vec<u8> {
        let mut l4 = ports(self.from.port(), self.to.port());
        l4.extend(self.seq.to_be_bytes());
        l4.extend(self.ack.to_be_bytes());
        l4.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
        l4.extend(self.window.to_be_bytes());
        l4.extend([0, 0, 0, 0]);
        l4.extend(&self.options);
        l4.extend(&self.payload);
        ip.summed(l4, 16)
    }
}

pub fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A frame without its tags.
pub fn untagged(frame: &[u8]) -> Vec<u8> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    [&frame[..12], frame.get(at..).unwrap_or_default()].concat()
}
