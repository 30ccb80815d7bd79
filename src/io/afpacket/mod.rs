//! Ports on AF_PACKET sockets: a TPACKET_V2 ring to receive, `sendmmsg` to send.
//!
//! V2 and not V3, as V3 hands over whole blocks and adds up to its timeout to each frame's way.
//! Frames that the other side's kernel made for hardware to finish (partial checksums,
//! super-frames of up to 64 KiB) pass as they are, with the virtio-net header that says so.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod cursor;
mod offload;
mod ring;
mod socket;
mod transmit;
mod vlan;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{RecvFlags, recv, sockopt};

use self::cursor::Layout;
pub use self::cursor::SLOTS_MAX;
use self::ring::{Header, Ring};
use self::transmit::Transmitter;
use super::{BATCH_FRAMES, Port, Received, Sent, link};
use crate::observe::DropReason;
use crate::wire::{Meta, VNET_HEADER_BYTES};

/// How large rings and buffers are, for each worker and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Slots of the receive ring. A slot takes about 1600 bytes at an MTU of 1500.
    pub slots: usize,
    /// Most memory for super-frames that wait outside the ring.
    pub copies_bytes: usize,
    /// Most memory for frames that were sent and not yet taken by the device.
    pub send_buffer_bytes: usize,
}

impl Default for Geometry {
    fn default() -> Self {
        Geometry {
            // 4 ms at a million frames a second: as long as a worker may be off its core.
            slots: 4096,
            // A thousand super-frames. It is a limit, not an allocation.
            copies_bytes: 64 << 20,
            send_buffer_bytes: 16 << 20,
        }
    }
}

/// The devices of a port: its frames come in by one and leave by the other. Mostly the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name of the device to which the ring is bound.
    pub receive: String,
    /// Name of the device by which frames leave.
    pub send: String,
}

impl Binding {
    /// Both ways by the same device.
    #[must_use]
    pub fn to(device: &str) -> Binding {
        Binding {
            receive: device.to_owned(),
            send: device.to_owned(),
        }
    }
}

/// Opens the ports of `workers` workers, for each one the pair of its sides.
///
/// A flow's two directions meet on one worker, as both groups are joined in the same order and
/// share the frames out by the same symmetric hash.
///
/// # Errors
///
/// An interface is missing, the process lacks CAP_NET_RAW and CAP_NET_ADMIN, or there is not
/// enough memory for the rings.
pub fn open(
    bindings: &[Binding; 2],
    workers: usize,
    geometry: Geometry,
) -> io::Result<Vec<[AfPacketPort; 2]>> {
    let [mut inside, mut outside] = bindings
        .each_ref()
        .map(|binding| Group::new(binding, workers));
    let mut ports = Vec::with_capacity(workers);
    for _ in 0..workers {
        ports.push([inside.open(geometry)?, outside.open(geometry)?]);
    }
    // A ring that is not in its group yet gets what its siblings get too.
    for port in ports.iter_mut().flatten() {
        port.flush()?;
    }
    Ok(ports)
}

/// One port as one worker has it.
pub struct AfPacketPort {
    binding: Binding,
    ring: Ring,
    batch: [Entry; BATCH_FRAMES],
    count: usize,
    copies: Vec<Box<[u8]>>,
    copies_used: usize,
    transmitter: Transmitter,
}

/// Where a frame of the batch lies. Offsets are those of its virtio-net header and its end.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Slot {
        start: usize,
        end: usize,
    },
    Copy {
        copy: usize,
        start: usize,
        end: usize,
    },
    Unusable {
        reason: DropReason,
        bytes: usize,
    },
}

const NOTHING: Entry = Entry::Unusable {
    reason: DropReason::RxCut,
    bytes: 0,
};

/// The largest IP packet behind an Ethernet header and two tags. What is longer (BIG TCP) is not
/// passed on.
const SUPER_FRAME_MAX_BYTES: usize = 14 + 8 + 65_535;
const COPY_BYTES: usize = vlan::TAG_BYTES + VNET_HEADER_BYTES + SUPER_FRAME_MAX_BYTES;

/// ETH_P_8021Q, which a ring header means when it names none.
const TPID_DEFAULT: u16 = 0x8100;

/// Where the kernel's part of a slot ends: `tpacket2_hdr` and a `sockaddr_ll` (TPACKET2_HDRLEN).
const SLOT_HEADER_BYTES: usize = 32 + 20;

impl AfPacketPort {
    /// Drops whatever waits, but no more than a ring full: more may come all the time. Returns how
    /// many frames that were.
    fn flush(&mut self) -> io::Result<usize> {
        let mut flushed = 0;
        while flushed < self.ring.slots() {
            match self.receive()? {
                0 => break,
                taken => flushed += taken,
            }
        }
        self.release();
        Ok(flushed)
    }

    /// Makes the frame in a taken slot ready to be looked at and to be sent.
    fn admit(&mut self, index: usize) -> Entry {
        let Some(header) = self.ring.header(index) else {
            return NOTHING;
        };
        let bytes = header.tp_len as usize;
        let cut = Entry::Unusable {
            reason: DropReason::RxCut,
            bytes,
        };
        if header.tp_status & libc::TP_STATUS_COPY != 0 {
            return self.admit_copy(&header).unwrap_or(cut);
        }
        let mac = usize::from(header.tp_mac);
        if header.tp_snaplen < header.tp_len
            || mac < SLOT_HEADER_BYTES + VNET_HEADER_BYTES + vlan::TAG_BYTES
        {
            return cut;
        }
        let (start, end) = (mac - VNET_HEADER_BYTES, mac + bytes);
        let Some(slot) = self
            .ring
            .slot_mut(index)
            .and_then(|slot| slot.get_mut(..end))
        else {
            return cut;
        };
        match finish(slot, start, &header) {
            Ok(start) => Entry::Slot { start, end },
            Err(reason) => Entry::Unusable { reason, bytes },
        }
    }

    /// Frames that are longer than a slot wait at the socket, in the order of their slots.
    fn admit_copy(&mut self, header: &Header) -> Option<Entry> {
        let copy = self.copies_used;
        if copy == self.copies.len() {
            // Once for each place in a batch, then used again.
            self.copies.push(vec![0; COPY_BYTES].into_boxed_slice());
        }
        let buffer = self.copies.get_mut(copy)?;
        let start = vlan::TAG_BYTES;
        let received = receive_copy(self.ring.socket(), buffer.get_mut(start..)?)?;
        let bytes = header.tp_len as usize;
        if received != VNET_HEADER_BYTES + bytes {
            return None;
        }
        let end = start + received;
        let Some(filled) = buffer.get_mut(..end) else {
            return Some(Entry::Unusable {
                reason: DropReason::RxOffload,
                bytes,
            });
        };
        self.copies_used += 1;
        Some(match finish(filled, start, header) {
            Ok(start) => Entry::Copy { copy, start, end },
            Err(reason) => Entry::Unusable { reason, bytes },
        })
    }
}

/// Judges the offloads of the frame whose virtio-net header is at `start`, and puts its outer tag
/// back. Returns where the header is then.
fn finish(bytes: &mut [u8], start: usize, header: &Header) -> Result<usize, DropReason> {
    let whole = bytes
        .get(start..)
        .and_then(|whole| whole.split_first_chunk());
    let (vnet, frame) = whole.ok_or(DropReason::RxCut)?;
    if !offload::passable(vnet, frame) {
        return Err(DropReason::RxOffload);
    }
    if header.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return Ok(start);
    }
    let named = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if named {
        header.tp_vlan_tpid
    } else {
        TPID_DEFAULT
    };
    let start = start
        .checked_sub(vlan::TAG_BYTES)
        .ok_or(DropReason::RxCut)?;
    let whole = bytes.get_mut(start..).ok_or(DropReason::RxCut)?;
    if vlan::insert(whole, tpid, header.tp_vlan_tci) {
        Ok(start)
    } else {
        Err(DropReason::RxCut)
    }
}

/// The next whole copy; its true length, even if the buffer is shorter.
fn receive_copy(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<usize> {
    // An error of the socket (the link went down) is reported once, in place of the frame.
    for _ in 0..3 {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, length)) => return Some(length),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::NETDOWN) => {}
            Err(_) => return None,
        }
    }
    None
}

impl Port for AfPacketPort {
    fn receive(&mut self) -> io::Result<usize> {
        self.release();
        self.count = self.ring.take();
        for index in 0..self.count {
            self.ring.prefetch(index);
            let entry = self.admit(index);
            if let Some(place) = self.batch.get_mut(index) {
                *place = entry;
            }
        }
        Ok(self.count)
    }

    fn frame(&mut self, index: usize) -> Received<'_> {
        let bytes = match self.entry(index) {
            Entry::Slot { start, end } => self
                .ring
                .slot_mut(index)
                .and_then(|slot| slot.get_mut(start..end)),
            Entry::Copy { copy, start, end } => self
                .copies
                .get_mut(copy)
                .and_then(|copy| copy.get_mut(start..end)),
            Entry::Unusable { reason, bytes } => return Received::Unusable { reason, bytes },
        };
        match bytes.and_then(|bytes| bytes.split_first_chunk_mut()) {
            Some((vnet, frame)) => Received::Frame(frame, Meta { vnet: *vnet }),
            None => Received::Unusable {
                reason: DropReason::RxCut,
                bytes: 0,
            },
        }
    }

    fn to_send(&self, index: usize) -> &[u8] {
        let bytes = match self.entry(index) {
            Entry::Slot { start, end } => {
                self.ring.slot(index).and_then(|slot| slot.get(start..end))
            }
            Entry::Copy { copy, start, end } => {
                self.copies.get(copy).and_then(|copy| copy.get(start..end))
            }
            Entry::Unusable { .. } => None,
        };
        bytes.unwrap_or_default()
    }

    fn release(&mut self) {
        self.ring.release();
        self.count = 0;
        self.copies_used = 0;
    }

    fn send(&mut self, frames: &[IoSlice<'_>], results: &mut Vec<Sent>) {
        self.transmitter.send(frames, results);
    }

    fn lost(&mut self) -> u64 {
        // Cannot fail for a packet socket; if it did, nothing is known to be lost.
        socket::drops(self.ring.socket()).unwrap_or_default()
    }

    fn abandon(&mut self) -> u64 {
        // Taking from memory that is there can't fail.
        self.flush().unwrap_or_default() as u64
    }

    fn check(&mut self) -> io::Result<()> {
        let socket = self.ring.socket();
        // Reading the pending error clears it; poll(2) would not wait otherwise. The kernel takes
        // the socket into use again when the link comes up.
        let _ = sockopt::socket_error(socket)?;
        let Binding { receive, send } = &self.binding;
        for (socket, device) in [(socket, receive), (self.transmitter.socket(), send)] {
            if socket::unbound(socket)? {
                let text = format!("interface {device} is gone");
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
        }
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.socket())
    }
}

impl AfPacketPort {
    fn entry(&self, index: usize) -> Entry {
        match self.batch.get(index) {
            Some(&entry) if index < self.count => entry,
            _ => NOTHING,
        }
    }
}

/// The rings of all workers on one port.
struct Group<'a> {
    binding: &'a Binding,
    shared: bool,
    fanout: Option<u16>,
}

impl Group<'_> {
    fn new(binding: &Binding, workers: usize) -> Group<'_> {
        Group {
            binding,
            shared: workers > 1,
            fanout: None,
        }
    }

    /// The order of the calls matters: nothing may be received before the ring is whole, and
    /// nothing that this host sends may be received ever.
    fn open(&mut self, geometry: Geometry) -> io::Result<AfPacketPort> {
        let Binding { receive, send } = self.binding;
        let (from, to) = (link::index(receive)?, link::index(send)?);
        let layout = Layout::new(geometry.slots, link::mtu(receive)?)?;
        let rx = socket::open()?;
        socket::prepare_rx(rx.as_fd(), geometry.copies_bytes)?;
        let ring = Ring::map(rx, layout)?;
        socket::start_rx(ring.socket(), from)?;
        if self.shared {
            self.fanout = Some(socket::join_fanout(ring.socket(), self.fanout)?);
        }
        let tx = socket::open()?;
        socket::start_tx(tx.as_fd(), to, geometry.send_buffer_bytes)?;
        Ok(AfPacketPort {
            binding: self.binding.clone(),
            ring,
            batch: [NOTHING; BATCH_FRAMES],
            count: 0,
            copies: Vec::new(),
            copies_used: 0,
            transmitter: Transmitter::new(tx, to),
        })
    }
}
