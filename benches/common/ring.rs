//! Frames where a worker finds them: in the slots of a receive ring, the same memory again and
//! again, as [`lotus::io::afpacket`] lays it out.

use lotus::wire::{Side, VNET_HEADER_BYTES};

use super::BATCH;

/// Slots of a ring, lotus's default.
const SLOTS: usize = 4096;
pub const BATCHES: usize = SLOTS / BATCH;

/// From one slot to the next for an MTU of 1500: whole cache lines, an odd number of them.
const STRIDE_BYTES: usize = 25 * CACHE_LINE_BYTES;
const CACHE_LINE_BYTES: usize = 64;

/// Where the frame begins in its slot: behind the kernel's header, such that the IP header is
/// aligned to 16 bytes.
const FRAME_AT: usize = 96 - 14;

pub struct Ring {
    memory: Vec<u8>,
    /// Bytes before the first slot, so that slots begin at cache lines.
    pad: usize,
    batches: Vec<Batch>,
    next: usize,
}

#[derive(Clone, Copy)]
struct Batch {
    side: Side,
    lengths: [u16; BATCH],
}

impl Ring {
    pub fn new() -> Ring {
        let memory = vec![0; CACHE_LINE_BYTES + SLOTS * STRIDE_BYTES];
        let pad = memory.as_ptr().align_offset(CACHE_LINE_BYTES);
        let empty = Batch {
            side: Side::Inside,
            lengths: [0; BATCH],
        };
        Ring {
            memory,
            pad,
            batches: vec![empty; BATCHES],
            next: 0,
        }
    }

    /// Fills the next [`BATCH`] slots with frames that came in at `side`; `write` is given the
    /// frame's number and its place, and says how long it is. Returns the batch's number.
    pub fn fill(&mut self, side: Side, mut write: impl FnMut(usize, &mut [u8]) -> usize) -> usize {
        let batch = self.next;
        self.next = (batch + 1) % BATCHES;
        let mut lengths = [0; BATCH];
        for (index, length) in lengths.iter_mut().enumerate() {
            let at = self.frame_at(batch, index);
            let room = &mut self.memory[at..at + STRIDE_BYTES - FRAME_AT];
            *length = write(index, room) as u16;
        }
        self.batches[batch] = Batch { side, lengths };
        batch
    }

    /// Where the frames of a batch came in.
    pub fn side(&self, batch: usize) -> Side {
        self.batches[batch].side
    }

    /// The frames of a batch, in order.
    pub fn frames(&mut self, batch: usize) -> impl Iterator<Item = &mut [u8]> {
        let first = self.pad + batch * BATCH * STRIDE_BYTES;
        self.memory[first..first + BATCH * STRIDE_BYTES]
            .chunks_exact_mut(STRIDE_BYTES)
            .zip(&self.batches[batch].lengths)
            .map(|(slot, &length)| &mut slot[FRAME_AT..FRAME_AT + usize::from(length)])
    }

    /// One frame of a batch.
    pub fn frame(&mut self, batch: usize, index: usize) -> &mut [u8] {
        let at = self.frame_at(batch, index);
        let length = usize::from(self.batches[batch].lengths[index]);
        &mut self.memory[at..at + length]
    }

    /// The same with its virtio-net header, which is all zero.
    pub fn with_header(&self, batch: usize, index: usize) -> &[u8] {
        let at = self.frame_at(batch, index);
        let length = usize::from(self.batches[batch].lengths[index]);
        &self.memory[at - VNET_HEADER_BYTES..at + length]
    }

    fn frame_at(&self, batch: usize, index: usize) -> usize {
        self.pad + (batch * BATCH + index) * STRIDE_BYTES + FRAME_AT
    }
}
