//! Packet sockets: the calls that no crate wraps, and the order in which they must be made.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::c_int;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use super::cursor::Layout;

/// `tpacket_versions` of linux/if_packet.h.
const TPACKET_V2: c_int = 1;

/// A socket on which nothing is received: frames would come to it from all interfaces between
/// `socket` and `bind` otherwise.
pub(super) fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set(socket.as_fd(), libc::PACKET_VNET_HDR, &1)?;
    Ok(socket)
}

/// TPACKET_V2, and whole copies of frames that are longer than their slot, as long as no more than
/// `copies_bytes` of them wait.
pub(super) fn prepare_rx(socket: BorrowedFd<'_>, copies_bytes: usize) -> io::Result<()> {
    set(socket, libc::PACKET_VERSION, &TPACKET_V2)?;
    set(socket, libc::PACKET_COPY_THRESH, &1)?;
    sockopt::set_socket_recv_buffer_size_force(socket, copies_bytes)?;
    Ok(())
}

pub(super) fn set_rx_ring(socket: BorrowedFd<'_>, layout: &Layout) -> io::Result<()> {
    let number = |n: usize| u32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
    let request = libc::tpacket_req {
        tp_block_size: number(layout.block_bytes)?,
        tp_block_nr: number(layout.blocks)?,
        tp_frame_size: number(layout.stride_bytes)?,
        tp_frame_nr: number(layout.slots())?,
    };
    set(socket, libc::PACKET_RX_RING, &request)
}

/// From here on frames come in: all protocols, never what this host sends.
pub(super) fn start_rx(socket: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    set(socket, libc::PACKET_IGNORE_OUTGOING, &1)?;
    bind(socket, libc::ETH_P_ALL, ifindex)?;
    let everything = libc::packet_mreq {
        mr_ifindex: index(ifindex)?,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::PACKET_ADD_MEMBERSHIP, &everything)
}

/// Makes the socket one that only sends, past the queueing discipline.
pub(super) fn start_tx(
    socket: BorrowedFd<'_>,
    ifindex: u32,
    buffer_bytes: usize,
) -> io::Result<()> {
    set(socket, libc::PACKET_QDISC_BYPASS, &1)?;
    sockopt::set_socket_send_buffer_size_force(socket, buffer_bytes)?;
    bind(socket, 0, ifindex)
}

/// Joins a fanout group by a symmetric hash, or founds one under an id that nobody has. Returns
/// the id.
///
/// Without the DEFRAG flag: it would put fragments together before they are seen.
pub(super) fn join_fanout(socket: BorrowedFd<'_>, group: Option<u16>) -> io::Result<u16> {
    let hash = libc::PACKET_FANOUT_HASH;
    let (id, kind) = match group {
        Some(id) => (id, hash),
        None => (0, hash | libc::PACKET_FANOUT_FLAG_UNIQUEID),
    };
    set(socket, libc::PACKET_FANOUT, &(u32::from(id) | kind << 16))?;
    let joined: u32 = get(socket, libc::PACKET_FANOUT)?;
    Ok((joined & 0xffff) as u16)
}

/// Frames that the kernel dropped for this socket since the last call.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let stats: libc::tpacket_stats = get(socket, libc::PACKET_STATISTICS)?;
    Ok(u64::from(stats.tp_drops))
}

/// Whether the interface that the socket was bound to is gone.
pub(super) fn unbound(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut address = MaybeUninit::<libc::sockaddr_ll>::zeroed();
    let mut bytes = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes to `address`, which has that many.
    let result = unsafe {
        libc::getsockname(
            socket.as_raw_fd(),
            address.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed before, and any bytes are a valid `sockaddr_ll`.
    let address = unsafe { address.assume_init() };
    // When an interface goes away the kernel sets the index of its sockets to -1.
    Ok(address.sll_ifindex <= 0)
}

fn bind(socket: BorrowedFd<'_>, protocol: c_int, ifindex: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: index(ifindex)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: `address` is a `sockaddr_ll` of the length given, and is only read.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn index(ifindex: u32) -> io::Result<c_int> {
    c_int::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The types that packet socket options take and give: plain numbers, whose every bit pattern is
/// valid.
///
/// # Safety
///
/// No padding, no invalid bit patterns.
unsafe trait Plain: Copy {}
// SAFETY: integers, and C structures of integers that leave no gap.
unsafe impl Plain for c_int {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for libc::tpacket_req {}
// SAFETY: as above.
unsafe impl Plain for libc::packet_mreq {}
// SAFETY: as above.
unsafe impl Plain for libc::tpacket_stats {}

fn set<T: Plain>(socket: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn get<T: Plain>(socket: BorrowedFd<'_>, option: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut bytes = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes to `value`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            value.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed before, and `T` has no invalid bit patterns.
    Ok(unsafe { value.assume_init() })
}
