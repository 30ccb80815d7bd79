use std::borrow::Cow;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::simple_packet::SimplePacketBlock;
use pcap_file::{DataLink, Endianness, TsResolution};

use super::*;

fn read(file: &[u8]) -> Result<Vec<Captured>, CaptureError> {
    let mut capture = Capture::new(file)?;
    std::iter::from_fn(|| capture.next_packet().transpose()).collect()
}

fn error(file: &[u8]) -> String {
    read(file).unwrap_err().to_string()
}

fn header(datalink: DataLink) -> PcapHeader {
    PcapHeader {
        datalink,
        ..PcapHeader::default()
    }
}

fn pcap_of(header: PcapHeader, packets: &[(Duration, u32, &[u8])]) -> Vec<u8> {
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for &(time, length, data) in packets {
        writer
            .write_packet(&PcapPacket::new(time, length, data))
            .unwrap();
    }
    writer.into_writer()
}

#[test]
fn pcap_in_both_byte_orders_and_with_both_clocks() {
    for endianness in [Endianness::Big, Endianness::Little] {
        for ts_resolution in [TsResolution::MicroSecond, TsResolution::NanoSecond] {
            let header = PcapHeader {
                endianness,
                ts_resolution,
                ..PcapHeader::default()
            };
            let time = Duration::from_micros(1_700_000_000_123_456);
            let file = pcap_of(header, &[(time, 60, &[7; 60]), (time, 900, &[8; 96])]);
            let packets = read(&file).unwrap();
            assert_eq!(packets.len(), 2);
            assert_eq!(packets[0].at_ns, 1_700_000_000_123_456_000);
            assert_eq!(packets[0].frame, [7; 60]);
            assert!(packets[0].is_whole() && !packets[1].is_whole());
            assert_eq!(
                (packets[1].frame.len(), packets[1].wire_bytes),
                (96, 900),
                "a cut packet"
            );
        }
    }
}

#[test]
fn a_packet_longer_than_the_snap_length_is_read() {
    // As `tcpdump -s 96` writes it, and pcap-file refuses to.
    let mut file = pcap_of(
        header(DataLink::ETHERNET),
        &[(Duration::ZERO, 96, &[1; 96])],
    );
    file[16..20].copy_from_slice(&96u32.to_be_bytes());
    file[36..40].copy_from_slice(&1514u32.to_be_bytes());
    assert_eq!(read(&file).unwrap()[0].wire_bytes, 1514);
}

fn interface(link: DataLink, resolution: Option<u8>) -> InterfaceDescriptionBlock<'static> {
    let options = resolution.map(InterfaceDescriptionOption::IfTsResol);
    InterfaceDescriptionBlock {
        linktype: link,
        snaplen: 0,
        options: options.into_iter().collect(),
    }
}

/// pcap-file writes `timestamp` as nanoseconds, whatever the interface's clock is.
fn enhanced(interface_id: u32, stamp: u64, data: &[u8]) -> EnhancedPacketBlock<'_> {
    EnhancedPacketBlock {
        interface_id,
        timestamp: Duration::from_nanos(stamp),
        original_len: data.len() as u32,
        data: Cow::Borrowed(data),
        options: Vec::new(),
    }
}

#[test]
fn pcapng_with_several_interfaces_and_clocks() {
    for endianness in [Endianness::Big, Endianness::Little] {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
        let clocks = [None, Some(9), Some(0x80 | 10), Some(0)];
        for clock in clocks {
            writer
                .write_pcapng_block(interface(DataLink::ETHERNET, clock))
                .unwrap();
        }
        let stamps = [5_000_123, 5_000_123_456, 5 << 10, 5];
        for (id, stamp) in stamps.into_iter().enumerate() {
            writer
                .write_pcapng_block(enhanced(id as u32, stamp, &[id as u8; 61]))
                .unwrap();
        }
        let packets = read(&writer.into_inner()).unwrap();
        let times: Vec<u64> = packets.iter().map(|packet| packet.at_ns).collect();
        assert_eq!(
            times,
            [5_000_123_000, 5_000_123_456, 5_000_000_000, 5_000_000_000]
        );
        assert_eq!(packets[3].frame, [3; 61], "padding is not part of it");
    }
}

#[test]
fn simple_packets_have_the_time_of_the_one_before() {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let mut first = interface(DataLink::ETHERNET, None);
    first.snaplen = 64;
    writer.write_pcapng_block(first).unwrap();
    writer
        .write_pcapng_block(enhanced(0, 7_000_000, &[1; 60]))
        .unwrap();
    writer
        .write_pcapng_block(SimplePacketBlock {
            original_len: 1000,
            data: Cow::Borrowed(&[2; 64]),
        })
        .unwrap();
    writer
        .write_pcapng_block(SimplePacketBlock {
            original_len: 62,
            data: Cow::Borrowed(&[3; 62]),
        })
        .unwrap();
    let packets = read(&writer.into_inner()).unwrap();
    assert_eq!(packets[1].at_ns, 7_000_000_000);
    assert_eq!((packets[1].frame.len(), packets[1].wire_bytes), (64, 1000));
    assert_eq!(packets[2].frame, [3; 62]);
}

#[test]
fn a_second_section_begins_anew() {
    let section = |endianness, byte| {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
        writer
            .write_pcapng_block(interface(DataLink::ETHERNET, None))
            .unwrap();
        let data = [byte; 60];
        writer.write_pcapng_block(enhanced(0, 1, &data)).unwrap();
        writer.into_inner()
    };
    let file = [section(Endianness::Big, 1), section(Endianness::Little, 2)].concat();
    let packets = read(&file).unwrap();
    assert_eq!((packets[0].frame[0], packets[1].frame[0]), (1, 2));
}

const IPV4: [u8; 4] = [0x45, 0, 0, 20];
const IPV6: [u8; 4] = [0x60, 0, 0, 0];

#[test]
fn other_link_layers_become_ethernet() {
    let mac = [2, 0, 0, 0, 0, 9];
    let sll = [&[0, 4, 0, 1, 0, 6][..], &mac, &[0, 0, 8, 0], &IPV4].concat();
    let sll_no_address = [&[0, 0, 3, 4, 0, 0][..], &[9; 8], &[0x86, 0xdd], &IPV6].concat();
    let sll2 = [
        &[0x86, 0xdd, 0, 0, 0, 0, 0, 3, 0, 1, 4, 6][..],
        &mac,
        &[0, 0],
        &IPV6,
    ]
    .concat();
    let tagged = [
        &[0, 4, 0, 1, 0, 6][..],
        &mac,
        &[0, 0, 0x81, 0, 0, 5, 8, 0],
        &IPV4,
    ]
    .concat();
    let (v4, v6): (&[u8], &[u8]) = (&[8, 0], &[0x86, 0xdd]);
    for (link, bytes, source, rest) in [
        (DataLink::RAW, IPV4.to_vec(), [0; 6], [v4, &IPV4].concat()),
        (DataLink::IPV6, IPV6.to_vec(), [0; 6], [v6, &IPV6].concat()),
        (
            DataLink::NULL,
            [&[2, 0, 0, 0][..], &IPV4].concat(),
            [0; 6],
            [v4, &IPV4].concat(),
        ),
        (
            DataLink::NULL,
            [&[0, 0, 0, 30][..], &IPV6].concat(),
            [0; 6],
            [v6, &IPV6].concat(),
        ),
        (
            DataLink::LOOP,
            [&[0, 0, 0, 24][..], &IPV6].concat(),
            [0; 6],
            [v6, &IPV6].concat(),
        ),
        (DataLink::LINUX_SLL, sll, mac, [v4, &IPV4].concat()),
        (
            DataLink::LINUX_SLL,
            sll_no_address,
            [0; 6],
            [v6, &IPV6].concat(),
        ),
        (DataLink::LINUX_SLL2, sll2, mac, [v6, &IPV6].concat()),
        (
            DataLink::LINUX_SLL,
            tagged,
            mac,
            [&[0x81, 0, 0, 5], v4, &IPV4].concat(),
        ),
    ] {
        let length = bytes.len() as u32;
        let file = pcap_of(header(link), &[(Duration::ZERO, length, &bytes)]);
        let packet = read(&file).unwrap().remove(0);
        let expected = [&[0; 6][..], &source, &rest].concat();
        assert_eq!(packet.frame, expected, "{link:?}");
        assert!(packet.is_whole(), "{link:?}");
    }
    // Cut within its own head.
    let file = pcap_of(
        header(DataLink::LINUX_SLL),
        &[(Duration::ZERO, 400, &[1; 9])],
    );
    let packet = read(&file).unwrap().remove(0);
    assert_eq!((packet.frame.len(), packet.wire_bytes), (14, 398));
}

#[test]
fn link_layers_that_are_not_read_are_named() {
    let file = pcap_of(header(DataLink::IEEE802_11_RADIOTAP), &[]);
    assert!(error(&file).contains("IEEE 802.11 with radio data (link type 127)"));
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    for link in [DataLink::USBPCAP, DataLink::ETHERNET] {
        writer.write_pcapng_block(interface(link, None)).unwrap();
    }
    writer.write_pcapng_block(enhanced(1, 0, &[0; 60])).unwrap();
    assert_eq!(
        read(writer.get_ref()).unwrap().len(),
        1,
        "nobody asks for it"
    );
    writer.write_pcapng_block(enhanced(0, 0, &[0; 60])).unwrap();
    assert!(error(writer.get_ref()).contains("USB (link type 249)"));
}

#[test]
fn what_is_no_capture_is_said() {
    for (file, part) in [
        (&b""[..], "the file is empty"),
        (b"ab", "neither pcap nor pcapng"),
        (b"table inet x {}", "neither pcap nor pcapng"),
        (b"\x1f\x8b\x08\0\0\0\0", "run gunzip first"),
        (b"\x28\xb5\x2f\xfd\0\0", "run unzstd first"),
        (b"\xa1\xb2\xcd\x34\0\0", "editcap"),
        (
            &[0xa1, 0xb2, 0xc3, 0xd4, 0, 2],
            "in the middle of its header",
        ),
        (&[0xa1, 0xb2, 0xc3, 0xd4], "in the middle of its header"),
    ] {
        let message = error(file);
        assert!(message.contains(part), "{file:?}: {message}");
    }
    let mut other_version = pcap_of(header(DataLink::ETHERNET), &[]);
    other_version[5] = 3;
    assert!(error(&other_version).contains("version 3"));
}

#[test]
fn a_cut_pcap_gives_what_is_whole_and_says_so() {
    let file = pcap_of(
        header(DataLink::ETHERNET),
        &[
            (Duration::ZERO, 60, &[1; 60]),
            (Duration::ZERO, 60, &[1; 60]),
        ],
    );
    let record = 16 + 60;
    for cut in 1..record {
        let mut capture = Capture::new(&file[..file.len() - cut]).unwrap();
        assert!(capture.next_packet().unwrap().is_some());
        let message = capture.next_packet().unwrap_err().to_string();
        assert!(message.contains("after 1 whole packets"), "{message}");
    }
    assert_eq!(read(&file[..file.len() - record]).unwrap().len(), 1);
}

#[test]
fn a_cut_pcapng_says_so_wherever_it_is_cut() {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    writer
        .write_pcapng_block(interface(DataLink::ETHERNET, Some(9)))
        .unwrap();
    let head = writer.get_ref().len();
    writer.write_pcapng_block(enhanced(0, 1, &[1; 60])).unwrap();
    let file = writer.into_inner();
    for end in 1..file.len() {
        let is_between_blocks = end == 28 || end == head;
        assert_eq!(read(&file[..end]).is_ok(), is_between_blocks, "{end}");
    }
}

#[test]
fn lengths_that_cannot_be_do_no_harm() {
    let mut file = pcap_of(
        header(DataLink::ETHERNET),
        &[(Duration::ZERO, 60, &[1; 60])],
    );
    file[32..36].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(error(&file).contains("a packet of 4294967295 bytes"));

    let mut writer = PcapNgWriter::with_endianness(Vec::new(), Endianness::Big).unwrap();
    writer
        .write_pcapng_block(interface(DataLink::ETHERNET, None))
        .unwrap();
    let at = writer.get_ref().len();
    writer.write_pcapng_block(enhanced(0, 1, &[1; 60])).unwrap();
    let good = writer.into_inner();
    let with = |offset: usize, value: u32| {
        let mut file = good.clone();
        file[at + offset..at + offset + 4].copy_from_slice(&value.to_be_bytes());
        error(&file)
    };
    assert!(with(4, u32::MAX - 3).contains("a block of 4294967292 bytes"));
    assert!(with(4, 0).contains("a block of 0 bytes"));
    assert!(with(4, 13).contains("a block of 13 bytes"));
    assert!(with(8, 9).contains("an interface that was not described"));
    assert!(with(20, 1000).contains("longer than its block"));
    assert!(with(20, u32::MAX).contains("a packet of 4294967295 bytes"));
    assert!(with(good.len() - at - 4, 7).contains("another length"));
    let mut section = good.clone();
    section[8] = 0;
    assert!(error(&section).contains("without byte order"));
    section = good.clone();
    section[4..8].copy_from_slice(&12u32.to_be_bytes());
    assert!(error(&section).contains("a block of 12 bytes"));
}

#[test]
fn no_bytes_make_it_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    writer
        .write_pcapng_block(interface(DataLink::LINUX_SLL, Some(0xff)))
        .unwrap();
    for _ in 0..4 {
        writer
            .write_pcapng_block(enhanced(0, u64::MAX, &[4; 33]))
            .unwrap();
    }
    let pcapng = writer.into_inner();
    let time = Duration::from_secs(1);
    let pcap = pcap_of(
        header(DataLink::NULL),
        &[(time, 9, &[1; 9]), (time, 40, &[2; 40])],
    );
    let mut damaged = 0;
    for round in 0..4000 {
        let mut file = if round % 2 == 0 {
            pcapng.clone()
        } else {
            pcap.clone()
        };
        for _ in 0..=random() % 4 {
            let at = random() as usize % file.len();
            file[at] = random() as u8;
        }
        damaged += u32::from(read(&file).is_err());
    }
    assert!(damaged > 1000, "only {damaged}");
}
