//! Any sequence of frames and pauses through the engine. [`Lab`] checks what must hold after each.
//!
//! Raw frames seldom get past the checksums, so most steps describe a segment of a connection
//! between the two hosts; sequence numbers are offsets from what the sender's TCP would send next.

use std::collections::HashMap;
use std::time::Duration;

use lotus::engine::{Settings, Verdict};
use lotus::observe::Event;
use lotus::wire::{Meta, Side, TcpFlags, VNET_HEADER_BYTES};

use super::lab::{self, Ends, Input, Lab, Tcp};

/// Longer sequences find nothing that shorter ones do not, and slow the search down.
const MAX_STEPS: usize = 256;

const INSIDE_PORTS: [u16; 4] = [40_000, 21, 5_000, 20];
const OUTSIDE_PORTS: [u16; 4] = [21, 40_001, 5_000, 53];

/// Window scale 7 and SACK permitted, as Linux sends them.
const SYN_OPTIONS: [u8; 8] = [3, 3, 7, 1, 4, 2, 1, 1];

/// The sender's kernel left the checksum to hardware: `struct virtio_net_hdr`, NEEDS_CSUM.
const PARTIAL: Meta = Meta {
    vnet: [1, 0, 0, 0, 0, 0, 34, 0, 16, 0],
};

/// The bits of the byte after a step's kind that say where its frame belongs.
const V6: u8 = 1;
const OUTSIDE: u8 = 0x80;
/// Bits of a segment's flags that TCP does not use here.
const WITH_OPTIONS: u8 = 0x80;
const PARTIAL_CHECKSUM: u8 = 0x40;

struct World {
    lab: Lab,
    /// The next sequence number of each sender.
    next: HashMap<(u8, Side), u32>,
    /// The last whole frame.
    last: Vec<u8>,
}

pub fn check(data: &[u8]) {
    let _ = told_by(data);
}

/// Checks an input and tells what happened.
pub fn told_by(data: &[u8]) -> Vec<Event> {
    let mut told = Vec::new();
    let mut input = Input::new(data);
    let mut world = World {
        lab: Lab::new(Settings::default()),
        next: HashMap::new(),
        last: lab::udp(Ends::new(false, 5_000, 53).from(Side::Inside), &[7; 200]),
    };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        told.extend(world.lab.events());
    }
    world.lab.end();
    told
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        if kind == b't' {
            let ticks = u64::from(input.u8());
            return self.lab.tick(Duration::from_millis(ticks * ticks * 10));
        }
        let place = input.u8();
        let side = if place & OUTSIDE != 0 {
            Side::Outside
        } else {
            Side::Inside
        };
        let ends = Ends::new(
            place & V6 != 0,
            INSIDE_PORTS[usize::from(place >> 1 & 3)],
            OUTSIDE_PORTS[usize::from(place >> 3 & 3)],
        );
        let way = ends.from(side);
        match kind {
            b's' => self.segment(input, place, side, ends),
            b'u' => {
                let len = usize::from(input.u8());
                let frame = lab::udp(way, input.take(len));
                self.whole(side, frame, &Meta::default());
            }
            b'p' => {
                let frame = lab::echo_request(way, input.u8());
                self.whole(side, frame, &Meta::default());
            }
            b'e' => {
                let frame = lab::unreachable(way, &self.last);
                self.lab.pass(side, frame, &Meta::default());
            }
            b'f' => {
                let (id, start, len) = (input.u8(), input.u8(), input.u8());
                let mut frame = lab::fragment(&self.last, id, usize::from(start), usize::from(len));
                lab::mark_side(&mut frame, side);
                self.lab.pass(side, frame, &Meta::default());
            }
            b'm' => {
                // The last frame once more, one byte of it changed.
                let (at, with) = (usize::from(input.u16()), input.u8());
                let mut frame = self.last.clone();
                let len = frame.len();
                frame[at % len] ^= with;
                lab::mark_side(&mut frame, side);
                self.lab.pass(side, frame, &Meta::default());
            }
            _ => {
                let vnet = input.take(usize::from(kind & 1) * VNET_HEADER_BYTES);
                let meta = Meta {
                    vnet: vnet.try_into().unwrap_or_default(),
                };
                let len = usize::from(input.u8());
                let mut frame = input.take(len).to_vec();
                lab::mark_side(&mut frame, side);
                // A released frame must be marked, so too short ones can't be followed; they are
                // dropped by the parser anyway.
                let passed = self.lab.pass(side, frame, &meta);
                assert!(len >= 14 || passed.verdict != Verdict::Forward);
            }
        }
    }

    /// A segment of a connection: flags, offset of its sequence number, of its acknowledgment,
    /// length of its payload, payload.
    fn segment(&mut self, input: &mut Input<'_>, place: u8, side: Side, ends: Ends) {
        let connection = place & !OUTSIDE;
        let bits = input.u8();
        let (seq_off, ack_off) = (input.u8() as i8, input.u8() as i8);
        let len = usize::from(input.u8());
        let payload = input.take(len).to_vec();
        let next = *self.next_of(connection, side);
        let acked = *self.next_of(connection, side.other());
        let segment = Tcp {
            seq: next.wrapping_add_signed(seq_off.into()),
            ack: acked.wrapping_add_signed(ack_off.into()),
            flags: bits & 0x3f,
            options: if bits & WITH_OPTIONS != 0 {
                SYN_OPTIONS.to_vec()
            } else {
                Vec::new()
            },
            payload,
            ..Tcp::new(ends, side)
        };
        let meta = if bits & PARTIAL_CHECKSUM != 0 {
            PARTIAL
        } else {
            Meta::default()
        };
        let end = segment.seq.wrapping_add(segment.seq_len());
        let passed = self.whole(side, segment.frame(), &meta);
        let is_rst = bits & TcpFlags::RST != 0;
        if seq_off == 0 && passed != Verdict::Held && !is_rst {
            *self.next_of(connection, side) = end;
        }
    }

    fn next_of(&mut self, connection: u8, side: Side) -> &mut u32 {
        // One of the two wraps around early.
        let first = match side {
            Side::Inside => u32::MAX - 40,
            Side::Outside => 5_000,
        };
        self.next.entry((connection, side)).or_insert(first)
    }

    fn whole(&mut self, side: Side, frame: Vec<u8>, meta: &Meta) -> Verdict {
        self.last.clone_from(&frame);
        self.lab.pass(side, frame, meta).verdict
    }
}
