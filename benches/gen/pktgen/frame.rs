//! What frames look like. TCP's sequence numbers are the same for all flows: a flow is told by its
//! addresses and ports. So three runs make real handshakes: `--kind syn` at the client's wire,
//! `--kind syn-ack` at the server's, `--kind ack` at the client's again.

use std::net::SocketAddrV4;

use clap::ValueEnum;
use lotus::wire::checksum;
use pnet::util::MacAddr;

use crate::flow::Source;

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const TCP_BYTES: usize = 20;

/// Where parts begin in a frame.
const IP: usize = ETHERNET_BYTES;
const L4: usize = IP + IPV4_BYTES;
const IP_SUM: usize = IP + 10;
const TCP_SUM: usize = L4 + 16;

const CLIENT_MAC: MacAddr = MacAddr(0x02, 0, 0, 0, 0x02, 0x64);
const SERVER_MAC: MacAddr = MacAddr(0x02, 0, 0, 0, 0x02, 0xc8);
const CLIENT_ISN: u32 = 1_000_000;
const SERVER_ISN: u32 = 2_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Udp,
    /// TCP, what a connection begins with.
    Syn,
    /// TCP, the answer: from --to, to the flow's source.
    SynAck,
    /// TCP, what makes the connection established.
    Ack,
}

/// What all frames of a run have in common.
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Without the frame check sequence.
    pub(crate) bytes: usize,
    /// The flows' other end.
    pub(crate) to: SocketAddrV4,
    pub(crate) mac: Option<MacAddr>,
    /// From the flows' other end to their sources.
    pub(crate) reply: bool,
}

/// A frame with all but what differs from flow to flow.
pub(crate) struct Template {
    frame: Vec<u8>,
    /// Where the source's address and port go.
    address_at: usize,
    port_at: usize,
    /// Sums of what is the same in each frame.
    ip_sum: u64,
    /// None in UDP, whose checksum is 0: none.
    tcp_sum: Option<u64>,
}

impl Template {
    pub(crate) fn new(shape: &Shape) -> Template {
        let reply = shape.reply || shape.kind == Kind::SynAck;
        let (l4, protocol) = match shape.kind {
            Kind::Udp => (udp(shape.bytes - L4), 17),
            kind => (tcp(kind, reply), 6),
        };
        // A TCP segment ends with its header: what follows is padding.
        let ip_bytes = match shape.kind {
            Kind::Udp => shape.bytes - ETHERNET_BYTES,
            _ => IPV4_BYTES + TCP_BYTES,
        };
        let [near, far] = if reply {
            [SERVER_MAC, CLIENT_MAC]
        } else {
            [CLIENT_MAC, SERVER_MAC]
        };
        let mut frame = Vec::with_capacity(shape.bytes);
        frame.extend(shape.mac.unwrap_or(far).octets());
        frame.extend(near.octets());
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((ip_bytes as u16).to_be_bytes());
        // No identification, don't fragment, 64 hops, checksum to come.
        frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([0; 8]);
        frame.extend(l4);
        frame.resize(shape.bytes, 0);

        let [source, destination] = [(IP + 12, L4), (IP + 16, L4 + 2)];
        let (ours, theirs) = if reply {
            (destination, source)
        } else {
            (source, destination)
        };
        frame[theirs.0..theirs.0 + 4].copy_from_slice(&shape.to.ip().octets());
        frame[theirs.1..theirs.1 + 2].copy_from_slice(&shape.to.port().to_be_bytes());
        let ip_sum = checksum::sum(&frame[IP..L4]);
        let tcp_sum = (shape.kind != Kind::Udp).then(|| {
            let pseudo = checksum::sum(&frame[IP + 12..L4]) + u64::from(protocol);
            pseudo + TCP_BYTES as u64 + checksum::sum(&frame[L4..L4 + TCP_BYTES])
        });
        Template {
            frame,
            address_at: ours.0,
            port_at: ours.1,
            ip_sum,
            tcp_sum,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.frame
    }

    /// Makes a copy of the template a frame of this flow; checksums are right then.
    pub(crate) fn write(&self, frame: &mut [u8], source: Source) {
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        put(self.address_at, &source.address.to_be_bytes());
        put(self.port_at, &source.port.to_be_bytes());
        let address = u64::from(source.address);
        put(IP_SUM, &finished(self.ip_sum + address));
        if let Some(sum) = self.tcp_sum {
            put(TCP_SUM, &finished(sum + address + u64::from(source.port)));
        }
    }
}

fn finished(sum: u64) -> [u8; 2] {
    (!checksum::fold(sum)).to_be_bytes()
}

/// The header; ports to come.
fn udp(bytes: usize) -> Vec<u8> {
    let mut header = vec![0; UDP_BYTES];
    header[4..6].copy_from_slice(&(bytes as u16).to_be_bytes());
    header
}

/// A segment without data; ports to come.
fn tcp(kind: Kind, reply: bool) -> Vec<u8> {
    let (own, peer) = if reply {
        (SERVER_ISN, CLIENT_ISN)
    } else {
        (CLIENT_ISN, SERVER_ISN)
    };
    let (sequence, acknowledgment, flags): (u32, u32, u8) = match kind {
        Kind::SynAck => (own, peer + 1, 0x12),
        Kind::Ack => (own + 1, peer + 1, 0x10),
        _ => (own, 0, 0x02),
    };
    let mut header = vec![0; TCP_BYTES];
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    header[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
    header[12] = 5 << 4;
    header[13] = flags;
    header[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
    header
}
