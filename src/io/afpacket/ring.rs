//! The receive ring: one owner for its socket, its memory and the place in it.
#![allow(unsafe_code)]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::cursor::{Cursor, Layout, SlotOffset};
use super::socket;
use crate::io::BATCH_FRAMES;
use crate::wire::prefetch;

/// What the kernel says of a frame in its slot.
pub(super) type Header = libc::tpacket2_hdr;

/// Slots ahead of the current one whose first cache lines are fetched. They were written by
/// another core.
const PREFETCH_SLOTS: usize = 4;
const PREFETCH_LINES: usize = 3;

/// A mapped TPACKET_V2 ring and the socket it belongs to.
///
/// A slot belongs to the kernel until its status has `TP_STATUS_USER`, and again from when the
/// status is zero. [`Ring::take`] acquires slots, [`Ring::release`] gives all of them back, and
/// nothing here touches a slot outside of that.
#[derive(Debug)]
pub(super) struct Ring {
    memory: Memory,
    next: Cursor,
    /// The slots that are ours, `taken` of them.
    slots: [SlotOffset; BATCH_FRAMES],
    taken: usize,
    socket: OwnedFd,
}

impl Ring {
    /// Makes the ring of a packet socket that is set to TPACKET_V2 and has none yet.
    pub(super) fn map(socket: OwnedFd, layout: Layout) -> io::Result<Ring> {
        socket::set_rx_ring(socket.as_fd(), &layout)?;
        let memory = Memory::map(socket.as_fd(), layout)?;
        let (next, slots) = (Cursor::default(), [SlotOffset::default(); BATCH_FRAMES]);
        Ok(Ring {
            memory,
            next,
            slots,
            taken: 0,
            socket,
        })
    }

    /// Takes the slots that hold frames, up to a batch, after those of the last time were
    /// released.
    pub(super) fn take(&mut self) -> usize {
        self.release();
        for slot in &mut self.slots {
            *slot = self.next.offset();
            let status = self.memory.status(*slot).load(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                break;
            }
            self.taken += 1;
            self.next = self.next.next(&self.memory.layout);
        }
        self.taken
    }

    /// Gives the taken slots back to the kernel.
    pub(super) fn release(&mut self) {
        for &slot in self.slots.iter().take(self.taken) {
            self.memory
                .status(slot)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.taken = 0;
    }

    /// The header of a taken slot.
    pub(super) fn header(&self, index: usize) -> Option<Header> {
        let slot = self.memory.at(self.taken_slot(index)?);
        // SAFETY: a slot begins at a cache line and is longer than its header. It is ours, so the
        // kernel does not write to it.
        Some(unsafe { slot.cast::<Header>().read() })
    }

    /// All bytes of a taken slot.
    pub(super) fn slot(&self, index: usize) -> Option<&[u8]> {
        let slot = self.memory.at(self.taken_slot(index)?);
        // SAFETY: the slot lies inside the mapping and is initialised (the kernel clears ring
        // memory). It is ours, so the kernel does not write to it, and `release`, which ends
        // that, needs `&mut self`.
        Some(unsafe { from_raw_parts(slot.as_ptr(), self.memory.layout.stride_bytes) })
    }

    /// All bytes of a taken slot, to be changed.
    pub(super) fn slot_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let slot = self.memory.at(self.taken_slot(index)?);
        // SAFETY: as in `slot`; `&mut self` makes it the only reference. The status word is part
        // of the bytes: a caller that overwrites it can confuse the ring, not memory, as only
        // `taken` says what is ours.
        Some(unsafe { from_raw_parts_mut(slot.as_ptr(), self.memory.layout.stride_bytes) })
    }

    /// Fetches a slot that will be looked at soon.
    pub(super) fn prefetch(&self, index: usize) {
        if let Some(slot) = self.taken_slot(index + PREFETCH_SLOTS) {
            // The header is in the first line, the frame begins at its end or in the second.
            prefetch(self.memory.at(slot).as_ptr(), PREFETCH_LINES);
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn slots(&self) -> usize {
        self.memory.layout.slots()
    }

    fn taken_slot(&self, index: usize) -> Option<SlotOffset> {
        if index < self.taken {
            self.slots.get(index).copied()
        } else {
            None
        }
    }
}

/// The mapping itself.
#[derive(Debug)]
struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the mapping belongs to this value alone and is valid in every thread of the process.
unsafe impl Send for Memory {}

impl Memory {
    fn map(socket: BorrowedFd<'_>, layout: Layout) -> io::Result<Memory> {
        // SAFETY: a new mapping at an address of the kernel's choice, over nothing of ours.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                layout.bytes(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                socket,
                0,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Memory { base, layout })
    }

    fn at(&self, slot: SlotOffset) -> NonNull<u8> {
        // SAFETY: a cursor's offsets are inside the layout that was mapped.
        unsafe { self.base.add(slot.bytes()) }
    }

    fn status(&self, slot: SlotOffset) -> &AtomicU32 {
        const { assert!(offset_of!(Header, tp_status) == 0 && size_of::<Header>() <= 64) };
        // SAFETY: the word is the first of a slot, which begins at a cache line inside the
        // mapping. The kernel writes to it at any time while the slot is not ours, and so it is
        // only reached atomically then.
        unsafe { AtomicU32::from_ptr(self.at(slot).cast().as_ptr()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: address and length are those of `mmap`; nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.layout.bytes()) };
        debug_assert!(
            unmapped.is_ok(),
            "munmap of a whole mapping can't fail: {unmapped:?}"
        );
    }
}
