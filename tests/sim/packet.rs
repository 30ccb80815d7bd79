//! Frames made by hand, and a small reader of frames. Both know nothing of `lotus::wire`, so that
//! one mistake cannot hide in both.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lotus::wire::Meta;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// What travels: the bytes and the virtio-net header that goes with them.
#[derive(Clone, Debug)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub meta: Meta,
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Frame {
        Frame {
            bytes,
            meta: Meta::default(),
        }
    }
}

/// An 802.1Q or 802.1ad tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub tpid: u16,
    pub vid: u16,
}

/// A TCP segment to build.
#[derive(Clone, Debug)]
pub struct Segment {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub payload: Vec<u8>,
}

impl Segment {
    pub fn new(src: SocketAddr, dst: SocketAddr, flags: u8) -> Segment {
        Segment {
            src,
            dst,
            flags,
            seq: 1000,
            ack: 0,
            payload: Vec::new(),
        }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut l4 = Vec::new();
        l4.extend(self.src.port().to_be_bytes());
        l4.extend(self.dst.port().to_be_bytes());
        l4.extend(self.seq.to_be_bytes());
        l4.extend(self.ack.to_be_bytes());
        l4.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        l4.extend(&self.payload);
        ip(self.src.ip(), self.dst.ip(), TCP, &l4)
    }
}

pub fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut l4 = Vec::new();
    l4.extend(src.port().to_be_bytes());
    l4.extend(dst.port().to_be_bytes());
    l4.extend((8 + payload.len() as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(payload);
    ip(src.ip(), dst.ip(), UDP, &l4)
}

/// An echo request or any other ICMP message of eight bytes and more, checksum not yet in it.
pub fn icmp(src: IpAddr, dst: IpAddr, message: &[u8]) -> Vec<u8> {
    ip(src, dst, if src.is_ipv4() { ICMP } else { ICMPV6 }, message)
}

pub fn arp_request() -> Vec<u8> {
    let mut frame = ethernet(0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1]);
    frame.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 2]);
    frame
}

/// An Ethernet frame with an IP datagram around a transport header and its payload; fills in the
/// transport checksum.
pub fn ip(src: IpAddr, dst: IpAddr, protocol: u8, l4: &[u8]) -> Vec<u8> {
    let mut frame = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut frame = ethernet(0x0800);
            frame.extend([0x45, 0]);
            frame.extend((20 + l4.len() as u16).to_be_bytes());
            frame.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
            frame
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut frame = ethernet(0x86dd);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend((l4.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
            frame
        }
        _ => panic!("two families in one packet: {src} {dst}"),
    };
    frame.extend(l4);
    fix_checksums(&mut frame);
    frame
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// Where things are in a frame. Only what the hosts here send: no extension headers.
#[derive(Clone, Debug)]
pub struct View {
    pub tags: Vec<Tag>,
    pub ethertype: u16,
    pub ip: Option<IpView>,
}

#[derive(Clone, Debug)]
pub struct IpView {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    /// IPv4 identification, byte offset, more fragments; absent for whole datagrams.
    pub fragment: Option<(u16, usize, bool)>,
    pub l3_at: usize,
    pub l4_at: usize,
    pub end: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct TcpView {
    pub src_port: u16,
    pub dst_port: u16,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub payload_at: usize,
}

impl View {
    /// `None` for what is no frame that a host here could have sent.
    pub fn of(frame: &[u8]) -> Option<View> {
        let mut at = 12;
        let mut tags = Vec::new();
        let ethertype = loop {
            let kind = u16_at(frame, at)?;
            if !matches!(kind, 0x8100 | 0x88a8) {
                break kind;
            }
            tags.push(Tag {
                tpid: kind,
                vid: u16_at(frame, at + 2)? & 0xfff,
            });
            at += 4;
        };
        let l3 = at + 2;
        let ip = match ethertype {
            0x0800 => {
                let header = frame.get(l3..l3 + 20)?;
                let bits = u16_at(frame, l3 + 6)?;
                let (offset, more) = (usize::from(bits & 0x1fff) * 8, bits & 0x2000 != 0);
                let fragment =
                    (more || offset != 0).then_some((u16_at(frame, l3 + 4)?, offset, more));
                Some(IpView {
                    src: <[u8; 4]>::try_from(&header[12..16]).ok()?.into(),
                    dst: <[u8; 4]>::try_from(&header[16..20]).ok()?.into(),
                    protocol: header[9],
                    fragment,
                    l3_at: l3,
                    l4_at: l3 + usize::from(header[0] & 15) * 4,
                    end: l3 + usize::from(u16_at(frame, l3 + 2)?),
                })
            }
            0x86dd => {
                let header = frame.get(l3..l3 + 40)?;
                Some(IpView {
                    src: <[u8; 16]>::try_from(&header[8..24]).ok()?.into(),
                    dst: <[u8; 16]>::try_from(&header[24..40]).ok()?.into(),
                    protocol: header[6],
                    fragment: None,
                    l3_at: l3,
                    l4_at: l3 + 40,
                    end: l3 + 40 + usize::from(u16_at(frame, l3 + 4)?),
                })
            }
            _ => None,
        };
        if ip
            .as_ref()
            .is_some_and(|ip| ip.end > frame.len() || ip.l4_at > ip.end)
        {
            return None;
        }
        Some(View {
            tags,
            ethertype,
            ip,
        })
    }
}

impl IpView {
    /// The TCP header, if this is TCP and the header is here.
    pub fn tcp(&self, frame: &[u8]) -> Option<TcpView> {
        if self.protocol != TCP || self.fragment.is_some_and(|(_, offset, _)| offset != 0) {
            return None;
        }
        let header = frame.get(self.l4_at..self.l4_at + 20)?;
        Some(TcpView {
            src_port: u16_at(header, 0)?,
            dst_port: u16_at(header, 2)?,
            flags: header[13],
            seq: u32::from_be_bytes(header[4..8].try_into().ok()?),
            ack: u32::from_be_bytes(header[8..12].try_into().ok()?),
            payload_at: self.l4_at + usize::from(header[12] >> 4) * 4,
        })
    }

    /// Where in the transport header its checksum is.
    pub fn checksum_offset(&self) -> Option<usize> {
        match self.protocol {
            TCP => Some(16),
            UDP => Some(6),
            ICMP | ICMPV6 => Some(2),
            _ => None,
        }
    }

    /// The sum of the pseudo header.
    pub fn pseudo_sum(&self) -> u32 {
        if self.protocol == ICMP {
            return 0;
        }
        let sum = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => word_sum(&ip.octets()),
            IpAddr::V6(ip) => word_sum(&ip.octets()),
        };
        sum(self.src) + sum(self.dst) + u32::from(self.protocol) + (self.end - self.l4_at) as u32
    }
}

/// Writes the IPv4 header checksum and, in a whole datagram, the transport checksum.
pub fn fix_checksums(frame: &mut [u8]) {
    let Some(ip) = View::of(frame).and_then(|view| view.ip) else {
        return;
    };
    if ip.src.is_ipv4() {
        set_u16(frame, ip.l3_at + 10, 0);
        let sum = !folded(word_sum(&frame[ip.l3_at..ip.l4_at]));
        set_u16(frame, ip.l3_at + 10, sum);
    }
    if let (Some(offset), None) = (ip.checksum_offset(), ip.fragment) {
        set_u16(frame, ip.l4_at + offset, 0);
        let sum = !folded(ip.pseudo_sum() + word_sum(&frame[ip.l4_at..ip.end]));
        set_u16(frame, ip.l4_at + offset, sum);
    }
}

pub fn word_sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)))
        .sum()
}

pub fn folded(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// One line for a packet log.
pub struct Brief<'a>(pub &'a [u8]);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(view) = View::of(self.0) else {
            return write!(f, "unreadable, {} bytes", self.0.len());
        };
        for tag in &view.tags {
            write!(f, "[{:04x}:{}] ", tag.tpid, tag.vid)?;
        }
        let Some(ip) = view.ip else {
            return write!(f, "ethertype {:04x}", view.ethertype);
        };
        if let Some((id, offset, more)) = ip.fragment {
            write!(f, "frag {id:04x}@{offset}{} ", if more { "+" } else { "" })?;
        }
        let Some(tcp) = ip.tcp(self.0) else {
            return write!(f, "{} > {} proto {}", ip.src, ip.dst, ip.protocol);
        };
        let (src, dst) = (
            SocketAddr::new(ip.src, tcp.src_port),
            SocketAddr::new(ip.dst, tcp.dst_port),
        );
        write!(f, "{src} > {dst} ")?;
        for (bit, letter) in [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ACK, '.')] {
            if tcp.flags & bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        let payload = self.0.get(tcp.payload_at..ip.end).unwrap_or_default();
        write!(f, " seq {} ack {} len {}", tcp.seq, tcp.ack, payload.len())?;
        if [tcp.src_port, tcp.dst_port].contains(&21) && !payload.is_empty() {
            write!(
                f,
                " {:?}",
                String::from_utf8_lossy(&payload[..payload.len().min(60)])
            )?;
        }
        Ok(())
    }
}
