//! Frames made by hand, right or wrong in any field.

use std::net::{IpAddr, SocketAddr};

use lotus::wire::{TcpFlags, checksum, proto};

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const IPV6_FRAGMENT: u8 = 44;
const URGENT: u8 = TcpFlags::URG;

/// A TCP segment to be built.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    /// Ids of the tags, the outer one first.
    pub vlan: Vec<u16>,
    pub has_bad_checksum: bool,
    pub hop_limit: u8,
}

impl Segment {
    pub fn new(from: SocketAddr, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Segment {
        Segment {
            from,
            to,
            seq,
            ack,
            flags,
            window: 60_000,
            urgent: 0,
            options: Vec::new(),
            payload: Vec::new(),
            vlan: Vec::new(),
            has_bad_checksum: false,
            hop_limit: 64,
        }
    }

    pub fn syn(from: SocketAddr, to: SocketAddr) -> Segment {
        Segment::new(from, to, TcpFlags::SYN, 77_000, 0)
    }

    pub fn data(mut self, payload: impl AsRef<[u8]>) -> Segment {
        self.flags |= TcpFlags::ACK | TcpFlags::PSH;
        self.payload = payload.as_ref().to_vec();
        self
    }

    /// Moves it by so many sequence numbers.
    pub fn shifted(mut self, by: i64) -> Segment {
        self.seq = (i64::from(self.seq) + by) as u32;
        self
    }

    pub fn with_flags(mut self, flags: u8) -> Segment {
        self.flags = flags;
        self
    }

    pub fn spoiled(mut self) -> Segment {
        self.has_bad_checksum = true;
        self
    }

    /// The urgent pointer, which RFC 9293 has behind the urgent byte.
    pub fn urgent(mut self, pointer: u16) -> Segment {
        self.flags |= URGENT;
        self.urgent = pointer;
        self
    }

    pub fn tagged(mut self, vlan: &[u16]) -> Segment {
        self.vlan = vlan.to_vec();
        self
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.from.port().to_be_bytes());
        segment.extend(self.to.port().to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        assert_eq!(self.options.len() % 4, 0, "options are whole words");
        segment.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(self.urgent.to_be_bytes());
        segment.extend(&self.options);
        segment.extend(&self.payload);
        let (from, to) = (self.from.ip(), self.to.ip());
        put_sum(&mut segment, 16, from, to, proto::TCP);
        if self.has_bad_checksum {
            segment[16] ^= 0x55;
        }
        let mut frame = datagram(from, to, proto::TCP, &segment);
        set_hop_limit(&mut frame, self.hop_limit);
        tag(frame, &self.vlan)
    }
}

pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend((8 + payload.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    put_sum(&mut bytes, 6, from.ip(), to.ip(), proto::UDP);
    datagram(from.ip(), to.ip(), proto::UDP, &bytes)
}

/// An ICMP or ICMPv6 message of this type and code, with the rest behind its second word.
pub fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(rest);
    if from.is_ipv4() {
        let sum = !checksum::fold(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        datagram(from, to, proto::ICMP, &message)
    } else {
        put_sum(&mut message, 2, from, to, proto::ICMPV6);
        datagram(from, to, proto::ICMPV6, &message)
    }
}

/// An untagged frame with an IP datagram of any protocol.
pub fn datagram(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(((IPV4_BYTES + payload.len()) as u16).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            put_ipv4_sum(&mut frame);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        _ => unreachable!("both ends are of one family"),
    }
    frame.extend(payload);
    frame
}

/// An untagged frame in fragments of so many bytes (a multiple of 8) each.
pub fn fragments(frame: &[u8], id: u16, data_bytes: usize) -> Vec<Vec<u8>> {
    assert_eq!(data_bytes % 8, 0);
    let len = frame.len() - header_bytes(frame);
    let cuts: Vec<_> = (0..len).step_by(data_bytes).skip(1).collect();
    fragments_at(frame, id, &cuts)
}

/// An untagged frame cut at these offsets (multiples of 8) of what follows its IP header.
pub fn fragments_at(frame: &[u8], id: u16, cuts: &[usize]) -> Vec<Vec<u8>> {
    let data = &frame[header_bytes(frame)..];
    let starts = [&[0], cuts].concat();
    let ends = [cuts, &[data.len()]].concat();
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| fragment(frame, id, start, &data[start..end], end < data.len()))
        .collect()
}

/// One fragment with the header of `whole`.
fn fragment(whole: &[u8], id: u16, offset: usize, data: &[u8], more: bool) -> Vec<u8> {
    assert_eq!(offset % 8, 0);
    let header = header_bytes(whole);
    let mut frame = whole[..header].to_vec();
    if header == ETHERNET_BYTES + IPV4_BYTES {
        let length = (IPV4_BYTES + data.len()) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        let bits = (offset as u16 / 8) | if more { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&bits.to_be_bytes());
        put_ipv4_sum(&mut frame);
    } else {
        let next = std::mem::replace(&mut frame[20], IPV6_FRAGMENT);
        let [high, low] = (offset as u16 | u16::from(more)).to_be_bytes();
        let [a, b] = id.to_be_bytes();
        frame.extend([next, 0, high, low, 0, 0, a, b]);
        let length = (8 + data.len()) as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
    }
    frame.extend(data);
    frame
}

fn header_bytes(frame: &[u8]) -> usize {
    let is_v4 = frame[12..14] == [0x08, 0x00];
    ETHERNET_BYTES + if is_v4 { IPV4_BYTES } else { IPV6_BYTES }
}

fn set_hop_limit(frame: &mut [u8], hop_limit: u8) {
    if header_bytes(frame) == ETHERNET_BYTES + IPV4_BYTES {
        frame[22] = hop_limit;
        put_ipv4_sum(frame);
    } else {
        frame[21] = hop_limit;
    }
}

fn tag(mut frame: Vec<u8>, vlan: &[u16]) -> Vec<u8> {
    for (index, id) in vlan.iter().rev().enumerate() {
        let is_outer = index + 1 == vlan.len() && vlan.len() > 1;
        let tpid: [u8; 2] = if is_outer { [0x88, 0xa8] } else { [0x81, 0] };
        let [high, low] = id.to_be_bytes();
        frame.splice(12..12, [tpid[0], tpid[1], high, low]);
    }
    frame
}

fn put_ipv4_sum(frame: &mut [u8]) {
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

fn put_sum(bytes: &mut [u8], at: usize, from: IpAddr, to: IpAddr, protocol: u8) {
    let pseudo = checksum::pseudo_header(from, to, protocol, bytes.len());
    let sum = !checksum::fold(checksum::sum(bytes) + pseudo);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
