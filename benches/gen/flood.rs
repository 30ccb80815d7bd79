//! Sends small frames of many flows as fast as it can, or at a rate: the traffic generator of
//! `scripts/bench` and of the end-to-end tests. It writes raw frames, so the addresses in them
//! belong to no host, unless `--to` names one.
//!
//! Flow number i is 192.0.2.100:(1024 + i) to 192.0.2.200:5000. Beyond 60,000 flows, with `--spoof`
//! and with `--count`, sources are from 198.18.0.0/15, the range for benchmarks (RFC 2544).
//!
//! With `--count` each flow is sent once, and flows are spread over all those sources. As a flow's number says all about it, three runs make real
//! handshakes: `--kind syn` at the client's wire, `--kind syn-ack` at the server's, `--kind ack` at
//! the client's again.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use pnet::util::MacAddr;

/// Frames for each system call: beyond 32 nothing is gained.
const BATCH_FRAMES: usize = 32;

/// Room for frames on their way, so that the socket's limit is never what holds the sender back.
const SEND_BUFFER_BYTES: libc::c_int = 256 << 20;

/// At a rate, sending that is ahead of its time by more than this sleeps instead of spinning.
const SLEEP_AHEAD: Duration = Duration::from_micros(50);

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const TCP_BYTES: usize = 20;
const FCS_BYTES: usize = 4;

/// Source ports for each source address.
const PORTS: u32 = 60_000;
const FIRST_PORT: u16 = 1024;
/// Addresses in 198.18.0.0/15.
const SPOOFED_ADDRESSES: u32 = 1 << 17;
const FIRST_SPOOFED: u32 = 0xc612_0000;

/// Sends frames out of an interface and prints what it did as one line of JSON.
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
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    flows: u32,
    /// Number of the first flow.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Send each flow once, however long it takes, and end.
    #[arg(long)]
    count: bool,
    /// Each frame has a source of its own, in no order that repeats soon; --flows has no meaning.
    #[arg(long, conflicts_with = "count")]
    spoof: bool,
    /// What to send.
    #[arg(long, value_enum, default_value_t = Kind::Udp)]
    kind: Kind,
    /// Where flows go: an address and port.
    #[arg(long, default_value = "192.0.2.200:5000")]
    to: SocketAddrV4,
    /// The MAC address of the frames' destination.
    #[arg(long, default_value = "02:00:00:00:02:c8")]
    mac: MacAddr,
    /// Length of a frame on the wire, the 4 bytes of its check sequence included.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1518))]
    size: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Udp,
    /// TCP, what a client begins with.
    Syn,
    /// TCP, the answer: from --to, to the flow's source.
    SynAck,
    /// TCP, what makes the connection established.
    Ack,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let socket = packet_socket(&arguments.interface)?;
    let report = flood(&socket, &arguments)?;
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

fn flood(socket: &OwnedFd, arguments: &Arguments) -> Result<Report> {
    let bytes = usize::from(arguments.size) - FCS_BYTES;
    let mut frames = vec![template(arguments, bytes); BATCH_FRAMES];
    let mut parts: Vec<libc::iovec> = frames
        .iter_mut()
        .map(|frame| libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();

    let (mut sent, mut refused) = (0u64, 0u64);
    let mut numbers = Numbers::new(arguments);
    // The flows of the frames that wait, in their order.
    let mut waiting: Vec<Source> = Vec::with_capacity(BATCH_FRAMES);
    let begun = Instant::now();
    loop {
        let elapsed = begun.elapsed();
        let over = if arguments.count {
            sent == u64::from(arguments.flows)
        } else {
            elapsed.as_secs_f64() >= arguments.secs
        };
        if over {
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
        let more = count.saturating_sub(waiting.len());
        waiting.extend(numbers.by_ref().take(more));
        for (source, frame) in waiting.iter().zip(&mut frames) {
            write_flow(frame, arguments.kind, *source);
        }
        let count = waiting.len().min(count);
        // SAFETY: `messages` has at least `count` initialised headers; each refers to one entry of
        // `parts` and that to one frame, and all outlive the call and stay unchanged meanwhile.
        let done = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
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
            // With --count it is sent again, else the next one takes its place.
            usize::from(!arguments.count)
        };
        waiting.drain(..done);
    }
}

/// Where a flow comes from: its address and port.
type Source = (u32, u16);

/// The flows' sources, one after the other.
struct Numbers {
    first: u32,
    flows: u32,
    next: u32,
    count: bool,
    /// State of the generator of spoofed sources.
    spoof: Option<u64>,
}

impl Numbers {
    fn new(arguments: &Arguments) -> Numbers {
        Numbers {
            first: arguments.first,
            flows: arguments.flows,
            next: 0,
            count: arguments.count,
            spoof: arguments.spoof.then_some(0x9e37_79b9_7f4a_7c15),
        }
    }
}

impl Iterator for Numbers {
    type Item = Source;

    fn next(&mut self) -> Option<Source> {
        if let Some(state) = &mut self.spoof {
            // xorshift64: the same sources in each run.
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            let address = FIRST_SPOOFED + (*state >> 40) as u32 % SPOOFED_ADDRESSES;
            return Some((address, FIRST_PORT + (*state % u64::from(PORTS)) as u16));
        }
        if self.next == self.flows {
            if self.count {
                return None;
            }
            self.next = 0;
        }
        let number = self.first + self.next;
        self.next += 1;
        if self.count {
            // No source has more than its share of a table.
            let address = FIRST_SPOOFED + number % SPOOFED_ADDRESSES;
            return Some((address, FIRST_PORT + (number / SPOOFED_ADDRESSES) as u16));
        }
        let address = match number / PORTS {
            0 => 0xc000_0264, // 192.0.2.100
            more => FIRST_SPOOFED + more,
        };
        Some((address, FIRST_PORT + (number % PORTS) as u16))
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

/// A frame with all but what differs from flow to flow. UDP checksum 0: none.
fn template(arguments: &Arguments, bytes: usize) -> Vec<u8> {
    let ip_bytes = (bytes - ETHERNET_BYTES) as u16;
    let (protocol, mut l4) = match arguments.kind {
        Kind::Udp => {
            let mut udp = vec![0; UDP_BYTES];
            udp[4..6].copy_from_slice(&(ip_bytes - IPV4_BYTES as u16).to_be_bytes());
            (17, udp)
        }
        kind => {
            let mut tcp = vec![0; TCP_BYTES];
            let (sequence, acknowledgment, flags): (u32, u32, u8) = match kind {
                Kind::SynAck => (SERVER_ISN, CLIENT_ISN + 1, 0x12),
                Kind::Ack => (CLIENT_ISN + 1, SERVER_ISN + 1, 0x10),
                _ => (CLIENT_ISN, 0, 0x02),
            };
            tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
            tcp[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
            tcp[12] = 5 << 4;
            tcp[13] = flags;
            tcp[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
            (6, tcp)
        }
    };
    // A TCP segment ends with its header: what follows is padding.
    let ip_bytes = match arguments.kind {
        Kind::Udp => ip_bytes,
        _ => (IPV4_BYTES + TCP_BYTES) as u16,
    };
    let fixed = [
        arguments.to.ip().octets().to_vec(),
        arguments.to.port().to_be_bytes().to_vec(),
    ];
    let (address_at, port_at) = match arguments.kind {
        Kind::SynAck => (12, 0),
        _ => (16, 2),
    };
    let mut frame = Vec::with_capacity(bytes);
    frame.extend(arguments.mac.octets());
    frame.extend([2, 0, 0, 0, 2, 0x64]);
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0]);
    frame.extend(ip_bytes.to_be_bytes());
    // No identification, don't fragment, 64 hops, checksum to come.
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend([0; 8]);
    let address_at = ETHERNET_BYTES + address_at;
    frame[address_at..address_at + 4].copy_from_slice(&fixed[0]);
    l4[port_at..port_at + 2].copy_from_slice(&fixed[1]);
    frame.append(&mut l4);
    frame.resize(bytes, 0);
    frame
}

/// The same for all flows: a flow is told by its addresses and ports.
const CLIENT_ISN: u32 = 1_000_000;
const SERVER_ISN: u32 = 2_000_000;

/// Puts a flow's source into a frame and makes its checksums right.
fn write_flow(frame: &mut [u8], kind: Kind, (address, port): Source) {
    const IP: usize = ETHERNET_BYTES;
    const L4: usize = IP + IPV4_BYTES;
    let (address_at, port_at) = match kind {
        Kind::SynAck => (IP + 16, L4 + 2),
        _ => (IP + 12, L4),
    };
    frame[address_at..address_at + 4].copy_from_slice(&address.to_be_bytes());
    frame[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
    frame[IP + 10..IP + 12].fill(0);
    let sum = !fold(sum(&frame[IP..L4]));
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    if kind != Kind::Udp {
        frame[L4 + 16..L4 + 18].fill(0);
        let pseudo = sum_of_addresses(frame) + 6 + TCP_BYTES as u32;
        let sum = !fold(pseudo + self::sum(&frame[L4..L4 + TCP_BYTES]));
        frame[L4 + 16..L4 + 18].copy_from_slice(&sum.to_be_bytes());
    }
}

fn sum_of_addresses(frame: &[u8]) -> u32 {
    sum(&frame[ETHERNET_BYTES + 12..ETHERNET_BYTES + IPV4_BYTES])
}

/// The sum of 16-bit words (RFC 1071), not folded.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
