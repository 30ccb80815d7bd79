//! Changes in place that keep a TCP checksum right.

use std::ops::Range;

use super::{ChecksumState, Ip, L4, TcpFlags, checksum};

const CHECKSUM_OFFSET: usize = 16;
const FLAGS_OFFSET: usize = 13;
const URGENT_OFFSET: usize = 18;

/// Overwrites a range of a TCP segment (given as a range of the frame) with one byte. A full
/// checksum is updated (RFC 1624); a partial one covers the pseudo header alone and stays.
pub fn overwrite(frame: &mut [u8], ip: &Ip, state: ChecksumState, range: Range<usize>, with: u8) {
    change(frame, ip, state, range, |_, _| with);
}

/// Clears the URG flag and the urgent pointer of a TCP segment.
pub fn clear_urgent(frame: &mut [u8], ip: &Ip, state: ChecksumState) {
    let L4::Tcp(_) = ip.l4 else { return };
    let at = ip.l4_offset;
    change(
        frame,
        ip,
        state,
        at + FLAGS_OFFSET..at + FLAGS_OFFSET + 1,
        |_, b| b & !TcpFlags::URG,
    );
    change(
        frame,
        ip,
        state,
        at + URGENT_OFFSET..at + URGENT_OFFSET + 2,
        |_, _| 0,
    );
}

fn change(
    frame: &mut [u8],
    ip: &Ip,
    state: ChecksumState,
    range: Range<usize>,
    to: impl Fn(usize, u8) -> u8,
) {
    let start = ip.l4_offset;
    let Some(segment) = frame.get_mut(start..ip.datagram.end) else {
        return;
    };
    let Some(sum) = segment
        .get(CHECKSUM_OFFSET..)
        .and_then(|b| b.first_chunk::<2>())
    else {
        return;
    };
    let mut sum = u16::from_be_bytes(*sum);
    let (from, until) = (
        range.start.saturating_sub(start),
        range.end.saturating_sub(start),
    );
    let mut word_at = from & !1;
    while word_at < until.min(segment.len()) {
        let end = (word_at + 2).min(segment.len());
        let Some(word) = segment.get_mut(word_at..end) else {
            break;
        };
        let old = word_of(word);
        for (i, byte) in word.iter_mut().enumerate() {
            if (from..until).contains(&(word_at + i)) {
                *byte = to(word_at + i, *byte);
            }
        }
        sum = checksum::updated(sum, old, word_of(word));
        word_at += 2;
    }
    if state != ChecksumState::Partial
        && let Some(field) = segment.get_mut(CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2)
    {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The word as the checksum sees it: an odd last byte is padded with zero.
fn word_of(bytes: &[u8]) -> u16 {
    match *bytes {
        [high, low] => u16::from_be_bytes([high, low]),
        [high] => u16::from_be_bytes([high, 0]),
        _ => 0,
    }
}
