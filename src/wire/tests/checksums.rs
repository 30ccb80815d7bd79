//! Checksums, and changes in place that keep them right.

use super::*;

/// The plainest sum there is, to compare with.
fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn sums_of_any_length() {
    let mut rng = Rng(1);
    for length in 0..300 {
        let bytes = rng.bytes(length);
        assert_eq!(
            checksum::fold(checksum::sum(&bytes)),
            plain_sum(&bytes),
            "{length} bytes"
        );
    }
    assert_eq!(checksum::fold(checksum::sum(&[0xff; 65_536])), 0xffff);
    // The example of RFC 1071 section 3.
    let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum::fold(checksum::sum(&example)), 0xddf2);
}

#[test]
fn an_updated_checksum_is_the_recomputed_one() {
    // RFC 1624 section 4: the case that RFC 1141 gets wrong.
    assert_eq!(checksum::updated(0xdd2f, 0x5555, 0x3285), 0x0000);
    let mut rng = Rng(2);
    for _ in 0..20_000 {
        let length = 2 * (2 + rng.below(30));
        let mut bytes = rng.bytes(length);
        // A checksum of zero words only never stands in a packet: something is always set.
        bytes[0] |= 1;
        let before = !plain_sum(&bytes);
        let at = 2 + 2 * rng.below(length / 2 - 1);
        let old = be16(&bytes, at).unwrap();
        let new = if rng.below(4) == 0 {
            [0xff, 0xff]
        } else {
            (rng.next() as u16).to_be_bytes()
        };
        bytes[at..at + 2].copy_from_slice(&new);
        let updated = checksum::updated(before, old, u16::from_be_bytes(new));
        assert_eq!(
            updated,
            !plain_sum(&bytes),
            "{before:04x} {old:04x} {new:?}"
        );
    }
}

/// Puts the right transport checksum in; `at` is its offset in the transport header.
fn seal(frame: &mut [u8], at: usize) {
    let ip = ip_of(frame);
    let range = ip.l4_offset..ip.datagram.end;
    frame[range.start + at..range.start + at + 2].fill(0);
    let pseudo = match ip.protocol {
        proto::ICMP => 0,
        protocol => checksum::pseudo_header(ip.src, ip.dst, protocol, range.len()),
    };
    let sum = !checksum::fold(checksum::sum(&frame[range.clone()]) + pseudo);
    frame[range.start + at..range.start + at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn every_flipped_bit_is_seen_by_the_transport_checksum() {
    let tcp = tcp_header(ACK, &[], b"odd");
    let icmp = [8, 0, 0, 0, 0, 1, 0, 1, 9, 9, 9];
    let frames = [
        (frame4(proto::TCP, &tcp), 16),
        (frame6(proto::TCP, &tcp), 16),
        (frame4(proto::UDP, &udp_header(11, b"odd")), 6),
        (frame6(proto::UDP, &udp_header(11, b"odd")), 6),
        (frame4(proto::ICMP, &icmp), 2),
        (frame6(proto::ICMPV6, &icmp), 2),
    ];
    for (mut frame, at) in frames {
        seal(&mut frame, at);
        let ip = ip_of(&frame);
        assert!(checksum::transport_is_right(&frame, &ip), "{ip:?}");
        for bit in ip.l4_offset * 8..ip.datagram.end * 8 {
            let mut wrong = frame.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !checksum::transport_is_right(&wrong, &ip),
                "bit {bit} of {ip:?}"
            );
        }
        // Padding is not summed.
        frame.extend([0xff; 7]);
        assert!(checksum::transport_is_right(&frame, &ip));
    }
}

#[test]
fn a_known_checksum_from_the_field() {
    // A DNS query as captured elsewhere: independent of the functions above.
    let mut frame = ethernet(
        &[],
        ETHERTYPE_IPV4,
        &[
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ],
    );
    assert!(checksum::ipv4_header_is_right(&frame[14..34]));
    frame[30] ^= 1;
    assert!(!checksum::ipv4_header_is_right(&frame[14..34]));
    assert!(!checksum::ipv4_header_is_right(&[0; 20]));
}

#[test]
fn udp_without_a_checksum() {
    let frame = frame4(proto::UDP, &udp_header(12, b"abcd"));
    assert!(
        checksum::transport_is_right(&frame, &ip_of(&frame)),
        "RFC 768: none was made"
    );
    let frame = frame6(proto::UDP, &udp_header(12, b"abcd"));
    assert!(
        !checksum::transport_is_right(&frame, &ip_of(&frame)),
        "RFC 8200: IPv6 needs one"
    );
}

/// The datagram may be longer than the UDP length says; the checksum covers the UDP length.
#[test]
fn a_udp_checksum_ends_with_its_length() {
    for build in [frame4 as fn(u8, &[u8]) -> Vec<u8>, frame6] {
        let mut short = build(proto::UDP, &udp_header(12, b"abcd"));
        seal(&mut short, 6);
        let sum = ip_of(&short).l4_offset + 6;
        let mut long = build(proto::UDP, &udp_header(12, b"abcdsurplus"));
        let at = ip_of(&long).l4_offset + 6;
        long[at..at + 2].copy_from_slice(&short[sum..sum + 2]);
        assert!(checksum::transport_is_right(&long, &ip_of(&long)));
        long[at + 3] ^= 1;
        assert!(!checksum::transport_is_right(&long, &ip_of(&long)));
    }
}

#[test]
fn overwritten_bytes_keep_the_checksum_right() {
    let mut rng = Rng(5);
    for round in 0..5_000 {
        let length = 1 + rng.below(40);
        let header = tcp_header(ACK | TcpFlags::PSH, &[], &rng.bytes(length));
        let build = if round % 2 == 0 { frame4 } else { frame6 };
        let mut frame = build(proto::TCP, &header);
        seal(&mut frame, 16);
        frame.extend([9; 5]);
        let (before, ip) = (frame.clone(), ip_of(&frame));
        let payload = ip.payload();
        let start = payload.start + rng.below(length);
        let range = start..start + rng.below(payload.end - start + 1);
        edit::overwrite(&mut frame, &ip, ChecksumState::Unknown, range.clone(), b'X');
        assert!(
            checksum::transport_is_right(&frame, &ip),
            "{range:?} of {payload:?}"
        );

        let mut expected = before.clone();
        expected[range.clone()].fill(b'X');
        let mut partial = before.clone();
        edit::overwrite(&mut partial, &ip, ChecksumState::Partial, range, b'X');
        assert_eq!(partial, expected, "a partial checksum stays");
        let field = ip.l4_offset + 16..ip.l4_offset + 18;
        expected[field.clone()].copy_from_slice(&frame[field]);
        assert_eq!(frame, expected, "nothing else changes, padding neither");
    }
}

#[test]
fn an_overwritten_range_ends_with_the_datagram() {
    let mut frame = frame4(proto::TCP, &tcp_header(ACK, &[], b"abc"));
    seal(&mut frame, 16);
    frame.extend([9; 5]);
    let ip = ip_of(&frame);
    let all = ip.payload().start..frame.len();
    edit::overwrite(&mut frame, &ip, ChecksumState::Verified, all, b'X');
    assert_eq!(&frame[ip.payload()], b"XXX");
    assert_eq!(frame[ip.datagram.end..], [9; 5]);
    assert!(checksum::transport_is_right(&frame, &ip));
}

#[test]
fn urgent_data_becomes_plain_data() {
    for build in [frame4 as fn(u8, &[u8]) -> Vec<u8>, frame6] {
        let mut frame = build(proto::TCP, &tcp_header(ACK | TcpFlags::URG, &[], b"abc"));
        seal(&mut frame, 16);
        let ip = ip_of(&frame);
        edit::clear_urgent(&mut frame, &ip, ChecksumState::Unknown);
        let after = tcp_of(&frame);
        assert_eq!((after.flags.0, after.urgent), (ACK, 0));
        assert!(checksum::transport_is_right(&frame, &ip));
    }
    let udp = frame4(proto::UDP, &udp_header(12, b"abcd"));
    let mut same = udp.clone();
    edit::clear_urgent(&mut same, &ip_of(&udp), ChecksumState::Unknown);
    assert_eq!(same, udp);
}
