use std::net::Ipv6Addr;

use super::{Fragment, Ip, L4, be16, be32, l4, proto};
use crate::observe::DropReason;

const HEADER_BYTES: usize = 40;
const FRAGMENT_HEADER_BYTES: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AUTH: u8 = 51;
const NO_NEXT: u8 = 59;
const DEST_OPTIONS: u8 = 60;

/// A packet needs at most hop-by-hop, two destination options, routing, fragment and
/// authentication (RFC 8200 section 4.1); more is a chain made to hide something.
const MAX_EXTENSION_HEADERS: usize = 6;

/// RFC 8200 sections 3 and 4.
pub(super) fn parse(frame: &[u8], at: usize, ip: &mut Option<Ip>) -> Result<(), DropReason> {
    let ip = ip.insert(header(frame, at)?);
    let length = usize::from(be16(frame, at + 4).ok_or(DropReason::FrameTruncated)?);
    if length == 0 && ip.protocol == HOP_BY_HOP {
        return Err(DropReason::IpLengthZero);
    }
    let end = at + HEADER_BYTES + length;
    if end > frame.len() {
        return Err(DropReason::FrameTruncated);
    }
    ip.datagram = at..end;
    let bytes = frame.get(..end).unwrap_or_default();
    chain(bytes, ip, at + 6)?;
    if ip.fragment.is_none() {
        l4::parse(frame, ip.l4_offset, end, ip.protocol, &mut ip.l4)?;
    }
    Ok(())
}

pub(super) fn parse_quoted(quote: &[u8]) -> Option<Ip> {
    let mut ip = header(quote, 0).ok()?;
    ip.datagram = 0..quote.len();
    chain(quote, &mut ip, 6).ok()?;
    if ip.fragment.is_some_and(|f| f.offset_bytes != 0) {
        return None;
    }
    ip.l4 = l4::parse_quoted(quote, ip.l4_offset, ip.protocol)?;
    Some(ip)
}

/// The transport protocol of a first fragment and where its header begins, if all extension headers
/// are there.
pub(super) fn behind_fragment_header(bytes: &[u8], ip: &Ip) -> Option<(u8, usize)> {
    let fragment_header_at = ip.l4_offset.checked_sub(FRAGMENT_HEADER_BYTES)?;
    let mut inner = Ip {
        fragment: None,
        ..ip.clone()
    };
    // A hop-by-hop header never comes here, nor a second fragment header.
    if inner.protocol == HOP_BY_HOP {
        return None;
    }
    chain(bytes, &mut inner, fragment_header_at).ok()?;
    inner
        .fragment
        .is_none()
        .then_some((inner.protocol, inner.l4_offset))
}

fn header(bytes: &[u8], at: usize) -> Result<Ip, DropReason> {
    let cut = DropReason::FrameTruncated;
    let first = *bytes.get(at).ok_or(cut)?;
    if first >> 4 != 6 {
        return Err(DropReason::IpHeaderBad);
    }
    let address = |at: usize| -> Result<Ipv6Addr, DropReason> {
        let octets: [u8; 16] = *bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(cut)?;
        Ok(octets.into())
    };
    Ok(Ip {
        src: address(at + 8)?.into(),
        dst: address(at + 24)?.into(),
        hop_limit: *bytes.get(at + 7).ok_or(cut)?,
        protocol: *bytes.get(at + 6).ok_or(cut)?,
        datagram: at..at,
        l4_offset: at + HEADER_BYTES,
        fragment: None,
        l4: L4::Unparsed,
    })
}

/// Walks the extension headers; leaves `ip` at the transport header or at the fragment's bytes.
fn chain(bytes: &[u8], ip: &mut Ip, mut next_header_at: usize) -> Result<(), DropReason> {
    let cut = DropReason::Ipv6ChainBad;
    for position in 0..=MAX_EXTENSION_HEADERS {
        let at = ip.l4_offset;
        let header_bytes = match ip.protocol {
            HOP_BY_HOP if position != 0 => return Err(DropReason::Ipv6ChainBad),
            HOP_BY_HOP | DEST_OPTIONS => (usize::from(*bytes.get(at + 1).ok_or(cut)?) + 1) * 8,
            ROUTING => {
                // RFC 5095 deprecates type 0; segments left of 0 is just history.
                let (kind, left) = (bytes.get(at + 2).ok_or(cut)?, bytes.get(at + 3).ok_or(cut)?);
                if *kind == 0 || *left != 0 {
                    return Err(DropReason::IpSourceRoute);
                }
                (usize::from(*bytes.get(at + 1).ok_or(cut)?) + 1) * 8
            }
            AUTH => (usize::from(*bytes.get(at + 1).ok_or(cut)?) + 2) * 4,
            FRAGMENT => {
                let bits = be16(bytes, at + 2).ok_or(cut)?;
                let fragment = Fragment {
                    id: be32(bytes, at + 4).ok_or(cut)?,
                    offset_bytes: u32::from(bits & 0xfff8),
                    more: bits & 1 != 0,
                    data_offset: at + FRAGMENT_HEADER_BYTES,
                    next_header_at,
                };
                // An atomic fragment is a whole datagram (RFC 6946).
                if fragment.more || fragment.offset_bytes != 0 {
                    ip.fragment = Some(fragment);
                    ip.protocol = *bytes.get(at).ok_or(cut)?;
                    ip.l4_offset = fragment.data_offset;
                    return Ok(());
                }
                FRAGMENT_HEADER_BYTES
            }
            NO_NEXT | ESP => return Ok(()),
            _ if is_extension(ip.protocol) => return Err(DropReason::Ipv6ChainBad),
            _ => return Ok(()),
        };
        next_header_at = at;
        ip.protocol = *bytes.get(at).ok_or(cut)?;
        ip.l4_offset = at + header_bytes;
        if ip.l4_offset > bytes.len() {
            return Err(DropReason::Ipv6ChainBad);
        }
    }
    Err(DropReason::Ipv6ChainBad)
}

/// Extension headers that lotus does not walk: mobility, HIP, shim6, and the experimental two
/// (IANA "IPv6 Extension Header Types").
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 135 | 139 | 140 | 253 | 254) && protocol != proto::ICMPV6
}
