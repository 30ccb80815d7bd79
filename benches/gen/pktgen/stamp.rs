//! What a stamped frame carries at the head of its UDP payload:
//!
//!     magic (3 bytes)  run (2)  sequence number (5)  CLOCK_MONOTONIC in ns (8)
//!
//! 18 bytes: all that the smallest Ethernet frame has room for.

pub(crate) const STAMP_BYTES: usize = 18;
/// Where it begins in a frame: behind Ethernet, IPv4 without options, UDP.
pub(crate) const STAMP_AT: usize = 42;

/// Told from other payloads by this, and by nothing else.
pub(crate) const MAGIC: [u8; 3] = [0x9c, 0x4c, 0x6f];

#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    /// Which run of the sender this is: the numbers begin at 0 in each.
    pub(crate) run: u16,
    pub(crate) sequence: u64,
    pub(crate) ns: u64,
}

impl Stamp {
    /// Writes it into a frame that has room for it.
    pub(crate) fn write(self, frame: &mut [u8]) {
        let bytes = &mut frame[STAMP_AT..STAMP_AT + STAMP_BYTES];
        bytes[..3].copy_from_slice(&MAGIC);
        bytes[3..5].copy_from_slice(&self.run.to_be_bytes());
        bytes[5..10].copy_from_slice(&self.sequence.to_be_bytes()[3..]);
        bytes[10..].copy_from_slice(&self.ns.to_be_bytes());
    }

    pub(crate) fn read(frame: &[u8]) -> Option<Stamp> {
        let bytes = frame.get(STAMP_AT..STAMP_AT + STAMP_BYTES)?;
        let (magic, rest) = bytes.split_first_chunk::<3>()?;
        let (run, rest) = rest.split_first_chunk::<2>()?;
        let (low, ns) = rest.split_first_chunk::<5>()?;
        let mut sequence = [0; 8];
        sequence[3..].copy_from_slice(low);
        (*magic == MAGIC).then_some(Stamp {
            run: u16::from_be_bytes(*run),
            sequence: u64::from_be_bytes(sequence),
            ns: u64::from_be_bytes(ns.try_into().ok()?),
        })
    }
}
