use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::DropReason;

const REASONS: usize = DropReason::ALL.len();

/// Frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Bytes of those frames, without FCS.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Cell {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Cell {
    /// One thread writes a block of counters, so a load and a store do and no locked instruction
    /// is needed; others only read.
    fn add(&self, frames: u64, bytes: usize) {
        self.frames
            .store(self.frames.load(Relaxed).wrapping_add(frames), Relaxed);
        self.bytes
            .store(self.bytes.load(Relaxed).wrapping_add(bytes as u64), Relaxed);
    }

    fn read(&self) -> Traffic {
        Traffic {
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}

/// The counters of one thread. Only that thread writes them.
///
/// The law: `received = forwarded + dropped (by reason) + held`; frames that lotus made are
/// counted apart.
#[derive(Debug)]
pub struct Counters {
    received: [Cell; 2],
    forwarded: [Cell; 2],
    dropped: [Cell; REASONS],
    held: Cell,
    unheld: Cell,
    generated: Cell,
    ring_lost: AtomicU64,
    answers_suppressed: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            received: Default::default(),
            forwarded: Default::default(),
            dropped: std::array::from_fn(|_| Cell::default()),
            held: Cell::default(),
            unheld: Cell::default(),
            generated: Cell::default(),
            ring_lost: AtomicU64::new(0),
            answers_suppressed: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// A frame came in at the port with this index.
    pub fn received(&self, side: usize, bytes: usize) {
        if let Some(cell) = self.received.get(side) {
            cell.add(1, bytes);
        }
    }

    /// A frame that had been received left by the port with this index.
    pub fn forwarded(&self, side: usize, bytes: usize) {
        if let Some(cell) = self.forwarded.get(side) {
            cell.add(1, bytes);
        }
    }

    /// A frame was dropped.
    pub fn dropped(&self, reason: DropReason, bytes: usize) {
        if let Some(cell) = self.dropped.get(reason.index()) {
            cell.add(1, bytes);
        }
    }

    /// A frame is held back.
    pub fn held(&self, bytes: usize) {
        self.held.add(1, bytes);
    }

    /// A frame is no longer held: it is now forwarded or dropped, and counted as that too.
    pub fn unheld(&self, bytes: usize) {
        self.unheld.add(1, bytes);
    }

    /// A frame of lotus's own left.
    pub fn generated(&self, bytes: usize) {
        self.generated.add(1, bytes);
    }

    /// The kernel lost frames before the ring, because the worker was too slow.
    pub fn ring_lost(&self, frames: u64) {
        self.ring_lost
            .store(self.ring_lost.load(Relaxed) + frames, Relaxed);
    }

    /// A rejected packet got no answer, because there had been too many.
    pub fn answer_suppressed(&self) {
        let so_far = self.answers_suppressed.load(Relaxed);
        self.answers_suppressed
            .store(so_far.wrapping_add(1), Relaxed);
    }
}

/// The sum of many threads' counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Received at inside, outside.
    pub received: [Traffic; 2],
    /// Forwarded out of inside, outside.
    pub forwarded: [Traffic; 2],
    /// By [`DropReason::index`].
    pub dropped: [Traffic; REASONS],
    /// Held back now.
    pub held: Traffic,
    /// Made by lotus.
    pub generated: Traffic,
    /// Lost by the kernel before the ring: not part of `received`.
    pub ring_lost: u64,
    /// Rejected packets that got no answer, because there had been too many.
    pub answers_suppressed: u64,
}

impl Snapshot {
    /// Adds up blocks of counters. While traffic flows, a frame in flight may be seen as received
    /// and not yet as forwarded.
    pub fn of<'a>(blocks: impl IntoIterator<Item = &'a Counters>) -> Snapshot {
        let mut sum = Snapshot {
            received: Default::default(),
            forwarded: Default::default(),
            dropped: [Traffic::default(); REASONS],
            held: Traffic::default(),
            generated: Traffic::default(),
            ring_lost: 0,
            answers_suppressed: 0,
        };
        let mut unheld = Traffic::default();
        for block in blocks {
            let pairs = sum
                .received
                .iter_mut()
                .zip(&block.received)
                .chain(sum.forwarded.iter_mut().zip(&block.forwarded))
                .chain(sum.dropped.iter_mut().zip(&block.dropped))
                .chain([
                    (&mut sum.held, &block.held),
                    (&mut unheld, &block.unheld),
                    (&mut sum.generated, &block.generated),
                ]);
            for (to, cell) in pairs {
                let from = cell.read();
                to.frames = to.frames.wrapping_add(from.frames);
                to.bytes = to.bytes.wrapping_add(from.bytes);
            }
            sum.ring_lost += block.ring_lost.load(Relaxed);
            sum.answers_suppressed += block.answers_suppressed.load(Relaxed);
        }
        sum.held.frames = sum.held.frames.saturating_sub(unheld.frames);
        sum.held.bytes = sum.held.bytes.saturating_sub(unheld.bytes);
        sum
    }

    /// Both ports together.
    #[must_use]
    pub fn received_total(&self) -> Traffic {
        total(&self.received)
    }

    /// Both ports together.
    #[must_use]
    pub fn forwarded_total(&self) -> Traffic {
        total(&self.forwarded)
    }

    /// All reasons together.
    #[must_use]
    pub fn dropped_total(&self) -> Traffic {
        total(&self.dropped)
    }

    /// The reasons that occurred.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, Traffic)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| {
                (
                    reason,
                    self.dropped
                        .get(reason.index())
                        .copied()
                        .unwrap_or_default(),
                )
            })
            .filter(|(_, traffic)| traffic.frames != 0)
    }

    /// Frames dropped for this reason.
    #[must_use]
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped
            .get(reason.index())
            .map_or(0, |traffic| traffic.frames)
    }

    /// What the accounting law leaves over: zero when no frame is in flight.
    #[must_use]
    pub fn unaccounted_frames(&self) -> i64 {
        let signed = |frames: u64| i64::try_from(frames).unwrap_or(i64::MAX);
        signed(self.received_total().frames)
            - signed(self.forwarded_total().frames)
            - signed(self.dropped_total().frames)
            - signed(self.held.frames)
    }
}

fn total(traffic: &[Traffic]) -> Traffic {
    traffic.iter().fold(Traffic::default(), |sum, t| Traffic {
        frames: sum.frames + t.frames,
        bytes: sum.bytes + t.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_add_up_and_the_law_holds() {
        let (a, b) = (Counters::default(), Counters::default());
        a.received(0, 60);
        a.received(1, 100);
        a.forwarded(1, 60);
        a.held(100);
        let held = Snapshot::of([&a, &b]);
        assert_eq!((held.held.frames, held.unaccounted_frames()), (1, 0));
        // Another thread lets go of what the first one held.
        b.unheld(100);
        b.dropped(DropReason::HelperHeld, 100);
        let after = Snapshot::of([&a, &b]);
        assert_eq!((after.held.frames, after.unaccounted_frames()), (0, 0));
        assert_eq!(after.dropped_for(DropReason::HelperHeld), 1);
        assert_eq!(
            after.received_total(),
            Traffic {
                frames: 2,
                bytes: 160
            }
        );
    }
}
