//! What of a frame is shown to a person, in one line.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::observe::DropReason;
use crate::wire::{ETHERTYPE_ARP, Icmp, Ip, L4, Packet, TcpFlags, TcpSegment, proto};

/// What tells from which side a frame came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Destination and source, in the order of the frame.
    pub(super) macs: ([u8; 6], [u8; 6]),
    /// Source and destination.
    pub(super) addresses: Option<(IpAddr, IpAddr)>,
    /// Source and destination.
    pub(super) ports: Option<(u16, u16)>,
    pub(super) is_tcp: bool,
    /// It shows that the other end spoke before: a SYN-ACK.
    pub(super) is_answer: bool,
}

/// An ARP message between IPv4 addresses (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arp {
    operation: u16,
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

impl View {
    pub(super) fn of(frame: &[u8], packet: Option<&Packet>) -> View {
        let mac = |at: usize| frame.get(at..).and_then(<[u8]>::first_chunk);
        let mut view = View {
            macs: [0, 6].map(|at| mac(at).copied().unwrap_or_default()).into(),
            addresses: None,
            ports: None,
            is_tcp: false,
            is_answer: false,
        };
        let Some(packet) = packet else {
            return view;
        };
        let Some(ip) = &packet.ip else {
            view.addresses = arp(frame, packet).map(|arp| (arp.sender.into(), arp.target.into()));
            return view;
        };
        view.addresses = Some((ip.src, ip.dst));
        match &ip.l4 {
            L4::Tcp(tcp) => {
                view.ports = Some((tcp.src_port, tcp.dst_port));
                view.is_tcp = true;
                view.is_answer = tcp.flags.has(TcpFlags::SYN) && tcp.flags.has(TcpFlags::ACK);
            }
            L4::Udp(udp) => view.ports = Some((udp.src_port, udp.dst_port)),
            L4::Icmp(_) | L4::Other | L4::Unparsed => {}
        }
        view
    }
}

/// One line: who to whom, what. Sequence numbers are shown relative to `base`, those of both
/// directions' beginnings.
pub(super) fn line(
    frame: &[u8],
    parsed: &Result<Packet, DropReason>,
    base: Option<[u32; 2]>,
) -> String {
    let packet = match parsed {
        Ok(packet) => packet,
        Err(_) => return format!("a frame of {} bytes that can't be read", frame.len()),
    };
    let mut line = String::new();
    if packet.ether.vlan_count > 0 {
        let ids = packet.ether.vlan_ids();
        let tags = ids.iter().take(packet.ether.vlan_count.into());
        let tags: Vec<_> = tags.map(ToString::to_string).collect();
        let _ = write!(line, "vlan {} ", tags.join("."));
    }
    match &packet.ip {
        Some(ip) => line.push_str(&ip_line(ip, base)),
        None => line.push_str(&other_line(frame, packet)),
    }
    line
}

fn ip_line(ip: &Ip, base: Option<[u32; 2]>) -> String {
    let Ip { src, dst, .. } = ip;
    if let Some(fragment) = &ip.fragment {
        let bytes = ip.datagram.end.saturating_sub(fragment.data_offset);
        let last = if fragment.more { "" } else { ", the last" };
        return format!(
            "fragment {src} > {dst} id {:#x} offset {} len {bytes}{last} ({})",
            fragment.id,
            fragment.offset_bytes,
            protocol(ip.protocol)
        );
    }
    let ends = |from: u16, to: u16| {
        format!(
            "{} > {}",
            SocketAddr::new(*src, from),
            SocketAddr::new(*dst, to)
        )
    };
    let bytes = ip.payload().len();
    match &ip.l4 {
        L4::Tcp(tcp) => {
            let ends = ends(tcp.src_port, tcp.dst_port);
            format!("TCP {ends} {}", tcp_words(tcp, base))
        }
        L4::Udp(udp) => format!("UDP {} len {bytes}", ends(udp.src_port, udp.dst_port)),
        L4::Icmp(message) => {
            let name = if ip.protocol == proto::ICMPV6 {
                "ICMPv6"
            } else {
                "ICMP"
            };
            format!("{name} {src} > {dst} {}", icmp_words(ip.protocol, message))
        }
        L4::Other | L4::Unparsed => {
            format!("{} {src} > {dst} len {bytes}", protocol(ip.protocol))
        }
    }
}

fn tcp_words(tcp: &TcpSegment, base: Option<[u32; 2]>) -> String {
    let [seq_base, ack_base] = base.unwrap_or_default();
    let mut words = format!(
        "[{}] seq {}",
        flags(tcp.flags),
        tcp.seq.wrapping_sub(seq_base)
    );
    if tcp.flags.has(TcpFlags::ACK) {
        let _ = write!(words, " ack {}", tcp.ack.wrapping_sub(ack_base));
    }
    if tcp.flags.has(TcpFlags::URG) {
        let _ = write!(words, " urg {}", tcp.urgent);
    }
    let _ = write!(words, " len {}", tcp.payload_bytes);
    words
}

/// As tcpdump writes them.
fn flags(flags: TcpFlags) -> String {
    let letters = [
        (TcpFlags::SYN, 'S'),
        (TcpFlags::FIN, 'F'),
        (TcpFlags::RST, 'R'),
        (TcpFlags::PSH, 'P'),
        (TcpFlags::ACK, '.'),
        (TcpFlags::URG, 'U'),
    ];
    let set = letters.into_iter().filter(|&(bit, _)| flags.has(bit));
    set.map(|(_, letter)| letter).collect()
}

fn icmp_words(protocol: u8, message: &Icmp) -> String {
    let Icmp { kind, code, id } = *message;
    match (protocol, kind) {
        (proto::ICMP, 8) | (proto::ICMPV6, 128) => format!("echo request id {id}"),
        (proto::ICMP, 0) | (proto::ICMPV6, 129) => format!("echo reply id {id}"),
        (proto::ICMP, 3) | (proto::ICMPV6, 1) => format!("unreachable, code {code}"),
        (proto::ICMP, 11) | (proto::ICMPV6, 3) => format!("time exceeded, code {code}"),
        (proto::ICMPV6, 2) => "packet too big".to_owned(),
        (proto::ICMPV6, 133) => "router solicitation".to_owned(),
        (proto::ICMPV6, 134) => "router advertisement".to_owned(),
        (proto::ICMPV6, 135) => "neighbour solicitation".to_owned(),
        (proto::ICMPV6, 136) => "neighbour advertisement".to_owned(),
        _ => format!("type {kind} code {code}"),
    }
}

fn protocol(number: u8) -> String {
    match number {
        proto::ICMP => "ICMP".to_owned(),
        proto::IGMP => "IGMP".to_owned(),
        proto::TCP => "TCP".to_owned(),
        proto::UDP => "UDP".to_owned(),
        proto::ICMPV6 => "ICMPv6".to_owned(),
        47 => "GRE".to_owned(),
        50 => "ESP".to_owned(),
        51 => "AH".to_owned(),
        132 => "SCTP".to_owned(),
        other => format!("IP protocol {other}"),
    }
}

fn other_line(frame: &[u8], packet: &Packet) -> String {
    if let Some(Arp {
        operation,
        sender,
        target,
    }) = arp(frame, packet)
    {
        return match operation {
            1 => format!("ARP {sender} asks for {target}"),
            2 => format!("ARP {sender} answers {target}"),
            other => format!("ARP operation {other} of {sender} to {target}"),
        };
    }
    let (from, to) = (mac(packet.ether.src), mac(packet.ether.dst));
    match packet.ether.ethertype {
        ETHERTYPE_ARP => format!("ARP {from} > {to}"),
        length if length < 1536 => format!("802.3 {from} > {to} len {length}"),
        other => format!("type {other:#06x} {from} > {to} len {}", frame.len()),
    }
}

fn mac(address: [u8; 6]) -> String {
    let bytes: Vec<_> = address.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

fn arp(frame: &[u8], packet: &Packet) -> Option<Arp> {
    if packet.ether.ethertype != ETHERTYPE_ARP {
        return None;
    }
    let message = frame.get(packet.ether.payload_offset..)?;
    let address = |at: usize| {
        message
            .get(at..)?
            .first_chunk::<4>()
            .map(|&b| Ipv4Addr::from(b))
    };
    let operation = message.get(6..)?.first_chunk::<2>()?;
    Some(Arp {
        operation: u16::from_be_bytes(*operation),
        sender: address(14)?,
        target: address(24)?,
    })
}
