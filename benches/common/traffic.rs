//! Frames of many flows, written into slots: a template, with what differs put in.
//!
//! Clients are outside and begin; the server is inside.

use std::net::{Ipv4Addr, SocketAddr};

use lotus::wire::{Side, TcpFlags, checksum, proto};

use super::frame::{Segment, udp};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
pub const FTP: u16 = 21;
/// A port that the rules let in, and one that they don't.
pub const OPEN: u16 = 5001;
pub const SHUT: u16 = 8080;

/// Where each end's numbers begin.
pub const CLIENT_ISN: u32 = 1_000_000;
pub const SERVER_ISN: u32 = 4_200_000_000;

/// Flows of one client; more take the next address.
const PORTS_PER_CLIENT: u32 = 50_000;
const FIRST_PORT: u32 = 10_000;
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// As systems in use send them: MSS 1460, SACK permitted, timestamps, window scale 7.
const SYN_OPTIONS: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];
/// Timestamps, behind two bytes of padding.
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Udp,
    Tcp,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Client,
    Server,
}

impl From {
    pub fn side(self) -> Side {
        match self {
            From::Client => Side::Outside,
            From::Server => Side::Inside,
        }
    }
}

/// A frame without the name of its flow.
pub struct Template {
    bytes: Vec<u8>,
    from: From,
    protocol: u8,
}

/// The client of a flow.
pub fn client(flow: u32) -> (Ipv4Addr, u16) {
    let address = FIRST_CLIENT.to_bits() + flow / PORTS_PER_CLIENT;
    let port = FIRST_PORT + flow % PORTS_PER_CLIENT;
    (Ipv4Addr::from_bits(address), port as u16)
}

fn ends(from: From, server_port: u16) -> (SocketAddr, SocketAddr) {
    let client = SocketAddr::from(client(0));
    let server = SocketAddr::from((SERVER, server_port));
    match from {
        From::Client => (client, server),
        From::Server => (server, client),
    }
}

impl Template {
    /// A datagram that makes a frame of 60 bytes.
    pub fn udp(from: From, server_port: u16) -> Template {
        let (source, destination) = ends(from, server_port);
        Template {
            bytes: udp(source, destination, &[0x55; 18]),
            from,
            protocol: proto::UDP,
        }
    }

    /// A segment with these flags.
    pub fn tcp(from: From, server_port: u16, flags: u8, payload: &[u8]) -> Template {
        let (source, destination) = ends(from, server_port);
        let mut segment = Segment::new(source, destination, flags, 0, 0);
        segment.payload = payload.to_vec();
        segment.options = match flags & TcpFlags::SYN {
            0 => OPTIONS.to_vec(),
            _ => SYN_OPTIONS.to_vec(),
        };
        Template {
            bytes: segment.frame(),
            from,
            protocol: proto::TCP,
        }
    }

    pub fn side(&self) -> Side {
        self.from.side()
    }

    /// Writes the frame of a flow into a slot, with right checksums, and says how long it is.
    pub fn write(&self, slot: &mut [u8], flow: u32, seq: u32, ack: u32) -> usize {
        let frame = &mut slot[..self.bytes.len()];
        frame.copy_from_slice(&self.bytes);
        let (address, port) = client(flow);
        let (address_at, port_at) = match self.from {
            From::Client => (26, 34),
            From::Server => (30, 36),
        };
        frame[address_at..address_at + 4].copy_from_slice(&address.octets());
        frame[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
        if self.protocol == proto::TCP {
            frame[38..42].copy_from_slice(&seq.to_be_bytes());
            frame[42..46].copy_from_slice(&ack.to_be_bytes());
        }
        frame[24..26].fill(0);
        let sum = !checksum::fold(checksum::sum(&frame[14..34]));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let sum_at = match self.protocol {
            proto::TCP => 50,
            _ => 40,
        };
        frame[sum_at..sum_at + 2].fill(0);
        let l4 = &frame[34..];
        let pseudo =
            checksum::pseudo_header(address.into(), SERVER.into(), self.protocol, l4.len());
        let sum = !checksum::fold(checksum::sum(l4) + pseudo);
        frame[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        frame.len()
    }
}

/// How far the ends of an FTP control connection have got.
#[derive(Default)]
pub struct Dialogue {
    /// Bytes that the client said, and the server.
    said: [u32; 2],
}

/// A segment with a line of a dialogue: the same for all connections that have the same dialogue.
pub struct Line {
    pub template: Template,
    seq: u32,
    ack: u32,
}

/// How sessions begin.
pub const LOGIN: [(From, &[u8]); 5] = [
    (From::Server, b"220 ready\r\n"),
    (From::Client, b"USER joe\r\n"),
    (From::Server, b"331 password?\r\n"),
    (From::Client, b"PASS secret\r\n"),
    (From::Server, b"230 welcome\r\n"),
];

impl Dialogue {
    pub fn say(&mut self, from: From, line: &[u8]) -> Line {
        let [client, server] = self.said;
        let client_next = (CLIENT_ISN + 1).wrapping_add(client);
        let server_next = (SERVER_ISN + 1).wrapping_add(server);
        let bytes = line.len() as u32;
        let (seq, ack) = match from {
            From::Client => {
                self.said = [client.wrapping_add(bytes), server];
                (client_next, server_next)
            }
            From::Server => {
                self.said = [client, server.wrapping_add(bytes)];
                (server_next, client_next)
            }
        };
        Line {
            template: Template::tcp(from, FTP, TcpFlags::ACK | TcpFlags::PSH, line),
            seq,
            ack,
        }
    }
}

impl Line {
    pub fn write(&self, slot: &mut [u8], flow: u32) -> usize {
        self.template.write(slot, flow, self.seq, self.ack)
    }
}

/// The two SYNs of a connection to this port: the template, sequence number, acknowledgment.
pub fn handshake(server_port: u16) -> [(Template, u32, u32); 2] {
    let syn_ack = TcpFlags::SYN | TcpFlags::ACK;
    [
        (From::Client, TcpFlags::SYN, CLIENT_ISN, 0),
        (From::Server, syn_ack, SERVER_ISN, CLIENT_ISN + 1),
    ]
    .map(|(from, flags, seq, ack)| (Template::tcp(from, server_port, flags, &[]), seq, ack))
}
