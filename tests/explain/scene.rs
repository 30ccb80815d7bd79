//! Captures made by hand: hosts that speak TCP as text books do, and files of what they said.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, Endianness, TsResolution};

/// When captures begin: 2023-11-14.
const BEGINS: Duration = Duration::from_secs(1_700_000_000);
/// Between two packets.
const STEP: Duration = Duration::from_millis(10);
pub(crate) const ETHERNET_BYTES: usize = 14;

pub(crate) const SYN: u8 = 2;
pub(crate) const FIN: u8 = 1;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// A packet and when it was captured.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) at: Duration,
    pub(crate) frame: Vec<u8>,
    /// On the wire it was this long.
    pub(crate) wire_bytes: usize,
}

/// What was captured.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) packets: Vec<Packet>,
    pub(crate) now: Duration,
}

/// A TCP connection, as far as both ends have come.
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) seq: [u32; 2],
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Who {
    Client,
    Server,
}
pub(crate) use Who::{Client, Server};

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

impl Scene {
    pub(crate) fn new() -> Scene {
        Scene {
            packets: Vec::new(),
            now: BEGINS,
        }
    }

    pub(crate) fn push(&mut self, frame: Vec<u8>) {
        self.packets.push(Packet {
            at: self.now,
            wire_bytes: frame.len(),
            frame,
        });
        self.now += STEP;
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    pub(crate) fn last(&mut self) -> &mut Packet {
        self.packets.last_mut().unwrap()
    }

    /// A connection that is not answered.
    pub(crate) fn syn(&mut self, client: SocketAddr, server: SocketAddr) -> Tcp {
        let tcp = Tcp {
            client,
            server,
            seq: [1000, 5000],
        };
        self.push(tcp.frame(Client, SYN, b""));
        tcp
    }

    /// A connection, with its three packets.
    pub(crate) fn connect(&mut self, client: SocketAddr, server: SocketAddr) -> Tcp {
        let mut tcp = self.syn(client, server);
        tcp.seq[0] += 1;
        self.push(tcp.frame(Server, SYN | ACK, b""));
        tcp.seq[1] += 1;
        self.push(tcp.frame(Client, ACK, b""));
        tcp
    }

    /// One end says something, which the other one acknowledges.
    pub(crate) fn say(&mut self, tcp: &mut Tcp, from: Who, text: &str) {
        self.tell(tcp, from, text);
        let other = if from == Client { Server } else { Client };
        self.push(tcp.frame(other, ACK, b""));
    }

    /// One end says something.
    pub(crate) fn tell(&mut self, tcp: &mut Tcp, from: Who, text: &str) {
        self.push(tcp.frame(from, PSH | ACK, text.as_bytes()));
        tcp.seq[from as usize] += text.len() as u32;
    }

    pub(crate) fn close(&mut self, tcp: &mut Tcp) {
        for from in [Client, Server] {
            self.push(tcp.frame(from, FIN | ACK, b""));
            tcp.seq[from as usize] += 1;
        }
        self.push(tcp.frame(Client, ACK, b""));
    }

    /// A control connection up to the login.
    pub(crate) fn login(&mut self, client: SocketAddr, server: SocketAddr) -> Tcp {
        let mut tcp = self.connect(client, server);
        self.say(&mut tcp, Server, "220 ready\r\n");
        self.say(&mut tcp, Client, "USER anna\r\n");
        self.say(&mut tcp, Server, "331 password?\r\n");
        self.say(&mut tcp, Client, "PASS hunter2\r\n");
        self.say(&mut tcp, Server, "230 welcome\r\n");
        tcp
    }

    /// A data connection that carries a word.
    pub(crate) fn transfer(&mut self, from: SocketAddr, to: SocketAddr) {
        let mut data = self.connect(from, to);
        self.say(&mut data, Client, "data");
        self.close(&mut data);
    }

    /// As little-endian pcap with microseconds.
    pub(crate) fn pcap(&self) -> Vec<u8> {
        self.pcap_with(
            Endianness::Little,
            TsResolution::MicroSecond,
            DataLink::ETHERNET,
        )
    }

    pub(crate) fn pcap_with(
        &self,
        endianness: Endianness,
        ts_resolution: TsResolution,
        datalink: DataLink,
    ) -> Vec<u8> {
        let header = PcapHeader {
            endianness,
            ts_resolution,
            datalink,
            snaplen: 262_144,
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for packet in &self.packets {
            let length = packet.wire_bytes as u32;
            let packet = PcapPacket::new(packet.at, length, &packet.frame);
            writer.write_packet(&packet).unwrap();
        }
        writer.into_writer()
    }

    /// As pcapng: every other packet is of a second interface, with another clock and raw IP.
    pub(crate) fn pcapng(&self) -> Vec<u8> {
        let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
        let mut ether = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
        ether.options = vec![InterfaceDescriptionOption::IfTsResol(9)];
        let raw = InterfaceDescriptionBlock::new(DataLink::RAW, 0);
        writer.write_pcapng_block(ether).unwrap();
        writer.write_pcapng_block(raw).unwrap();
        for (number, packet) in self.packets.iter().enumerate() {
            let is_raw = number % 2 == 1;
            let data = if is_raw {
                &packet.frame[ETHERNET_BYTES..]
            } else {
                &packet.frame
            };
            // The writer puts nanoseconds there, whatever the interface counts.
            let timestamp = if is_raw {
                Duration::from_nanos(packet.at.as_micros() as u64)
            } else {
                packet.at
            };
            let block = EnhancedPacketBlock {
                interface_id: u32::from(is_raw),
                timestamp,
                original_len: data.len() as u32,
                data: Cow::Borrowed(data),
                options: Vec::new(),
            };
            writer.write_pcapng_block(block).unwrap();
        }
        writer.into_inner()
    }

    /// With another head in place of each frame's Ethernet header.
    pub(crate) fn with_head(&self, head: impl Fn(&[u8]) -> Vec<u8>) -> Scene {
        let mut scene = self.clone();
        for packet in &mut scene.packets {
            let (ethernet, rest) = packet.frame.split_at(ETHERNET_BYTES);
            packet.frame = [head(ethernet), rest.to_vec()].concat();
            packet.wire_bytes = packet.frame.len();
        }
        scene
    }
}

impl Tcp {
    pub(crate) fn frame(&self, from: Who, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (src, dst) = match from {
            Client => (self.client, self.server),
            Server => (self.server, self.client),
        };
        let (own, other) = match from {
            Client => (self.seq[0], self.seq[1]),
            Server => (self.seq[1], self.seq[0]),
        };
        let mac = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => [2, 0, 0, 0, 0, v4.octets()[3]],
            IpAddr::V6(v6) => [2, 0, 0, 0, 6, v6.octets()[15]],
        };
        let link = PacketBuilder::ethernet2(mac(src), mac(dst));
        let ip = match (src.ip(), dst.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => link.ipv4(a.octets(), b.octets(), 64),
            (IpAddr::V6(a), IpAddr::V6(b)) => link.ipv6(a.octets(), b.octets(), 64),
            _ => panic!("{src} and {dst}"),
        };
        let mut tcp = ip.tcp(src.port(), dst.port(), own, 65_000);
        for (bit, set) in [(SYN, 0), (FIN, 1), (RST, 2), (PSH, 3), (ACK, 4)] {
            if flags & bit != 0 {
                tcp = match set {
                    0 => tcp.syn(),
                    1 => tcp.fin(),
                    2 => tcp.rst(),
                    3 => tcp.psh(),
                    _ => tcp.ack(other),
                };
            }
        }
        let mut frame = Vec::new();
        tcp.write(&mut frame, payload).unwrap();
        frame
    }
}
