//! A ring (TPACKET_V2) in which the kernel leaves the heads of stamped frames.
#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::clock::NS_IN_SEC;
use crate::socket::{self, checked};
use crate::stamp::{MAGIC, STAMP_AT, STAMP_BYTES};

/// `tpacket_versions` of linux/if_packet.h.
const TPACKET_V2: libc::c_int = 1;

/// What is kept of a frame.
const HEAD_BYTES: usize = STAMP_AT + STAMP_BYTES;
/// The kernel's header, the address behind it, and the head.
const SLOT_BYTES: usize = 128;
const BLOCK_BYTES: usize = 1 << 18;
/// 131,072 frames: at a million a second the receiver may be away for 130 ms.
const BLOCKS: usize = 64;
const RING_BYTES: usize = BLOCKS * BLOCK_BYTES;
pub(crate) const SLOTS: usize = RING_BYTES / SLOT_BYTES;

pub(crate) struct Ring {
    socket: OwnedFd,
    map: NonNull<u8>,
    next: usize,
}

impl Ring {
    pub(crate) fn open(interface: &str) -> Result<Ring> {
        let (socket, index) = socket::open(interface)?;
        filter(&socket).context("SO_ATTACH_FILTER")?;
        socket::set(&socket, libc::PACKET_VERSION, &TPACKET_V2).context("TPACKET_V2")?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: SLOT_BYTES as u32,
            tp_frame_nr: SLOTS as u32,
        };
        socket::set(&socket, libc::PACKET_RX_RING, &request).context("PACKET_RX_RING")?;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let map = unsafe { mmap(ptr::null_mut(), RING_BYTES, rights, flags, &socket, 0) };
        let map = NonNull::new(map.context("mapping the ring")?.cast());
        let ring = Ring {
            map: map.context("a ring at address 0")?,
            socket,
            next: 0,
        };
        socket::set(&ring.socket, libc::PACKET_IGNORE_OUTGOING, &1)
            .context("PACKET_IGNORE_OUTGOING")?;
        // Frames go to addresses that are not the interface's own.
        let everything = libc::packet_mreq {
            mr_ifindex: index as libc::c_int,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        socket::set(&ring.socket, libc::PACKET_ADD_MEMBERSHIP, &everything)
            .context("PACKET_MR_PROMISC")?;
        // All protocols, so that nothing at the interface's ingress drops frames before.
        socket::bind(&ring.socket, libc::ETH_P_ALL, index)
            .with_context(|| format!("binding to {interface}"))?;
        Ok(ring)
    }

    /// Hands the next frame over, if there is one: its head, and when it came, in nanoseconds of
    /// CLOCK_REALTIME.
    pub(crate) fn next<T>(&mut self, read: impl FnOnce(&[u8], u64) -> T) -> Option<T> {
        // SAFETY: `next` is below SLOTS, so the slot lies in the mapping; it begins with the
        // kernel's header, and is aligned as that needs.
        let (header, status) = unsafe {
            let slot = self
                .map
                .add(self.next * SLOT_BYTES)
                .cast::<libc::tpacket2_hdr>();
            let status = &raw mut (*slot.as_ptr()).tp_status;
            (slot, AtomicU32::from_ptr(status))
        };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot is ours until its status says otherwise.
        let (at, bytes, time) = unsafe {
            let header = header.as_ref();
            let time = u64::from(header.tp_sec) * NS_IN_SEC + u64::from(header.tp_nsec);
            (usize::from(header.tp_mac), header.tp_snaplen as usize, time)
        };
        let at = at.min(SLOT_BYTES);
        let bytes = bytes.min(SLOT_BYTES - at);
        // SAFETY: as above; the range was just cut to lie within the slot.
        let head = unsafe { slice::from_raw_parts(header.as_ptr().cast::<u8>().add(at), bytes) };
        let result = read(head, time);
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % SLOTS;
        Some(result)
    }

    /// Frames that found the ring full, since the last call.
    pub(crate) fn overrun(&self) -> io::Result<u64> {
        let mut stats = MaybeUninit::<libc::tpacket_stats>::zeroed();
        let mut bytes = mem::size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes to `stats`, which has that many.
        checked(unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        })?;
        // SAFETY: zeroed before, and any bytes are valid integers.
        Ok(u64::from(unsafe { stats.assume_init() }.tp_drops))
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and no reference into it is left.
        let unmapped = unsafe { munmap(self.map.as_ptr().cast(), RING_BYTES) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Has the kernel pass only UDP over IPv4, without options, with a stamp; of that only the head.
fn filter(socket: &OwnedFd) -> io::Result<()> {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let [a, b, c] = MAGIC;
    let mut program = [
        step(LOAD_HALF, 12, 0, 0),
        step(JUMP_IF_EQUAL, libc::ETH_P_IP as u32, 0, 8),
        step(LOAD_BYTE, 14, 0, 0),
        step(JUMP_IF_EQUAL, 0x45, 0, 6),
        step(LOAD_BYTE, 23, 0, 0),
        step(JUMP_IF_EQUAL, libc::IPPROTO_UDP as u32, 0, 4),
        step(LOAD_WORD, STAMP_AT as u32, 0, 0),
        step(AND, 0xffff_ff00, 0, 0),
        step(JUMP_IF_EQUAL, u32::from_be_bytes([a, b, c, 0]), 0, 1),
        step(RETURN, HEAD_BYTES as u32, 0, 0),
        step(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    socket::set_at(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}
