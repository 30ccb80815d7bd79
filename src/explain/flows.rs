//! Numbers for flows, and where their sequence numbers begin.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};

use crate::conntrack::{FlowKey, Tuple};
use crate::wire::{L4, Packet, TcpFlags, TcpSegment};

/// Conversations that are remembered; the oldest is forgotten first. More than the flow table has
/// by default.
const MAX_REMEMBERED: usize = 1 << 20;

/// All conversations seen, tracked or not.
#[derive(Debug, Default)]
pub(super) struct Flows {
    known: HashMap<FlowKey, Known>,
    oldest: VecDeque<FlowKey>,
    hasher: RandomState,
    begun: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// The number of the flow that was tracked latest.
    number: Option<u64>,
    /// The sequence number with which the lower and the higher end began.
    base: [Option<u32>; 2],
    /// TCP segments from the lower and the higher end.
    segments: [u32; 2],
}

/// So many segments from one end and none from the other are no accident.
const ONE_WAY_SEGMENTS: u32 = 3;

impl Flows {
    /// The number of the flow that the packet begins (`begun`) or belongs to.
    pub(super) fn number(&mut self, tuple: &Tuple, begun: bool) -> Option<u64> {
        let (known, _) = self.known(tuple);
        if !begun {
            return known.number;
        }
        self.begun += 1;
        let number = self.begun;
        self.known(tuple).0.number = Some(number);
        Some(number)
    }

    /// From where the sender's and the receiver's sequence numbers of a TCP segment are counted.
    pub(super) fn base(&mut self, packet: &Packet) -> Option<[u32; 2]> {
        let L4::Tcp(segment) = &packet.ip.as_ref()?.l4 else {
            return None;
        };
        let tuple = Tuple::of(packet)?;
        let (known, from_low) = self.known(&tuple);
        let [from_low_end, from_high_end] = &mut known.segments;
        let segments = if from_low {
            from_low_end
        } else {
            from_high_end
        };
        *segments = segments.saturating_add(1);
        let [low, high] = &mut known.base;
        let (own, other) = if from_low { (low, high) } else { (high, low) };
        Some(update(own, other, segment))
    }

    /// TCP connections of which only one direction was captured.
    pub(super) fn one_way(&self) -> u64 {
        let is_one_way = |known: &&Known| {
            let [low, high] = known.segments;
            low.min(high) == 0 && low.max(high) >= ONE_WAY_SEGMENTS
        };
        self.known.values().filter(is_one_way).count() as u64
    }

    fn known(&mut self, tuple: &Tuple) -> (&mut Known, bool) {
        let (key, from_low) = FlowKey::new(tuple, &self.hasher);
        if self.known.len() >= MAX_REMEMBERED
            && !self.known.contains_key(&key)
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.known.remove(&oldest);
        }
        let known = match self.known.entry(key) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(vacant) => {
                self.oldest.push_back(key);
                vacant.insert(Known::default())
            }
        };
        (known, from_low)
    }
}

fn update(own: &mut Option<u32>, other: &mut Option<u32>, segment: &TcpSegment) -> [u32; 2] {
    let has_ack = segment.flags.has(TcpFlags::ACK);
    if segment.flags.has(TcpFlags::SYN) {
        if !has_ack && *own != Some(segment.seq) {
            // Another connection on the same ports.
            *other = None;
        }
        *own = Some(segment.seq);
    }
    // Seen from its middle, a connection begins with byte 1.
    let own = *own.get_or_insert(segment.seq.wrapping_sub(1));
    if has_ack {
        let other = *other.get_or_insert(segment.ack.wrapping_sub(1));
        return [own, other];
    }
    [own, other.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, seq: u32, ack: u32) -> TcpSegment {
        TcpSegment {
            seq,
            ack,
            flags: TcpFlags(flags),
            ..TcpSegment::default()
        }
    }

    const SYN: u8 = TcpFlags::SYN;
    const ACK: u8 = TcpFlags::ACK;

    #[test]
    fn a_connection_is_counted_from_its_syns() {
        let (mut client, mut server) = (None, None);
        assert_eq!(
            update(&mut client, &mut server, &segment(SYN, 100, 0)),
            [100, 0]
        );
        assert_eq!(
            update(&mut server, &mut client, &segment(SYN | ACK, 900, 101)),
            [900, 100]
        );
        assert_eq!(
            update(&mut client, &mut server, &segment(ACK, 101, 901)),
            [100, 900]
        );
        // A new connection on the same ports.
        assert_eq!(
            update(&mut client, &mut server, &segment(SYN, 500, 0)),
            [500, 0]
        );
        assert_eq!(server, None);
    }

    #[test]
    fn one_seen_from_its_middle_begins_at_one() {
        let (mut client, mut server) = (None, None);
        assert_eq!(
            update(&mut client, &mut server, &segment(ACK, 0, 70)),
            [u32::MAX, 69]
        );
    }
}
