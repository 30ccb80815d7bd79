//! Connections, as many as there can be. The server closes first, so TIME_WAIT is at its end, and
//! this end does not run out of ports.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, SocketType, connect, recv};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::Serialize;

use crate::socket::{self, Waiter};

/// More connections than can be at once, and what else is open.
const FILES: u64 = 11_000;

/// Opens TCP connections to `talk serve`, waits until it closes each, and closes it, too.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The server's address, IPv4 or IPv6.
    address: IpAddr,
    /// Ports that take turns.
    #[arg(long, default_value = "5000-5015", value_parser = crate::ports)]
    ports: RangeInclusive<u16>,
    /// For how long, in seconds.
    #[arg(long, default_value = "2", value_parser = crate::seconds)]
    secs: f64,
    /// How many connections are open at any time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    at_once: u16,
}

#[derive(Serialize)]
pub(crate) struct Report {
    /// Those that were opened and closed.
    connections: u64,
    failed: u64,
    /// Those that had not come to an end when time was over.
    unfinished: u64,
    secs: f64,
}

pub(crate) fn run(arguments: &Arguments, stop: &AtomicBool) -> Result<Report> {
    let limit = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    if usize::from(arguments.at_once) > 500 {
        setrlimit(Resource::Nofile, limit).context("RLIMIT_NOFILE")?;
    }
    let mut waiter = Waiter::new()?;
    let mut open: Vec<Option<OwnedFd>> = Vec::new();
    open.resize_with(usize::from(arguments.at_once), || None);
    let mut free: Vec<usize> = (0..open.len()).collect();
    let mut ports = arguments.ports.clone().cycle();
    let (mut connections, mut failed) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < arguments.secs && !stop.load(Relaxed) {
        for place in std::mem::take(&mut free) {
            let port = ports.next().expect("a range of ports that is not empty");
            let to = SocketAddr::new(arguments.address, port);
            match begin(to)? {
                Some(socket) => {
                    waiter.add(&socket, place)?;
                    open[place] = Some(socket);
                }
                None => {
                    failed += 1;
                    free.push(place);
                }
            }
        }
        for place in waiter.wait()? {
            let Some(socket) = open[place].take() else {
                continue;
            };
            match recv(&socket, &mut [0; 8], RecvFlags::empty()) {
                Ok((0, _)) => connections += 1,
                Ok(_) | Err(_) => failed += 1,
            }
            free.push(place);
        }
    }
    let secs = begun.elapsed().as_secs_f64();
    let interrupted = stop.load(Relaxed);
    ensure!(
        connections > 0 || interrupted,
        "no connection to {} came to an end ({failed} failed): is `talk serve` there?",
        arguments.address
    );
    Ok(Report {
        connections,
        failed,
        unfinished: open.iter().flatten().count() as u64,
        secs,
    })
}

/// Begins a connection; none if no port is free now.
fn begin(to: SocketAddr) -> Result<Option<OwnedFd>> {
    let socket = socket::open(to, SocketType::STREAM, SocketFlags::NONBLOCK)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(Some(socket)),
        Err(Errno::ADDRNOTAVAIL | Errno::AGAIN | Errno::CONNREFUSED) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("connecting to {to}")),
    }
}
