//! The end that is talked to, in one thread.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, recv, recvfrom, send, sendto,
    sockopt,
};

use crate::socket::{self, Waiter};

/// Connections or datagrams that are taken from one socket before others have their turn.
const TURN: usize = 64;

/// Longer questions than Ethernet's frames hold are no use here.
const BUFFER_BYTES: usize = 1 << 16;

/// Closes connections at once, and sends questions back. Prints `ready`; ends with SIGTERM or
/// SIGINT.
#[derive(Args)]
pub(crate) struct Arguments {
    /// This host's address, IPv4 or IPv6.
    address: IpAddr,
    /// Where connections are accepted and closed.
    #[arg(long, default_value = "5000-5015", value_parser = crate::ports)]
    ports: RangeInclusive<u16>,
    /// Where questions are sent back, over TCP and UDP.
    #[arg(long, default_value_t = 5100, value_parser = clap::value_parser!(u16).range(1..))]
    ask_port: u16,
}

enum Place {
    /// Connections to it are closed at once.
    Closing(OwnedFd),
    /// Connections to it ask questions.
    Asking(OwnedFd),
    Datagrams(OwnedFd),
}

pub(crate) fn run(arguments: &Arguments, stop: &AtomicBool) -> Result<()> {
    let Arguments {
        address, ask_port, ..
    } = *arguments;
    ensure!(
        !arguments.ports.contains(&ask_port),
        "port {ask_port} can't be for questions and for connections"
    );
    let at = |port, kind| socket::receiving(SocketAddr::new(address, port), kind);
    let mut places = vec![
        Place::Asking(at(ask_port, SocketType::STREAM)?),
        Place::Datagrams(at(ask_port, SocketType::DGRAM)?),
    ];
    for port in arguments.ports.clone() {
        places.push(Place::Closing(at(port, SocketType::STREAM)?));
    }
    let mut waiter = Waiter::new()?;
    for (number, place) in places.iter().enumerate() {
        let (Place::Closing(socket) | Place::Asking(socket) | Place::Datagrams(socket)) = place;
        waiter.add(socket, number)?;
    }
    // Connections that ask have the numbers behind those of places.
    let mut asking: HashMap<usize, OwnedFd> = HashMap::new();
    let mut next = places.len();
    let mut buffer = vec![0; BUFFER_BYTES];
    println!("ready");
    while !stop.load(Relaxed) {
        let ready: Vec<usize> = waiter.wait()?.collect();
        for number in ready {
            match places.get(number) {
                Some(Place::Closing(listener)) => while_some(|| accepted(listener))?,
                Some(Place::Asking(listener)) => while_some(|| {
                    let Some(connection) = accepted(listener)? else {
                        return Ok(None);
                    };
                    sockopt::set_tcp_nodelay(&connection, true)?;
                    waiter.add(&connection, next)?;
                    asking.insert(next, connection);
                    next += 1;
                    Ok(Some(()))
                })?,
                Some(Place::Datagrams(socket)) => send_back(socket, &mut buffer)?,
                None => {
                    let is_open = asking
                        .get(&number)
                        .is_some_and(|connection| answer(connection, &mut buffer));
                    if !is_open {
                        asking.remove(&number);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Goes on until there is nothing more, or others should have their turn.
fn while_some<T>(mut next: impl FnMut() -> Result<Option<T>>) -> Result<()> {
    for _ in 0..TURN {
        if next()?.is_none() {
            break;
        }
    }
    Ok(())
}

/// A connection, if one waits. What went wrong with a connection is that one's matter.
fn accepted(listener: &OwnedFd) -> Result<Option<OwnedFd>> {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => return Ok(Some(connection)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => {}
            Err(error) => return Err(error).context("accept"),
        }
    }
}

/// Sends a datagram back to where it came from.
fn send_back(socket: &OwnedFd, buffer: &mut [u8]) -> Result<()> {
    match recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
        Ok((bytes, _, Some(from))) => {
            // A full buffer loses it, as the network may.
            let _ = sendto(socket, &buffer[..bytes], SendFlags::empty(), &from);
            Ok(())
        }
        // An answer to nobody: its port is closed by now.
        Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::CONNREFUSED) => Ok(()),
        Err(error) => Err(error).context("receiving datagrams"),
    }
}

/// Sends back what came. False if the connection is over.
fn answer(connection: &OwnedFd, buffer: &mut [u8]) -> bool {
    match recv(connection, &mut *buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) => false,
        Ok((bytes, _)) => send(connection, &buffer[..bytes], SendFlags::empty()).is_ok(),
        Err(Errno::AGAIN | Errno::INTR) => true,
        Err(_) => false,
    }
}
