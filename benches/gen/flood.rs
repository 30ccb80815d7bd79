//! Sends small UDP frames of many flows as fast as it can, or at a rate: the traffic generator of
//! `scripts/bench`. It writes raw frames, so the addresses in them belong to no host.
//!
//! Flow number i is 192.0.2.100:(1024 + i) to 192.0.2.200:5000.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

/// Frames for each system call: beyond 32 nothing is gained.
const BATCH_FRAMES: usize = 32;

/// Room for frames on their way, so that the socket's limit is never what holds the sender back.
const SEND_BUFFER_BYTES: libc::c_int = 256 << 20;

/// At a rate, sending that is ahead of its time by more than this sleeps instead of spinning.
const SLEEP_AHEAD: Duration = Duration::from_micros(50);

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const FCS_BYTES: usize = 4;

/// Sends UDP frames out of an interface and prints what it did as one line of JSON.
#[derive(Parser)]
struct Arguments {
    /// The interface to send from.
    interface: String,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 2.0)]
    secs: f64,
    /// Frames a second; 0: as many as it can.
    #[arg(long, default_value_t = 0.0)]
    pps: f64,
    /// How many flows take turns.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=60000))]
    flows: u16,
    /// Length of a frame on the wire, the 4 bytes of its check sequence included.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1518))]
    size: u16,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let socket = packet_socket(&arguments.interface)?;
    let bytes = usize::from(arguments.size) - FCS_BYTES;
    let frames: Vec<Vec<u8>> = (0..arguments.flows)
        .map(|flow| frame(flow, bytes))
        .collect();
    let report = flood(&socket, &frames, &arguments)?;
    println!(
        "{{\"sent\":{},\"refused\":{},\"secs\":{:.6}}}",
        report.sent,
        report.refused,
        report.took.as_secs_f64()
    );
    Ok(())
}

struct Report {
    sent: u64,
    /// Frames that the interface had no room for.
    refused: u64,
    took: Duration,
}

fn flood(socket: &OwnedFd, frames: &[Vec<u8>], arguments: &Arguments) -> Result<Report> {
    let mut parts: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| libc::iovec {
            iov_base: frame.as_ptr() as *mut _,
            iov_len: frame.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
    // So that a batch never has to wrap around.
    let wrapped: Vec<libc::mmsghdr> = messages
        .iter()
        .copied()
        .cycle()
        .take(BATCH_FRAMES)
        .collect();
    messages.extend(wrapped);

    let (mut sent, mut refused, mut next) = (0u64, 0u64, 0usize);
    let begun = Instant::now();
    loop {
        let elapsed = begun.elapsed();
        if elapsed.as_secs_f64() >= arguments.secs {
            return Ok(Report {
                sent,
                refused,
                took: elapsed,
            });
        }
        let mut count = BATCH_FRAMES;
        if arguments.pps > 0.0 {
            let due = elapsed.as_secs_f64() * arguments.pps - (sent + refused) as f64;
            if due < 1.0 {
                if -due > SLEEP_AHEAD.as_secs_f64() * arguments.pps {
                    std::thread::sleep(SLEEP_AHEAD);
                }
                continue;
            }
            count = count.min(due as usize);
        }
        let batch = &mut messages[next..next + count];
        // SAFETY: `batch` points to `count` initialised headers; each refers to one entry of
        // `parts` and that to one frame, and both outlive the call and stay unchanged.
        let done = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                batch.as_mut_ptr(),
                count as libc::c_uint,
                0,
            )
        };
        let done = if done >= 0 {
            sent += done as u64;
            done as usize
        } else {
            let error = io::Error::last_os_error();
            let full = matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN));
            ensure!(full, "sending on {}: {error}", arguments.interface);
            refused += 1;
            1
        };
        next = (next + done) % frames.len();
    }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: a header of zeros is valid: no address, no control data.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    message
}

/// A packet socket that sends from the interface, past its queueing discipline.
fn packet_socket(interface: &str) -> Result<OwnedFd> {
    let name = CString::new(interface)?;
    // SAFETY: `name` is a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "no interface {interface} here");
    // Protocol 0: it receives nothing.
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    checked(fd).context("a packet socket (it needs root)")?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1).context("PACKET_QDISC_BYPASS")?;
    set(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_SNDBUFFORCE,
        SEND_BUFFER_BYTES,
    )
    .context("SO_SNDBUFFORCE")?;
    // SAFETY: an address of zeros is valid; the fields that matter follow.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as libc::c_int;
    // SAFETY: the pointer and the length are those of one `sockaddr_ll`.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of_val(&address) as libc::socklen_t,
        )
    };
    checked(bound).with_context(|| format!("binding to {interface}"))?;
    Ok(socket)
}

fn set(socket: &OwnedFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one `c_int`.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The frame of a flow. UDP checksum 0: none.
fn frame(flow: u16, bytes: usize) -> Vec<u8> {
    let ip_bytes = (bytes - ETHERNET_BYTES) as u16;
    let mut frame = Vec::with_capacity(bytes);
    frame.extend([2, 0, 0, 0, 2, 0xc8]);
    frame.extend([2, 0, 0, 0, 2, 0x64]);
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0]);
    frame.extend(ip_bytes.to_be_bytes());
    // No identification, don't fragment, 64 hops, UDP, checksum below.
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend([192, 0, 2, 100]);
    frame.extend([192, 0, 2, 200]);
    let checksum = internet_checksum(&frame[ETHERNET_BYTES..]);
    frame[ETHERNET_BYTES + 10..ETHERNET_BYTES + 12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend((1024 + flow).to_be_bytes());
    frame.extend(5000u16.to_be_bytes());
    frame.extend((ip_bytes - IPV4_BYTES as u16).to_be_bytes());
    frame.extend([0, 0]);
    debug_assert_eq!(frame.len(), ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES);
    frame.resize(bytes, 0);
    frame
}

fn internet_checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
