//! A port in memory: a queue of frames to be received, and one of frames that were sent.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BATCH_FRAMES, Port, Received, Sent};
use crate::observe::DropReason;
use crate::wire::{Meta, OwnedFrame, VNET_HEADER_BYTES};

/// A port whose wire is a [`MemoryWire`].
#[derive(Debug)]
pub struct MemoryPort {
    wire: MemoryWire,
    batch: Vec<Result<OwnedFrame, Unusable>>,
}

/// The other end of a [`MemoryPort`]. Clones are the same wire.
#[derive(Clone, Debug, Default)]
pub struct MemoryWire {
    queues: Arc<Mutex<Queues>>,
}

#[derive(Debug, Default)]
struct Queues {
    waiting: VecDeque<Result<OwnedFrame, Unusable>>,
    sent: Vec<OwnedFrame>,
    refusals: VecDeque<Sent>,
    lost: u64,
    gone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Unusable {
    reason: DropReason,
    bytes: usize,
}

impl MemoryPort {
    /// A port and its wire.
    #[must_use]
    pub fn new() -> (MemoryPort, MemoryWire) {
        let wire = MemoryWire::default();
        (
            MemoryPort {
                wire: wire.clone(),
                batch: Vec::new(),
            },
            wire,
        )
    }
}

impl MemoryWire {
    /// A frame that the port will receive.
    pub fn put(&self, frame: OwnedFrame) {
        self.queues().waiting.push_back(Ok(frame));
    }

    /// A frame that the port will receive as one that can't be forwarded.
    pub fn put_unusable(&self, reason: DropReason, bytes: usize) {
        self.queues()
            .waiting
            .push_back(Err(Unusable { reason, bytes }));
    }

    /// What the next frames handed to the port will meet; after these, all are sent.
    pub fn answer_sends(&self, results: impl IntoIterator<Item = Sent>) {
        self.queues().refusals.extend(results);
    }

    /// The port will report frames as lost.
    pub fn lose(&self, frames: u64) {
        self.queues().lost += frames;
    }

    /// The port's interface goes away.
    pub fn remove(&self) {
        self.queues().gone = true;
    }

    /// Takes what the port has sent.
    #[must_use]
    pub fn sent(&self) -> Vec<OwnedFrame> {
        std::mem::take(&mut self.queues().sent)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port for MemoryPort {
    fn receive(&mut self) -> io::Result<usize> {
        let mut queues = self.wire.queues();
        let count = queues.waiting.len().min(BATCH_FRAMES);
        self.batch.clear();
        self.batch.extend(queues.waiting.drain(..count));
        Ok(count)
    }

    fn frame(&mut self, index: usize) -> Received<'_> {
        match self.batch.get_mut(index) {
            Some(Ok(frame)) => {
                let meta = frame.meta();
                Received::Frame(frame.frame_mut(), meta)
            }
            Some(&mut Err(Unusable { reason, bytes })) => Received::Unusable { reason, bytes },
            None => Received::Unusable {
                reason: DropReason::RxCut,
                bytes: 0,
            },
        }
    }

    fn to_send(&self, index: usize) -> &[u8] {
        match self.batch.get(index) {
            Some(Ok(frame)) => frame.with_header(),
            Some(Err(_)) | None => &[],
        }
    }

    fn release(&mut self) {
        self.batch.clear();
    }

    fn send(&mut self, frames: &[IoSlice<'_>], results: &mut Vec<Sent>) {
        let mut queues = self.wire.queues();
        for frame in frames {
            let result = match frame.split_first_chunk::<VNET_HEADER_BYTES>() {
                Some((vnet, frame)) => queues.refusals.pop_front().unwrap_or(Ok(())).map(|()| {
                    queues
                        .sent
                        .push(OwnedFrame::copy_of(frame, &Meta { vnet: *vnet }));
                }),
                None => Err(DropReason::TxError),
            };
            results.push(result);
        }
    }

    fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.wire.queues().lost)
    }

    fn check(&mut self) -> io::Result<()> {
        if self.wire.queues().gone {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(())
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> OwnedFrame {
        OwnedFrame::copy_of(&[byte; 60], &Meta::default())
    }

    #[test]
    fn frames_come_in_batches_and_in_order() {
        let (mut port, wire) = MemoryPort::new();
        (0..=BATCH_FRAMES as u8).for_each(|byte| wire.put(frame(byte)));
        wire.put_unusable(DropReason::RxOffload, 9000);
        assert_eq!(port.receive().unwrap(), BATCH_FRAMES);
        assert_eq!(port.to_send(3), frame(3).with_header());
        port.release();
        assert_eq!(port.receive().unwrap(), 2);
        assert!(matches!(port.frame(0), Received::Frame(bytes, _) if bytes == [64; 60]));
        assert!(matches!(
            port.frame(1),
            Received::Unusable {
                reason: DropReason::RxOffload,
                bytes: 9000
            }
        ));
        assert!(port.to_send(1).is_empty());
    }

    #[test]
    fn sends_meet_what_was_asked_for() {
        let (mut port, wire) = MemoryPort::new();
        wire.answer_sends([Err(DropReason::TxBusy), Ok(())]);
        let frames = [frame(1), frame(2), frame(3)];
        let slices = frames
            .each_ref()
            .map(|frame| IoSlice::new(frame.with_header()));
        let mut results = Vec::new();
        port.send(&slices, &mut results);
        port.send(&[IoSlice::new(&[0; 9])], &mut results);
        assert_eq!(
            results,
            [
                Err(DropReason::TxBusy),
                Ok(()),
                Ok(()),
                Err(DropReason::TxError)
            ]
        );
        assert_eq!(wire.sent(), frames[1..]);
    }

    #[test]
    fn losses_are_told_once_and_a_removed_port_is_gone() {
        let (mut port, wire) = MemoryPort::new();
        wire.lose(7);
        assert_eq!((port.lost(), port.lost()), (7, 0));
        assert!(port.check().is_ok());
        wire.remove();
        assert_eq!(port.check().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
