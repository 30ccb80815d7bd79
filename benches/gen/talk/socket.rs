//! What the parts have in common: sockets, and waiting for many of them.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// How long a wait is at most, so that signals are seen.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Events for each wait.
const EVENTS: usize = 256;

/// More than the kernel allows; it takes what it allows.
const BACKLOG: i32 = i32::MAX;

/// Waits for many sockets at once; each has a number.
pub(crate) struct Waiter {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Waiter {
    pub(crate) fn new() -> Result<Waiter> {
        Ok(Waiter {
            epoll: epoll::create(CreateFlags::CLOEXEC).context("epoll")?,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// A socket that is closed leaves by itself.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) -> Result<()> {
        let data = EventData::new_u64(number as u64);
        epoll::add(&self.epoll, socket, data, EventFlags::IN).context("epoll_ctl")
    }

    /// The numbers of those that can be read, after some time none.
    pub(crate) fn wait(&mut self) -> Result<impl Iterator<Item = usize>> {
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&LOOK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        Ok(self.events.iter().map(|event| event.data.u64() as usize))
    }
}

pub(crate) fn open(to: SocketAddr, kind: SocketType, flags: SocketFlags) -> Result<OwnedFd> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    socket_with(family, kind, flags | SocketFlags::CLOEXEC, None).context("a socket")
}

/// A socket that receives at an address, without blocking; with TCP it listens.
pub(crate) fn receiving(at: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let socket = open(at, kind, SocketFlags::NONBLOCK)?;
    if kind == SocketType::STREAM {
        // The connections of an earlier run may still be in TIME_WAIT.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &at).with_context(|| format!("binding to {at}"))?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG).with_context(|| format!("listening at {at}"))?;
    }
    Ok(socket)
}
