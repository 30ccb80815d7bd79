use super::{be16, be32, proto};
use crate::observe::DropReason;

/// The transport layer of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    /// A TCP segment.
    Tcp(TcpSegment),
    /// A UDP datagram.
    Udp(Udp),
    /// ICMP or ICMPv6: the protocol number of the packet tells which.
    Icmp(Icmp),
    /// A protocol that is told apart by its number alone.
    Other,
    /// A fragment: what it carries is known only when all of them are there.
    Unparsed,
}

/// The control bits of a TCP header, RFC 9293 section 3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;

    /// Whether any of these bits is set.
    #[must_use]
    pub fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// A flag combination that a TCP sends. Everything else is a scan or an evasion.
    #[must_use]
    pub fn is_sane(self) -> bool {
        let f = |bit| self.has(bit);
        match (f(Self::SYN), f(Self::RST), f(Self::FIN)) {
            (true, false, false) | (false, true, false) => true,
            (false, false, _) => f(Self::ACK),
            _ => false,
        }
    }
}

/// A TCP header and the options that tracking needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpSegment {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first byte (or of the SYN).
    pub seq: u32,
    /// Next sequence number expected from the other end, if ACK is set.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window as it stands in the header, not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Window scale shift count of a SYN, RFC 7323 section 2.2, at most 14.
    pub window_scale: Option<u8>,
    /// The SACK-permitted option of a SYN, RFC 2018.
    pub sack_permitted: bool,
    /// Highest right edge of the SACK blocks, if any.
    pub sack_end: Option<u32>,
    /// Where the payload begins in the frame.
    pub payload_offset: usize,
    /// Payload bytes.
    pub payload_bytes: u32,
}

impl TcpSegment {
    /// Sequence space that the segment takes: payload, SYN and FIN.
    #[must_use]
    pub fn seq_len(&self) -> u32 {
        self.payload_bytes
            + u32::from(self.flags.has(TcpFlags::SYN))
            + u32::from(self.flags.has(TcpFlags::FIN))
    }
}

/// A UDP header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Where the payload begins in the frame.
    pub payload_offset: usize,
}

/// The first bytes of an ICMP or ICMPv6 message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier; it means something for queries only.
    pub id: u16,
}

const TCP_MIN_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const ICMP_BYTES: usize = 8;
/// RFC 7323 section 2.3.
const MAX_WINDOW_SCALE: u8 = 14;

/// Parses the transport header at `at`, into its place; the datagram ends at `end`.
#[inline(always)]
pub(super) fn parse(
    frame: &[u8],
    at: usize,
    end: usize,
    protocol: u8,
    l4: &mut L4,
) -> Result<(), DropReason> {
    let bytes = frame.get(..end).unwrap_or_default();
    match protocol {
        proto::TCP => return tcp(bytes, at, l4),
        proto::UDP => {
            let bad = DropReason::UdpHeaderBad;
            let header = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(bad)?;
            let &[.., high, low, _, _]: &[u8; UDP_BYTES] = header;
            let length = usize::from(u16::from_be_bytes([high, low]));
            // Zero stands in UDP super-frames and in IPv6 jumbograms; those are not judged here.
            if length != 0 && (length < UDP_BYTES || at + length > end) {
                return Err(bad);
            }
            *l4 = L4::Udp(udp(header, at));
        }
        proto::ICMP | proto::ICMPV6 => {
            *l4 = L4::Icmp(icmp(bytes, at).ok_or(DropReason::IcmpHeaderBad)?);
        }
        _ => *l4 = L4::Other,
    }
    Ok(())
}

/// The fixed part of a transport header.
pub(super) fn min_header_bytes(protocol: u8) -> usize {
    match protocol {
        proto::TCP => TCP_MIN_BYTES,
        proto::UDP => UDP_BYTES,
        proto::ICMP | proto::ICMPV6 => ICMP_BYTES,
        _ => 0,
    }
}

/// Parses the first eight bytes of a quoted transport header.
pub(super) fn parse_quoted(quote: &[u8], at: usize, protocol: u8) -> Option<L4> {
    Some(match protocol {
        proto::TCP => L4::Tcp(TcpSegment {
            src_port: be16(quote, at)?,
            dst_port: be16(quote, at + 2)?,
            seq: be32(quote, at + 4)?,
            payload_offset: quote.len(),
            ..TcpSegment::default()
        }),
        proto::UDP => L4::Udp(udp(quote.get(at..)?.first_chunk()?, at)),
        proto::ICMP | proto::ICMPV6 => L4::Icmp(icmp(quote, at)?),
        _ => L4::Other,
    })
}

#[inline(always)]
fn tcp(bytes: &[u8], at: usize, l4: &mut L4) -> Result<(), DropReason> {
    let bad = DropReason::TcpHeaderBad;
    let header: &[u8; TCP_MIN_BYTES] = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(bad)?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    if header_bytes < TCP_MIN_BYTES {
        return Err(bad);
    }
    let options = bytes
        .get(at + TCP_MIN_BYTES..at + header_bytes)
        .ok_or(bad)?;
    let payload_offset = at + header_bytes;
    let segment = TcpSegment {
        src_port: u16::from_be_bytes([header[0], header[1]]),
        dst_port: u16::from_be_bytes([header[2], header[3]]),
        seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags: TcpFlags(header[13]),
        window: u16::from_be_bytes([header[14], header[15]]),
        urgent: u16::from_be_bytes([header[18], header[19]]),
        payload_offset,
        payload_bytes: u32::try_from(bytes.len() - payload_offset).map_err(|_| bad)?,
        ..TcpSegment::default()
    };
    if segment.src_port == 0 || segment.dst_port == 0 {
        return Err(bad);
    }
    if !segment.flags.is_sane() {
        return Err(DropReason::TcpFlagsBad);
    }
    // Into its place first; the few with other options are completed there.
    *l4 = L4::Tcp(segment);
    if let L4::Tcp(segment) = l4
        && !says_nothing_to_tracking(options)
    {
        tcp_options(options, segment);
    }
    Ok(())
}

/// No options, or just a timestamp behind two pads, as nearly all segments have it (RFC 7323
/// appendix A).
#[inline]
fn says_nothing_to_tracking(options: &[u8]) -> bool {
    options.is_empty() || (options.len() == 12 && options.starts_with(&[1, 1, 8, 10]))
}

/// Reads what tracking needs. An option whose length does not add up ends the reading, as it does
/// in the receivers.
#[inline(never)]
fn tcp_options(mut bytes: &[u8], segment: &mut TcpSegment) {
    let syn = segment.flags.has(TcpFlags::SYN);
    while let Some((&kind, rest)) = bytes.split_first() {
        match kind {
            0 => return,
            1 => {
                bytes = rest;
                continue;
            }
            _ => {}
        }
        let Some(&len) = rest.first() else { return };
        let Some(option) = bytes.get(2..usize::from(len)) else {
            return;
        };
        match (kind, option) {
            (3, &[shift]) if syn => segment.window_scale = Some(shift.min(MAX_WINDOW_SCALE)),
            (4, []) if syn => segment.sack_permitted = true,
            (5, blocks) => {
                for edge in blocks.chunks_exact(8).filter_map(|block| be32(block, 4)) {
                    // Later in sequence space, modulo 2^32.
                    let later = |best: u32| (edge.wrapping_sub(best) as i32) > 0;
                    if segment.sack_end.is_none_or(later) {
                        segment.sack_end = Some(edge);
                    }
                }
            }
            _ => {}
        }
        bytes = bytes.get(usize::from(len)..).unwrap_or_default();
    }
}

#[inline(always)]
fn udp(&[a, b, c, d, ..]: &[u8; UDP_BYTES], at: usize) -> Udp {
    Udp {
        src_port: u16::from_be_bytes([a, b]),
        dst_port: u16::from_be_bytes([c, d]),
        payload_offset: at + UDP_BYTES,
    }
}

fn icmp(bytes: &[u8], at: usize) -> Option<Icmp> {
    bytes.get(at..at + ICMP_BYTES)?;
    Some(Icmp {
        kind: *bytes.get(at)?,
        code: *bytes.get(at + 1)?,
        id: be16(bytes, at + 4)?,
    })
}
