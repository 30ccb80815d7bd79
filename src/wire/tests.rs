//! Frames by hand, and what the parser makes of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod any_bytes;
mod checksums;
mod ether;
mod ipv4;
mod ipv6;
mod l4;
mod quoted;

use std::net::IpAddr;

use super::*;
use crate::observe::DropReason as Reason;

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const SRC4: [u8; 4] = [192, 0, 2, 1];
const DST4: [u8; 4] = [198, 51, 100, 2];
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DEST_OPTIONS: u8 = 60;

fn ethernet(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 datagram with a right header checksum.
fn v4(protocol: u8, options: &[u8], flags_and_offset: u16, payload: &[u8]) -> Vec<u8> {
    let header_bytes = 20 + options.len();
    let mut datagram = vec![0x40 | (header_bytes / 4) as u8, 0];
    datagram.extend(((header_bytes + payload.len()) as u16).to_be_bytes());
    datagram.extend([0xab, 0xcd]);
    datagram.extend(flags_and_offset.to_be_bytes());
    datagram.extend([61, protocol, 0, 0]);
    datagram.extend(SRC4);
    datagram.extend(DST4);
    datagram.extend(options);
    let sum = !checksum::fold(checksum::sum(&datagram));
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    datagram.extend(payload);
    datagram
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x60, 0, 0, 0];
    datagram.extend((payload.len() as u16).to_be_bytes());
    datagram.extend([next, 62]);
    datagram.extend(address6(1));
    datagram.extend(address6(2));
    datagram.extend(payload);
    datagram
}

fn address6(last: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

fn tcp_header(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0, 21];
    segment.extend(0x0102_0304u32.to_be_bytes());
    segment.extend(0x0506_0708u32.to_be_bytes());
    let offset = (((20 + options.len()) / 4) << 4) as u8;
    segment.extend([offset, flags, 0x20, 0, 0, 0, 0, 7]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

fn udp_header(length: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x13, 0x88, 0, 53];
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

fn frame4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], ETHERTYPE_IPV4, &v4(protocol, &[], 0, payload))
}

fn frame6(next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], ETHERTYPE_IPV6, &v6(next, payload))
}

/// An extension header of eight bytes.
fn extension(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment_header(next: u8, offset_and_more: u16) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend(offset_and_more.to_be_bytes());
    header.extend(0xdead_beefu32.to_be_bytes());
    header
}

fn good_tcp4() -> Vec<u8> {
    frame4(proto::TCP, &tcp_header(ACK, &[], b"USER x\r\n"))
}

fn ip_of(frame: &[u8]) -> Ip {
    parse(frame).unwrap().ip.unwrap()
}

fn tcp_of(frame: &[u8]) -> TcpSegment {
    match ip_of(frame).l4 {
        L4::Tcp(segment) => segment,
        other => panic!("{other:?}"),
    }
}

fn refused(frame: &[u8]) -> Reason {
    parse(frame).expect_err("it was accepted")
}

/// Numbers that look random and are the same on every run (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
