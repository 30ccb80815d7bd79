//! Packet sockets: one that sends, and what the receiving one has in common with it.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with, sockopt};

/// Room for frames on their way, so that the socket's limit is never what holds the sender back.
const SEND_BUFFER_BYTES: usize = 256 << 20;

/// A packet socket that sends from an interface, past its queueing discipline, and receives
/// nothing.
pub(crate) struct Outbox {
    socket: OwnedFd,
    /// Filled anew by each call; here to be allocated once.
    parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl Outbox {
    pub(crate) fn open(interface: &str, burst: usize) -> Result<Outbox> {
        let (socket, index) = open(interface)?;
        set(&socket, libc::PACKET_QDISC_BYPASS, &1).context("PACKET_QDISC_BYPASS")?;
        sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER_BYTES)
            .context("SO_SNDBUFFORCE")?;
        bind(&socket, 0, index).with_context(|| format!("binding to {interface}"))?;
        Ok(Outbox {
            socket,
            parts: Vec::with_capacity(burst),
            messages: Vec::with_capacity(burst),
        })
    }

    /// Sends these frames in one call. Returns how many went, from the first on.
    pub(crate) fn send<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        self.parts.clear();
        self.parts.extend(frames.map(|frame| libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        }));
        self.messages.clear();
        self.messages.extend(self.parts.iter_mut().map(message));
        // SAFETY: each header refers to one part, and that to one frame, whose lifetime is longer
        // than this call. The kernel only reads frames, and changes nothing else meanwhile.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.messages.len() as libc::c_uint,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: part,
            msg_iovlen: 1,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        },
        msg_len: 0,
    }
}

/// A packet socket that is bound to nothing yet, and the index of the interface.
pub(crate) fn open(interface: &str) -> Result<(OwnedFd, u32)> {
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("a packet socket (it needs root)")?;
    let index = netdevice::name_to_index(&socket, interface)
        .with_context(|| format!("no interface {interface} here"))?;
    Ok((socket, index))
}

/// Protocol 0: nothing is received.
pub(crate) fn bind(socket: &OwnedFd, protocol: libc::c_int, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer and the length are those of one `sockaddr_ll`, which is only read.
    checked(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of_val(&address) as libc::socklen_t,
        )
    })
}

/// Sets an option of packet sockets.
pub(crate) fn set<T: Copy>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    set_at(socket, libc::SOL_PACKET, option, value)
}

pub(crate) fn set_at<T: Copy>(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one `T`, which is only read.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const *value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    })
}

pub(crate) fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
