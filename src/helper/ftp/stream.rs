use std::collections::VecDeque;
use std::ops::Range;

use crate::conntrack::{after, before};
use crate::wire::OwnedFrame;

/// Segments past a gap that are held, and their bytes. A control connection has a command or two in
/// flight; what goes beyond is dropped and TCP sends it again.
const MAX_HELD_SEGMENTS: usize = 32;
const MAX_HELD_BYTES: usize = 32 * 1024;

/// Original bytes kept until they are acknowledged, so that a retransmission can be compared.
const MAX_HISTORY_BYTES: usize = 64 * 1024;

/// One direction of a control connection, as an in-order stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The next sequence number to be read; `None` until the SYN was seen.
    next: Option<u32>,
    /// Nobody reads any more: only what was overwritten is remembered.
    is_blind: bool,
    /// The FIN was read: nothing new comes behind it.
    is_finished: bool,
    /// The original bytes right before `next` that nobody has acknowledged.
    history: VecDeque<u8>,
    /// Sequence ranges that were overwritten on their way, until they are acknowledged.
    overwritten: Vec<Range<u32>>,
    held: Vec<Held>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Held {
    seq: u32,
    frame: OwnedFrame,
}

/// How a segment stands to the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It continues the stream: its bytes from this offset on are new (none, if the offset is its
    /// length).
    New(usize),
    /// Bytes are missing before it.
    Gap,
    /// It changes bytes that were read already.
    Changed,
    /// Too much is unacknowledged to read more.
    Full,
}

impl Stream {
    /// A SYN with this sequence number begins the stream.
    pub(super) fn begin(&mut self, syn_seq: u32) {
        self.next = Some(syn_seq.wrapping_add(1));
        self.is_blind = false;
        self.is_finished = false;
        self.history.clear();
        self.overwritten.clear();
    }

    /// The stream begins with this byte, if it has not begun: nobody saw what was before.
    pub(super) fn begin_midstream(&mut self, seq: u32) {
        self.next.get_or_insert(seq);
    }

    /// How many bytes from this number on were acknowledged already, and are not compared.
    pub(super) fn acknowledged_from(&self, seq: u32) -> usize {
        let first = self
            .next
            .unwrap_or(seq)
            .wrapping_sub(self.history.len() as u32);
        if before(seq, first) {
            first.wrapping_sub(seq) as usize
        } else {
            0
        }
    }

    /// Bytes of frames that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Compares a segment with what was read.
    pub(super) fn arrival(&self, seq: u32, payload: &[u8]) -> Arrival {
        let Some(next) = self.next else {
            return Arrival::Gap;
        };
        if after(seq, next) {
            return Arrival::Gap;
        }
        let known = (next.wrapping_sub(seq) as usize).min(payload.len());
        let first = next.wrapping_sub(self.history.len() as u32);
        // What lies before the history was acknowledged: the receiver does not look at it again.
        let skip = self.acknowledged_from(seq);
        let at = if before(seq, first) {
            0
        } else {
            seq.wrapping_sub(first) as usize
        };
        let again = payload.get(skip..known).unwrap_or_default();
        let same = again
            .iter()
            .zip(self.history.iter().skip(at))
            .all(|(a, b)| a == b);
        if !same {
            return Arrival::Changed;
        }
        let new = payload.len() - known;
        if self.is_finished && new > 0 {
            return Arrival::Changed;
        }
        if self.history.len() + new > MAX_HISTORY_BYTES {
            return Arrival::Full;
        }
        Arrival::New(known)
    }

    /// Takes new bytes (and the FIN behind them) as read.
    pub(super) fn advance(&mut self, new: &[u8], fin: bool) {
        if let Some(next) = &mut self.next
            && !self.is_blind
        {
            *next = next.wrapping_add(new.len() as u32);
            self.history.extend(new);
            if fin {
                // The FIN takes a number; a byte in the history keeps the arithmetic simple.
                *next = next.wrapping_add(1);
                self.history.push_back(0);
                self.is_finished = true;
            }
        }
    }

    /// Remembers that these bytes left as something else.
    pub(super) fn overwrote(&mut self, seq: Range<u32>) {
        if let Some(last) = self.overwritten.last_mut()
            && last.end == seq.start
        {
            last.end = seq.end;
            return;
        }
        self.overwritten.push(seq);
    }

    /// The parts of a segment, as offsets into its payload, that must be overwritten again.
    pub(super) fn to_overwrite(&self, seq: u32, len: usize) -> Vec<Range<usize>> {
        let offset = |s: u32| {
            if before(s, seq) {
                0
            } else {
                (s.wrapping_sub(seq) as usize).min(len)
            }
        };
        self.overwritten
            .iter()
            .map(|range| offset(range.start)..offset(range.end))
            .filter(|range| !range.is_empty())
            .collect()
    }

    /// The receiver acknowledged everything before this number.
    pub(super) fn acknowledged(&mut self, ack: u32) {
        if self.is_blind {
            self.overwritten.retain(|range| after(range.end, ack));
        }
        let Some(next) = self.next else { return };
        if self.is_blind || after(ack, next) {
            return;
        }
        let kept = next.wrapping_sub(ack) as usize;
        if kept < self.history.len() {
            self.history.drain(..self.history.len() - kept);
        }
        self.overwritten.retain(|range| after(range.end, ack));
        if self.history.is_empty() && self.history.capacity() > 0 {
            self.history.shrink_to_fit();
        }
    }

    /// The receiver has more than was seen of a stream that was met in the middle: it goes on there.
    pub(super) fn catch_up(&mut self, ack: u32) {
        if let Some(next) = &mut self.next
            && after(ack, *next)
        {
            *next = ack;
            self.history.clear();
        }
    }

    /// Whether a segment that ends here, and brings this many new bytes, brings the stream's next
    /// bytes: then a FIN on it is new, too.
    pub(super) fn is_next(&self, end: u32, new_bytes: usize) -> bool {
        self.next
            .is_some_and(|next| next.wrapping_add(new_bytes as u32) == end)
    }

    /// From now on bytes pass unread.
    pub(super) fn stop_reading(&mut self) {
        self.is_blind = true;
        self.history = VecDeque::new();
    }

    /// Holds a segment past a gap; `false` if there is no room, or the same one is held.
    pub(super) fn hold(&mut self, seq: u32, frame: OwnedFrame) -> bool {
        let bytes = frame.frame().len();
        if self.held.len() >= MAX_HELD_SEGMENTS
            || self.held_bytes + bytes > MAX_HELD_BYTES
            || self.held.iter().any(|held| held.seq == seq)
        {
            return false;
        }
        self.held_bytes += bytes;
        self.held.push(Held { seq, frame });
        true
    }

    /// A held segment that is no longer past a gap.
    pub(super) fn next_held(&mut self) -> Option<OwnedFrame> {
        let next = self.next?;
        let position = self.held.iter().position(|held| !after(held.seq, next))?;
        let held = self.held.remove(position);
        self.held_bytes -= held.frame.frame().len();
        Some(held.frame)
    }

    /// Everything that is held, in stream order.
    pub(super) fn drain_held(&mut self) -> Vec<OwnedFrame> {
        self.held_bytes = 0;
        let mut held = std::mem::take(&mut self.held);
        let first = self.next.unwrap_or_default();
        held.sort_by_key(|held| held.seq.wrapping_sub(first));
        held.into_iter().map(|held| held.frame).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Meta;

    fn stream() -> Stream {
        let mut stream = Stream::default();
        stream.begin(u32::MAX - 3);
        stream
    }

    fn frame(bytes: usize) -> OwnedFrame {
        OwnedFrame::copy_of(&vec![0; bytes], &Meta::default())
    }

    const FIRST: u32 = u32::MAX - 2;

    #[test]
    fn new_bytes_are_those_never_read() {
        let mut s = stream();
        assert_eq!(s.arrival(FIRST, b"PASV"), Arrival::New(0));
        s.advance(b"PASV", false);
        assert_eq!(s.arrival(FIRST, b"PASV\r\n"), Arrival::New(4));
        assert_eq!(s.arrival(FIRST, b"PA"), Arrival::New(2));
        assert_eq!(s.arrival(FIRST.wrapping_add(5), b"\n"), Arrival::Gap);
    }

    #[test]
    fn a_changed_retransmission_is_seen_until_acknowledged() {
        let mut s = stream();
        s.advance(b"PORT 1", false);
        assert_eq!(s.arrival(FIRST.wrapping_add(2), b"RTx1"), Arrival::Changed);
        assert_eq!(s.arrival(FIRST.wrapping_add(2), b"RT 1"), Arrival::New(4));
        s.acknowledged(FIRST.wrapping_add(4));
        assert_eq!(s.arrival(FIRST.wrapping_add(2), b"xx 1"), Arrival::New(4));
        assert_eq!(s.arrival(FIRST.wrapping_add(2), b"xx y"), Arrival::Changed);
    }

    #[test]
    fn an_acknowledgment_of_what_was_not_read_frees_nothing() {
        let mut s = stream();
        s.advance(b"PORT 1", false);
        s.acknowledged(FIRST.wrapping_add(100));
        assert_eq!(s.arrival(FIRST, b"QUIT"), Arrival::Changed);
    }

    #[test]
    fn overwritten_bytes_are_overwritten_again_however_they_are_cut() {
        let mut s = stream();
        s.advance(b"PORT 1,2\r\n", false);
        s.overwrote(FIRST..FIRST.wrapping_add(5));
        s.overwrote(FIRST.wrapping_add(5)..FIRST.wrapping_add(8));
        assert_eq!(s.to_overwrite(FIRST, 10), vec![0..8]);
        assert_eq!(s.to_overwrite(FIRST.wrapping_add(6), 4), vec![0..2]);
        assert!(s.to_overwrite(FIRST.wrapping_add(8), 2).is_empty());
        s.acknowledged(FIRST.wrapping_add(10));
        assert!(s.to_overwrite(FIRST, 10).is_empty());
    }

    #[test]
    fn holding_is_bounded_and_comes_out_in_order() {
        let mut s = stream();
        assert!(s.hold(FIRST.wrapping_add(8), frame(80)));
        assert!(!s.hold(FIRST.wrapping_add(8), frame(80)), "the same one");
        assert!(s.hold(FIRST.wrapping_add(4), frame(40)));
        assert!(s.next_held().is_none());
        s.advance(b"PASV", false);
        assert_eq!(s.next_held().unwrap().frame().len(), 40);
        assert!(s.next_held().is_none());
        let mut held = 1;
        while s.hold(FIRST.wrapping_add(100 + held), frame(60)) {
            held += 1;
        }
        assert_eq!(held as usize, MAX_HELD_SEGMENTS);
        assert!(!stream().hold(9, frame(MAX_HELD_BYTES + 1)));
        assert_eq!(s.drain_held().len(), MAX_HELD_SEGMENTS);
    }

    #[test]
    fn nothing_comes_behind_the_fin() {
        let mut s = stream();
        s.advance(b"QUIT\r\n", true);
        assert_eq!(
            s.arrival(FIRST, b"QUIT\r\n"),
            Arrival::New(6),
            "the same again"
        );
        assert_eq!(s.arrival(FIRST.wrapping_add(7), b"PASV"), Arrival::Changed);
    }

    #[test]
    fn history_is_bounded() {
        let mut s = stream();
        s.advance(&vec![b'a'; MAX_HISTORY_BYTES], false);
        let next = FIRST.wrapping_add(MAX_HISTORY_BYTES as u32);
        assert_eq!(s.arrival(next, b"b"), Arrival::Full);
        s.acknowledged(next);
        assert_eq!(s.arrival(next, b"b"), Arrival::New(0));
    }
}
