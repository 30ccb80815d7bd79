//! Frames for tests.

use std::net::{IpAddr, SocketAddr};

use super::{TcpFlags, checksum, proto};

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

/// A TCP segment to be built.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Tcp {
    pub(crate) fn new(from: SocketAddr, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Tcp {
        let (window, urgent) = (60_000, 0);
        Tcp {
            from,
            to,
            seq,
            ack,
            flags,
            window,
            urgent,
            options: vec![],
            payload: vec![],
        }
    }

    pub(crate) fn data(mut self, payload: &[u8]) -> Tcp {
        self.flags |= TcpFlags::ACK | TcpFlags::PSH;
        self.payload = payload.to_vec();
        self
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.from.port().to_be_bytes());
        segment.extend(self.to.port().to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        assert_eq!(self.options.len() % 4, 0);
        segment.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(self.urgent.to_be_bytes());
        segment.extend(&self.options);
        segment.extend(&self.payload);
        transport_checksum(&mut segment, 16, self.from.ip(), self.to.ip(), proto::TCP);
        ip_frame(self.from.ip(), self.to.ip(), proto::TCP, &segment)
    }
}

/// A UDP datagram.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    transport_checksum(&mut datagram, 6, from.ip(), to.ip(), proto::UDP);
    ip_frame(from.ip(), to.ip(), proto::UDP, &datagram)
}

/// An ICMP or ICMPv6 message: type, code, identifier and sequence number, rest.
pub(crate) fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, id: u16, rest: &[u8]) -> Vec<u8> {
    let protocol = if from.is_ipv4() {
        proto::ICMP
    } else {
        proto::ICMPV6
    };
    let mut message = vec![kind, code, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend([0, 1]);
    message.extend(rest);
    if from.is_ipv4() {
        let sum = !checksum::fold(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    } else {
        transport_checksum(&mut message, 2, from, to, protocol);
    }
    ip_frame(from, to, protocol, &message)
}

/// An Ethernet frame around an IP payload.
pub(crate) fn ip_frame(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = MACS.to_vec();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + payload.len() as u16).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            let sum = !checksum::fold(checksum::sum(&frame[14..34]));
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        _ => unreachable!("two families"),
    }
    frame.extend(payload);
    frame
}

fn transport_checksum(bytes: &mut [u8], at: usize, from: IpAddr, to: IpAddr, protocol: u8) {
    let pseudo = checksum::pseudo_header(from, to, protocol, bytes.len());
    let sum = !checksum::fold(checksum::sum(bytes) + pseudo);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
