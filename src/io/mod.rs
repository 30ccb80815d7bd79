//! Ports: where batches of frames come from and go to.
//!
//! [`Port`] is one side of the bump in the wire as one worker has it. Behind it stand a pair of
//! packet sockets ([`afpacket`]), two queues in memory ([`memory`]) or two pcap files ([`pcap`]).
//! What a port needs of its host (a silent network stack, facts about the interface, a lock
//! against a second lotus) is in [`quiet`] and [`link`]. [`capture`] reads the captures that people
//! send in: a file, not a port.
//!
//! Unsafe code is here, in the flow table's buckets and in a prefetch, and nowhere else in lotus.

pub mod afpacket;
pub mod capture;
pub mod link;
pub mod memory;
pub mod pcap;
pub mod quiet;

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use crate::observe::DropReason;
use crate::wire::Meta;

/// Most frames that one batch holds. IO-wise 32 to 64 is where more brings nothing.
pub const BATCH_FRAMES: usize = 64;

/// One frame of the current batch.
#[derive(Debug)]
pub enum Received<'a> {
    /// An Ethernet frame with its VLAN tags in place, and its virtio-net header.
    Frame(&'a mut [u8], Meta),
    /// A frame that can't be forwarded whole.
    Unusable {
        /// Why.
        reason: DropReason,
        /// Its length.
        bytes: usize,
    },
}

/// What became of one frame handed to [`Port::send`]: sent, or not and why.
pub type Sent = Result<(), DropReason>;

/// One side of the bump in the wire, as one worker has it.
///
/// A port is named by what it stands for, not by the device its ring is bound to: the two may
/// differ (frames that an in-kernel fast path did not take may come by way of another device).
pub trait Port: Send {
    /// Takes the next batch of waiting frames, at most [`BATCH_FRAMES`], without waiting; returns
    /// how many there are. They stay in place until [`Port::release`].
    ///
    /// # Errors
    ///
    /// As [`Port::check`].
    fn receive(&mut self) -> io::Result<usize>;

    /// A frame of the current batch.
    fn frame(&mut self, index: usize) -> Received<'_>;

    /// The same frame as [`Port::send`] of another port takes it: header and frame in one piece,
    /// with whatever was changed in it. Empty if the frame is unusable.
    fn to_send(&self, index: usize) -> &[u8];

    /// Hands the batch's slots back.
    fn release(&mut self);

    /// Sends frames (each a virtio-net header and an Ethernet frame) in their order, without
    /// waiting. Pushes one result for each frame.
    fn send(&mut self, frames: &[IoSlice<'_>], results: &mut Vec<Sent>);

    /// Frames that the kernel lost before this port since the last call.
    fn lost(&mut self) -> u64;

    /// At the end: throws away what came in and waits, and says how many frames that were. Only for
    /// ports whose frames nobody else can take.
    fn abandon(&mut self) -> u64 {
        0
    }

    /// Whether the port can ever work again. A link that is down is no error: it may come back,
    /// and then the port goes on by itself. Callers ask now and then, not for each batch.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if the interface is gone for good.
    fn check(&mut self) -> io::Result<()>;

    /// What to poll for readability, if the port can be waited for.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}
