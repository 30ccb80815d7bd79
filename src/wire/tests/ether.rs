//! Ethernet and tags, and what the port tells beside a frame.

use super::*;

#[test]
fn tags_are_walked_up_to_two() {
    let arp = |tags: &[(u16, u16)]| parse(&ethernet(tags, ETHERTYPE_ARP, &[0; 28]));
    let none = arp(&[]).unwrap();
    assert_eq!(
        (none.ether.vlan_count, none.ether.vlan_ids(), none.ip),
        (0, [NO_VLAN; 2], None)
    );
    assert_eq!(
        (
            none.ether.dst[5],
            none.ether.src[5],
            none.ether.payload_offset
        ),
        (9, 8, 14)
    );

    // Priority bits are no part of the id.
    let one = arp(&[(0x8100, 0xe02a)]).unwrap().ether;
    assert_eq!(
        (one.vlan_count, one.vlan_ids(), one.vlan_tci[0]),
        (1, [42, NO_VLAN], 0xe02a)
    );
    let two = arp(&[(0x88a8, 7), (0x8100, 42)]).unwrap().ether;
    assert_eq!((two.vlan_count, two.vlan_ids()), (2, [7 | SERVICE_TAG, 42]));
    assert_eq!((two.ethertype, two.payload_offset), (ETHERTYPE_ARP, 22));
    let old = arp(&[(0x9100, 7), (0x8100, 42)]).unwrap().ether;
    assert_eq!(old.vlan_ids(), [7 | SERVICE_TAG, 42]);
    // Two customer tags are what many networks call QinQ.
    let inner = arp(&[(0x8100, 7), (0x88a8, 42)]).unwrap().ether;
    assert_eq!(inner.vlan_ids(), [7, 42 | SERVICE_TAG]);

    // A priority tag is not the same as no tag.
    assert_eq!(
        arp(&[(0x8100, 0xe000)]).unwrap().ether.vlan_ids(),
        [0, NO_VLAN]
    );
    assert_eq!(arp(&[(0x8100, 4095)]), Err(Reason::VlanReserved));

    let three = arp(&[(0x88a8, 1), (0x8100, 2), (0x8100, 3)]);
    assert_eq!(three, Err(Reason::VlanTooManyTags));
}

#[test]
fn offsets_behind_tags_point_at_the_same_bytes() {
    let datagram = v4(proto::TCP, &[], 0, &tcp_header(ACK, &[], b"data"));
    for tags in [&[][..], &[(0x8100, 5)], &[(0x88a8, 5), (0x8100, 6)]] {
        let frame = ethernet(tags, ETHERTYPE_IPV4, &datagram);
        let ip = ip_of(&frame);
        assert_eq!(&frame[ip.datagram.clone()], datagram);
        assert_eq!(&frame[ip.payload()], b"data");
    }
}

#[test]
fn a_frame_cut_anywhere_is_refused_or_has_nothing_to_judge() {
    let tagged = ethernet(&[(0x8100, 5)], ETHERTYPE_IPV4, &good_tcp4()[14..]);
    for whole in [
        good_tcp4(),
        tagged,
        frame6(proto::TCP, &tcp_header(SYN, &[], b"")),
    ] {
        assert!(parse(&whole).is_ok());
        for length in 0..whole.len() {
            assert_eq!(
                refused(&whole[..length]),
                Reason::FrameTruncated,
                "at {length}"
            );
        }
    }
}

#[test]
fn what_is_not_ip_has_no_ip() {
    for ethertype in [ETHERTYPE_ARP, 0x0026, 0x88cc, 0x8863] {
        assert_eq!(
            parse(&ethernet(&[], ethertype, &[0x45; 60])).unwrap().ip,
            None
        );
    }
}

#[test]
fn the_virtio_header_says_who_vouches() {
    let with = |flags: u8, gso: u8| Meta {
        vnet: [flags, gso, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    assert_eq!(with(0, 0).checksum(), ChecksumState::Unknown);
    assert_eq!(with(1, 0).checksum(), ChecksumState::Partial);
    assert_eq!(with(2, 0).checksum(), ChecksumState::Verified);
    assert_eq!(
        with(3, 0).checksum(),
        ChecksumState::Partial,
        "the stricter one"
    );
    assert!(with(0, 1).is_super_frame() && !with(1, 0).is_super_frame());
}

#[test]
fn an_owned_frame_keeps_bytes_and_header() {
    let meta = Meta {
        vnet: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    };
    let mut owned = OwnedFrame::copy_of(b"frame", &meta);
    assert_eq!((owned.frame(), owned.meta()), (&b"frame"[..], meta));
    assert_eq!(owned.with_header(), [&meta.vnet[..], b"frame"].concat());
    owned.frame_mut()[0] = b'F';
    assert_eq!(owned.frame(), b"Frame");
}
