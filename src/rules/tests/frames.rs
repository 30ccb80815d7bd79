//! Frames as they are on a wire, and queries about them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::conntrack::{CtState, Direction, Time};
use crate::rules::{Outcome, Query, Ruleset};
use crate::wire::{self, Packet, Side};

pub(super) const A4: &str = "192.0.2.1";
pub(super) const B4: &str = "198.51.100.2";
pub(super) const A6: &str = "2001:db8::1";
pub(super) const B6: &str = "2001:db8:ffff::2";

pub(super) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Puts an 802.1Q tag into a frame.
pub(super) fn tagged(mut frame: Vec<u8>, id: u16) -> Vec<u8> {
    let [a, b] = id.to_be_bytes();
    frame.splice(12..12, [0x81, 0, a, b]);
    frame
}

pub(super) fn ipv4(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    ip.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    ip.extend(src.parse::<Ipv4Addr>().unwrap().octets());
    ip.extend(dst.parse::<Ipv4Addr>().unwrap().octets());
    ip.extend(payload);
    ethernet(0x0800, &ip)
}

pub(super) fn ipv6(src: &str, dst: &str, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    ip.extend([next, hops]);
    ip.extend(src.parse::<Ipv6Addr>().unwrap().octets());
    ip.extend(dst.parse::<Ipv6Addr>().unwrap().octets());
    ip.extend(payload);
    ethernet(0x86dd, &ip)
}

pub(super) fn tcp(sport: u16, dport: u16) -> Vec<u8> {
    let mut header = Vec::from(sport.to_be_bytes());
    header.extend(dport.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

pub(super) fn udp(sport: u16, dport: u16) -> Vec<u8> {
    let mut header = Vec::from(sport.to_be_bytes());
    header.extend(dport.to_be_bytes());
    header.extend([0, 8, 0, 0]);
    header
}

pub(super) fn icmp(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0, 7, 0, 1]
}

pub(super) fn tcp4(dport: u16) -> Packet {
    packet(&ipv4(A4, B4, 6, &tcp(40000, dport)))
}

pub(super) fn tcp6(dport: u16) -> Packet {
    packet(&ipv6(A6, B6, 6, 64, &tcp(40000, dport)))
}

pub(super) fn packet(frame: &[u8]) -> Packet {
    wire::parse(frame).unwrap()
}

/// A new packet from inside.
pub(super) fn ask(rules: &Ruleset, packet: &Packet) -> Outcome {
    ask_as(rules, packet, Side::Inside, CtState::New)
}

/// The same with the frame at hand, which some fields are read from.
pub(super) fn ask_frame(rules: &Ruleset, frame: &[u8], side: Side, state: CtState) -> Outcome {
    ask_at(rules, frame, side, state, Time::default())
}

pub(super) fn ask_at(
    rules: &Ruleset,
    frame: &[u8],
    side: Side,
    state: CtState,
    now: Time,
) -> Outcome {
    let packet = packet(frame);
    rules.evaluate(&Query {
        packet: &packet,
        frame,
        side,
        state,
        direction: Direction::Original,
        is_expected: false,
        now,
    })
}

pub(super) fn ask_as(rules: &Ruleset, packet: &Packet, side: Side, state: CtState) -> Outcome {
    let query = Query {
        packet,
        frame: &[0; 100],
        side,
        state,
        direction: Direction::Original,
        is_expected: false,
        now: Time::default(),
    };
    rules.evaluate(&query)
}
