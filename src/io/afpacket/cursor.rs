use std::io;

/// How a receive ring is laid out in memory: blocks of whole pages, each with as many slots as
/// fit, the rest of a block unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// From one slot to the next within a block.
    pub(super) stride_bytes: usize,
    /// One block.
    pub(super) block_bytes: usize,
    /// Slots in one block.
    pub(super) slots_per_block: usize,
    /// Blocks.
    pub(super) blocks: usize,
}

/// Few large blocks: each is one physically contiguous piece of kernel memory.
const BLOCK_BYTES: usize = 256 * 1024;

/// 100 MiB of locked memory at an MTU of 1500, and 65 ms at a million frames a second: what waits
/// longer is better lost.
pub const SLOTS_MAX: usize = 1 << 16;

/// A slot begins at a cache line, and takes an odd number of them, so that the headers of
/// neighbouring slots spread over all sets of the cache.
const CACHE_LINE_BYTES: usize = 64;

/// The largest slot: a jumbo frame of MTU 9216 with two tags. Longer frames take the copy path.
const STRIDE_MAX_BYTES: usize = 147 * CACHE_LINE_BYTES;

/// The kernel's own header and padding before a frame ([`super::ring`]), the Ethernet header and
/// one tag that stays in the frame (the outer one is stripped).
const OVERHEAD_BYTES: usize = 80 + 14 + 4;

impl Layout {
    /// A ring of at least `slots` slots in which frames of an interface with this MTU fit.
    ///
    /// # Errors
    ///
    /// No slots, or far more than are of use.
    pub(super) fn new(slots: usize, mtu: usize) -> io::Result<Layout> {
        if slots == 0 || slots > SLOTS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a ring of {slots} slots: it must be 1 to {SLOTS_MAX}"),
            ));
        }
        let lines = (OVERHEAD_BYTES + mtu).div_ceil(CACHE_LINE_BYTES) | 1;
        let stride_bytes = (lines * CACHE_LINE_BYTES).min(STRIDE_MAX_BYTES);
        let slots_per_block = BLOCK_BYTES / stride_bytes;
        let blocks = slots.div_ceil(slots_per_block);
        Ok(Layout {
            stride_bytes,
            block_bytes: BLOCK_BYTES,
            slots_per_block,
            blocks,
        })
    }

    pub(super) fn slots(&self) -> usize {
        self.slots_per_block * self.blocks
    }

    pub(super) fn bytes(&self) -> usize {
        self.block_bytes * self.blocks
    }
}

/// A slot of the ring, moved on without a division.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    block: usize,
    slot_in_block: usize,
    offset_bytes: usize,
}

/// Where a slot begins in the ring's memory. Only a [`Cursor`] makes one (or the default, the
/// first slot), so that it is always inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotOffset(usize);

impl SlotOffset {
    pub(super) fn bytes(self) -> usize {
        self.0
    }
}

impl Cursor {
    /// Where the slot begins.
    pub(super) fn offset(&self) -> SlotOffset {
        SlotOffset(self.offset_bytes)
    }

    /// The slot after this one.
    #[must_use]
    pub(super) fn next(self, layout: &Layout) -> Cursor {
        if self.slot_in_block + 1 < layout.slots_per_block {
            return Cursor {
                slot_in_block: self.slot_in_block + 1,
                offset_bytes: self.offset_bytes + layout.stride_bytes,
                ..self
            };
        }
        let block = if self.block + 1 < layout.blocks {
            self.block + 1
        } else {
            0
        };
        Cursor {
            block,
            slot_in_block: 0,
            offset_bytes: block * layout.block_bytes,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// The kernel's own formula (`packet_lookup_frame`).
    fn oracle(layout: &Layout, slot: usize) -> usize {
        let slot = slot % layout.slots();
        slot / layout.slots_per_block * layout.block_bytes
            + slot % layout.slots_per_block * layout.stride_bytes
    }

    #[test]
    fn cursor_agrees_with_the_kernels_formula_over_several_rounds() {
        for (slots, mtu) in [
            (1, 1500),
            (3, 65_535),
            (163, 1500),
            (164, 1500),
            (4096, 1500),
            (500, 9000),
        ] {
            let layout = Layout::new(slots, mtu).unwrap();
            let mut cursor = Cursor::default();
            for step in 0..3 * layout.slots() + 7 {
                assert_eq!(
                    cursor.offset().bytes(),
                    oracle(&layout, step),
                    "{layout:?} step {step}"
                );
                assert!(cursor.offset().bytes() + layout.stride_bytes <= layout.bytes());
                cursor = cursor.next(&layout);
            }
        }
    }

    #[test]
    fn slots_hold_a_frame_of_the_mtu_and_stay_bounded() {
        for mtu in [68, 1280, 1500, 4000, 9000, 9216] {
            let layout = Layout::new(2048, mtu).unwrap();
            assert!(layout.stride_bytes >= mtu + OVERHEAD_BYTES, "MTU {mtu}");
            assert_eq!(layout.stride_bytes / CACHE_LINE_BYTES % 2, 1);
            assert!(layout.slots() >= 2048);
        }
        assert_eq!(
            Layout::new(2048, 65_535).unwrap().stride_bytes,
            STRIDE_MAX_BYTES
        );
        assert!(Layout::new(0, 1500).is_err());
        assert!(Layout::new(usize::MAX, 1500).is_err());
    }
}
