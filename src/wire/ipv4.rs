use std::net::Ipv4Addr;
use std::ops::Range;

use super::{Fragment, Ip, L4, l4};
use crate::observe::DropReason;

const MIN_HEADER_BYTES: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;
/// Loose and strict source route, RFC 791 section 3.1.
const OPTION_LSRR: u8 = 131;
const OPTION_SSRR: u8 = 137;

/// RFC 791 section 3.1.
#[inline(always)]
pub(super) fn parse(frame: &[u8], at: usize, ip: &mut Option<Ip>) -> Result<(), DropReason> {
    let header = Header::of(frame, at)?;
    let total = usize::from(header.be16(2));
    if total == 0 {
        return Err(DropReason::IpLengthZero);
    }
    let (l4_offset, end) = (at + header.len(), at + total);
    if end < l4_offset {
        return Err(DropReason::IpHeaderBad);
    }
    if end > frame.len() {
        return Err(DropReason::FrameTruncated);
    }
    if header.len() > MIN_HEADER_BYTES {
        options(
            frame
                .get(at + MIN_HEADER_BYTES..l4_offset)
                .unwrap_or_default(),
        )?;
    }
    let ip = ip.insert(header.ip(at, at..end, L4::Unparsed));
    let bits = header.be16(6);
    if bits & (MORE_FRAGMENTS | OFFSET_MASK) == 0 {
        return l4::parse(frame, l4_offset, end, header.protocol(), &mut ip.l4);
    }
    ip.fragment = Some(Fragment {
        id: u32::from(header.be16(4)),
        offset_bytes: u32::from(bits & OFFSET_MASK) * 8,
        more: bits & MORE_FRAGMENTS != 0,
        data_offset: l4_offset,
        next_header_at: at + 9,
    });
    Ok(())
}

pub(super) fn parse_quoted(quote: &[u8]) -> Option<Ip> {
    let header = Header::of(quote, 0).ok()?;
    if header.be16(6) & OFFSET_MASK != 0 {
        return None;
    }
    // A quote that ends inside its own header says nothing, and offsets must stay inside it.
    quote.get(header.len()..)?;
    let l4 = l4::parse_quoted(quote, header.len(), header.protocol())?;
    Some(header.ip(0, 0..quote.len(), l4))
}

/// The part of the header that is always there.
struct Header<'a>(&'a [u8; MIN_HEADER_BYTES]);

impl Header<'_> {
    #[inline]
    fn of(bytes: &[u8], at: usize) -> Result<Header<'_>, DropReason> {
        let there = bytes.get(at..).and_then(<[u8]>::first_chunk);
        let header = Header(there.ok_or(DropReason::FrameTruncated)?);
        if header.0[0] >> 4 != 4 || header.len() < MIN_HEADER_BYTES {
            return Err(DropReason::IpHeaderBad);
        }
        Ok(header)
    }

    fn len(&self) -> usize {
        usize::from(self.0[0] & 0x0f) * 4
    }

    fn protocol(&self) -> u8 {
        self.0[9]
    }

    #[inline]
    fn be16(&self, at: usize) -> u16 {
        super::be16(self.0, at).unwrap_or_default()
    }

    #[inline]
    fn address(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(super::be32(self.0, at).unwrap_or_default())
    }

    #[inline(always)]
    fn ip(&self, at: usize, datagram: Range<usize>, l4: L4) -> Ip {
        Ip {
            src: self.address(12).into(),
            dst: self.address(16).into(),
            hop_limit: self.0[8],
            protocol: self.protocol(),
            datagram,
            l4_offset: at + self.len(),
            fragment: None,
            l4,
        }
    }
}

/// Refuses source routes and options whose lengths do not add up.
fn options(mut bytes: &[u8]) -> Result<(), DropReason> {
    while let Some((&kind, rest)) = bytes.split_first() {
        match kind {
            0 => return Ok(()),
            1 => bytes = rest,
            OPTION_LSRR | OPTION_SSRR => return Err(DropReason::IpSourceRoute),
            _ => {
                let len = usize::from(*rest.first().ok_or(DropReason::IpHeaderBad)?);
                if len < 2 {
                    return Err(DropReason::IpHeaderBad);
                }
                bytes = bytes.get(len..).ok_or(DropReason::IpHeaderBad)?;
            }
        }
    }
    Ok(())
}
