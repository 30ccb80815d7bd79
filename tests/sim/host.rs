//! A host: smoltcp's interface and sockets behind a queue of frames.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lotus::conntrack::Time;
use lotus::wire::Side;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::Socket;
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint};

use crate::packet::{ACK, View};
use crate::rng::Rng;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

const ETHERNET_MTU_BYTES: usize = 1514;
const CONTROL_BUFFER_BYTES: usize = 2048;
const DATA_BUFFER_BYTES: usize = 8192;

/// The address of a host, and a second one of the same host from which nothing was agreed.
pub fn address(side: Side, family: Family, second: bool) -> IpAddr {
    let last = match side {
        Side::Inside => 10,
        Side::Outside => 20,
    } + u8::from(second);
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, last).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

pub fn instant(now: Time) -> Instant {
    Instant::from_micros((now.as_nanos() / 1000) as i64)
}

#[derive(Default)]
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
}

pub struct Host {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    rng: Rng,
    /// Sockets that their owner is done with, kept until TCP is done with them too.
    leaving: Vec<SocketHandle>,
    used_ports: Vec<u16>,
    /// The highest pure ACK of each connection.
    last_ack: HashMap<(SocketAddr, SocketAddr), u32>,
}

impl Host {
    pub fn new(side: Side, mut rng: Rng) -> Host {
        let mac = EthernetAddress([2, 0, 0, 0, 0, side.index() as u8 + 1]);
        let mut config = Config::new(mac.into());
        config.random_seed = rng.next();
        let mut wire = Wire::default();
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for (family, bits) in [(Family::V4, 24), (Family::V6, 64)] {
                for second in [false, true] {
                    list.push(IpCidr::new(address(side, family, second).into(), bits))
                        .unwrap();
                }
            }
        });
        let sockets = SocketSet::new(Vec::new());
        Host {
            interface,
            sockets,
            wire,
            rng,
            leaving: Vec::new(),
            used_ports: Vec::new(),
            last_ack: HashMap::new(),
        }
    }

    pub fn deliver(&mut self, frame: Vec<u8>) {
        if !self.would_lose_its_fin(&frame) {
            self.wire.rx.push_back(frame);
        }
    }

    /// smoltcp 0.14 goes to sleep for ever when the third duplicate ACK comes while only its FIN
    /// is not acknowledged: the fast retransmission finds no data to send and stops the timer.
    /// Such an ACK says nothing new, so it ends here, and the FIN is sent again by its timer.
    fn would_lose_its_fin(&mut self, frame: &[u8]) -> bool {
        let Some(ip) = View::of(frame).and_then(|view| view.ip) else {
            return false;
        };
        let Some(tcp) = ip.tcp(frame) else {
            return false;
        };
        if tcp.flags != ACK || tcp.payload_at != ip.end || ip.fragment.is_some() {
            return false;
        }
        let (from, to) = (
            SocketAddr::new(ip.src, tcp.src_port),
            SocketAddr::new(ip.dst, tcp.dst_port),
        );
        let highest = self
            .last_ack
            .entry((from, to))
            .or_insert(tcp.ack.wrapping_sub(1));
        let again = tcp.ack.wrapping_sub(*highest) as i32 <= 0;
        if !again {
            *highest = tcp.ack;
        }
        again
            && self.sockets.iter().any(|(_, socket)| {
                let Socket::Tcp(socket) = socket else {
                    return false;
                };
                let closing = matches!(
                    socket.state(),
                    State::FinWait1 | State::Closing | State::LastAck
                );
                let at = |end: SocketAddr| Some(IpEndpoint::from(end));
                closing
                    && socket.send_queue() == 0
                    && socket.local_endpoint() == at(to)
                    && socket.remote_endpoint() == at(from)
            })
    }

    /// Runs TCP; returns the frames that leave.
    pub fn poll(&mut self, now: Time) -> Vec<Vec<u8>> {
        self.interface
            .poll(instant(now), &mut self.wire, &mut self.sockets);
        let sockets = &mut self.sockets;
        self.leaving.retain(|&handle| {
            let closed = sockets.get::<tcp::Socket<'_>>(handle).state() == State::Closed;
            if closed {
                sockets.remove(handle);
            }
            !closed
        });
        std::mem::take(&mut self.wire.tx)
    }

    /// When it wants to be polled next.
    pub fn next_poll(&mut self, now: Time) -> Option<Time> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(Time::from_nanos(at.total_micros().max(0) as u64 * 1000))
    }

    pub fn listen(&mut self, at: SocketAddr) -> SocketHandle {
        let mut socket = new_socket(at.port());
        socket.listen((at.ip(), at.port())).unwrap();
        self.sockets.add(socket)
    }

    pub fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> SocketHandle {
        let mut socket = new_socket(to.port());
        let context = self.interface.context();
        socket
            .connect(context, (to.ip(), to.port()), (from.ip(), from.port()))
            .unwrap();
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Ends a connection in order; what is left to send is still sent.
    pub fn close(&mut self, handle: SocketHandle) {
        self.socket(handle).close();
        self.leaving.push(handle);
    }

    /// Ends a connection with a reset.
    pub fn abort(&mut self, handle: SocketHandle) {
        self.socket(handle).abort();
        self.leaving.push(handle);
    }

    /// A port that this host has not used yet, of `count` from `first`; when half of them were used, all
    /// may come again (probes of a session that lasts an hour).
    pub fn fresh_port(&mut self, first: u16, count: u16) -> u16 {
        let inside = |port: &u16| (first..first + count).contains(port);
        if self.used_ports.iter().filter(|port| inside(port)).count() >= usize::from(count / 2) {
            self.used_ports.retain(|port| !inside(port));
        }
        loop {
            let port = first + self.rng.below(count.into()) as u16;
            if !self.used_ports.contains(&port) {
                self.used_ports.push(port);
                return port;
            }
        }
    }
}

fn new_socket(port: u16) -> tcp::Socket<'static> {
    let bytes = if port == 21 {
        CONTROL_BUFFER_BYTES
    } else {
        DATA_BUFFER_BYTES
    };
    let buffer = || tcp::SocketBuffer::new(vec![0; bytes]);
    tcp::Socket::new(buffer(), buffer())
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let frame = self.rx.pop_front()?;
        Some((Incoming(frame), Outgoing(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET_MTU_BYTES;
        capabilities
    }
}

pub struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}
