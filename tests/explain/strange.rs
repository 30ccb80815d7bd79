//! Captures that are not what a firewall would have seen.

use crate::run::{json, text};
use crate::scenarios::strictly;
use crate::scene::{Client, ETHERNET_BYTES, Packet, Scene, Server, Tcp, at};

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "198.51.100.9";

/// A session with a passive transfer.
fn passive() -> Scene {
    let mut scene = Scene::new();
    let mut control = scene.login(at(CLIENT, 40_000), at(SERVER, 21));
    scene.say(&mut control, Client, "PASV\r\n");
    scene.say(&mut control, Server, "227 go (198,51,100,9,234,96)\r\n");
    scene.transfer(at(CLIENT, 40_001), at(SERVER, 60_000));
    scene.say(&mut control, Server, "226 done\r\n");
    scene.close(&mut control);
    scene
}

/// Where the checksums of IPv4 and, without options, of TCP stand in a frame.
const IP_SUM: usize = ETHERNET_BYTES + 10;
const TCP_SUM: usize = ETHERNET_BYTES + 20 + 16;

fn is_from(packet: &Packet, host: &str) -> bool {
    let address: std::net::Ipv4Addr = host.parse().unwrap();
    packet.frame[ETHERNET_BYTES + 12..][..4] == address.octets()
}

/// The capturing host is the server: its own packets have no checksums yet.
#[test]
fn unfinished_checksums_of_the_capturing_host_are_taken_as_right() {
    let mut scene = passive();
    let mut changed = 0;
    for packet in &mut scene.packets {
        if is_from(packet, SERVER) {
            // What Linux leaves there: the sum of the pseudo header.
            let tcp_bytes = (packet.frame.len() - ETHERNET_BYTES - 20) as u32;
            let words = packet.frame[ETHERNET_BYTES + 12..][..8].chunks_exact(2);
            let sum: u32 = words
                .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                .sum();
            let sum = sum + 6 + tcp_bytes;
            let sum = (sum & 0xffff) + (sum >> 16);
            packet.frame[TCP_SUM..TCP_SUM + 2].copy_from_slice(&(sum as u16).to_be_bytes());
            changed += 1;
        }
    }
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.counts(), [1, 1, 1, 0]);
    assert_eq!(explained.number("dropped"), 0);
    assert_eq!(explained.number("unfinished_checksums"), changed);
    assert_eq!(explained.summary["unfinished_from"][0]["address"], SERVER);
    let printed = text(&[], &scene.pcap());
    let part = format!("{changed} packets had unfinished checksums");
    assert!(printed.contains(&part), "{printed}");
}

#[test]
fn header_sums_that_were_left_at_zero_are_taken_as_right() {
    let mut scene = passive();
    for packet in &mut scene.packets {
        packet.frame[IP_SUM..IP_SUM + 2].copy_from_slice(&[0, 0]);
    }
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.counts(), [1, 1, 1, 0]);
    assert_eq!(explained.number("dropped"), 0);
}

#[test]
fn wrong_checksums_are_judged_as_on_the_wire_unless_trusted() {
    let mut scene = passive();
    let reply = scene
        .packets
        .iter()
        .position(|packet| packet.frame.windows(4).any(|w| w == b"227 "))
        .unwrap();
    scene.packets[reply].frame[TCP_SUM] ^= 0x5a;
    let explained = strictly(&[], &scene.pcap());
    let wrong = explained.packet(reply + 1);
    assert_eq!(wrong["reason"], "checksum_bad");
    assert_eq!(explained.counts(), [1, 0, 0, 0]);
    assert!(text(&[], &scene.pcap()).contains("--trust-checksums"));
    let trusted = strictly(&["--trust-checksums"], &scene.pcap());
    assert_eq!(trusted.counts(), [1, 1, 1, 0]);
    assert_eq!(trusted.number("trusted_checksums"), 1);
}

#[test]
fn a_cut_packet_says_what_is_missing() {
    let mut scene = passive();
    // tcpdump -s 56: headers of most packets, and nothing of what is said.
    for packet in &mut scene.packets {
        packet.frame.truncate(56);
    }
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.number("cut_packets"), 9);
    assert_eq!(explained.number("ports_opened"), 0, "nothing could be read");
    let banner = explained.packet(4);
    assert_eq!(
        (&banner["bytes"], &banner["captured_bytes"]),
        (&65.into(), &56.into())
    );
    assert!(
        explained
            .beneath(4)
            .contains("9 of its 65 bytes were not captured and are taken as")
    );
    // The windows still fit: what was carried is known from the headers.
    let dropped = explained.summary["dropped_by_reason"].to_string();
    assert!(!dropped.contains("tcp_window"), "{dropped}");
    assert!(text(&[], &scene.pcap()).contains("capture with -s 0"));

    // -s 40: not even the headers.
    for packet in &mut scene.packets {
        packet.frame.truncate(40);
    }
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.number("dropped"), explained.number("packets"));
    assert_eq!(
        explained.summary["dropped_by_reason"][0]["reason"],
        "rx_cut"
    );
    assert!(explained.beneath(1).contains("it can't be judged"));
}

#[test]
fn a_gigantic_promise_of_bytes_does_no_harm() {
    let mut scene = passive();
    scene.packets[3].wire_bytes = u32::MAX as usize >> 14;
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.packet(4)["reason"], "rx_cut");
}

/// A mirror port that shows both ways in and out: everything of the server twice.
#[test]
fn duplicates_change_nothing() {
    let usual = strictly(&[], &passive().pcap());
    let mut scene = passive();
    scene.packets = scene
        .packets
        .iter()
        .flat_map(|packet| vec![packet.clone(); if is_from(packet, SERVER) { 2 } else { 1 }])
        .collect();
    let doubled = strictly(&[], &scene.pcap());
    assert!(doubled.packets.len() > usual.packets.len());
    assert_eq!(doubled.counts(), usual.counts());
    assert_eq!(doubled.number("dropped"), 0);
    let lines =
        |explained: &crate::run::Explained| explained.summary["sessions"][0]["lines"].clone();
    assert_eq!(lines(&doubled), lines(&usual), "no line is read twice");
}

#[test]
fn one_direction_only_is_found_out() {
    let mut scene = passive();
    scene.packets.retain(|packet| is_from(packet, CLIENT));
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.counts(), [0, 0, 0, 0]);
    assert_eq!(explained.number("one_way_connections"), 2);
    assert!(text(&[], &scene.pcap()).contains("only one direction was captured"));
}

#[test]
fn a_capture_that_begins_in_the_middle() {
    let mut scene = passive();
    scene.packets.drain(..3);
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.packet(1)["reason"], "tcp_not_syn");
    assert_eq!(
        explained.packet(1)["side"],
        "inside",
        "who speaks from port 21"
    );
    assert_eq!(explained.counts(), [0, 0, 0, 0]);
    let what = explained.packet(1)["what"].as_str().unwrap();
    assert!(what.contains("seq 1 ack 1 len 11"), "{what}");
    assert!(text(&[], &scene.pcap()).contains("began before the capture"));
}

#[test]
fn clocks_that_go_back_are_told() {
    let mut scene = passive();
    let at = scene.packets[5].at;
    scene.packets[6].at = at - std::time::Duration::from_secs(3);
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.number("backward_times"), 1);
    assert!(explained.beneath(7).contains("the clock went back by 3s"));
    assert_eq!(explained.counts(), [1, 1, 1, 0]);
}

#[test]
fn hosts_of_one_side_never_meet_lotus() {
    let explained = strictly(&["--inside", "0.0.0.0/0"], &passive().pcap());
    assert_eq!(explained.number("never_met"), explained.number("packets"));
    assert_eq!(explained.packet(1)["verdict"], "never met");
    assert!(explained.beneath(1).contains("both ends are inside"));
    assert!(explained.packet(1)["side"].is_null());
}

#[test]
fn a_loopback_is_told_apart_by_port() {
    let mut scene = Scene::new();
    let mut control = scene.login(at("127.0.0.1", 40_000), at("127.0.0.1", 21));
    scene.say(&mut control, Client, "PASV\r\n");
    scene.say(&mut control, Server, "227 go (127,0,0,1,234,96)\r\n");
    scene.transfer(at("127.0.0.1", 40_001), at("127.0.0.1", 60_000));
    scene.say(&mut control, Client, "PORT 127,0,0,1,195,80\r\n");
    scene.say(&mut control, Server, "200 ok\r\n");
    scene.transfer(at("127.0.0.1", 20), at("127.0.0.1", 50_000));
    // A server that is not root.
    scene.say(&mut control, Client, "PORT 127,0,0,1,195,81\r\n");
    scene.say(&mut control, Server, "200 ok\r\n");
    scene.transfer(at("127.0.0.1", 45_000), at("127.0.0.1", 50_001));
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.counts(), [1, 3, 3, 0]);
    assert_eq!(explained.number("dropped"), 0);
    assert!(explained.beneath(1).contains("told apart by port"));
}

#[test]
fn what_is_not_tcp_is_shown_and_judged() {
    let mac = |last: u8| [2, 0, 0, 0, 0, last];
    let ether = || etherparse::PacketBuilder::ethernet2(mac(1), mac(9));
    let mut scene = Scene::new();
    let mut arp = [mac(0xff), mac(1)].concat();
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([&mac(1)[..], &[192, 0, 2, 1], &mac(0), &[198, 51, 100, 9]].concat());
    scene.push(arp);
    let mut udp = Vec::new();
    let ipv4 = || ether().ipv4([192, 0, 2, 1], [198, 51, 100, 9], 64);
    ipv4().udp(5353, 53).write(&mut udp, b"query").unwrap();
    scene.push(udp);
    let mut ping = Vec::new();
    ipv4()
        .icmpv4_echo_request(7, 1)
        .write(&mut ping, b"ping")
        .unwrap();
    scene.push(ping);
    let tagged = Tcp {
        client: at(CLIENT, 40_000),
        server: at(SERVER, 21),
        seq: [1, 1],
    };
    let frame = tagged.frame(Client, crate::scene::SYN, b"");
    scene.push([&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat());
    scene.push([&mac(9)[..], &mac(1), &[0x88, 0xcc], &[0; 46]].concat());
    scene.push(vec![1, 2, 3]);
    let explained = json(&[], &scene.pcap());
    let what = |number| explained.packet(number)["what"].as_str().unwrap();
    assert_eq!(what(1), "ARP 192.0.2.1 asks for 198.51.100.9");
    assert_eq!(what(2), "UDP 192.0.2.1:5353 > 198.51.100.9:53 len 5");
    assert_eq!(what(3), "ICMP 192.0.2.1 > 198.51.100.9 echo request id 7");
    assert_eq!(
        what(4),
        "vlan 7 TCP 192.0.2.1:40000 > 198.51.100.9:21 [S] seq 0 len 0"
    );
    assert_eq!(
        what(5),
        "type 0x88cc 02:00:00:00:00:01 > 02:00:00:00:00:09 len 60"
    );
    assert_eq!(what(6), "a frame of 3 bytes that can't be read");
    assert_eq!(explained.packet(1)["state"], "untracked");
    assert_eq!(explained.packet(5)["reason"], "policy_drop");
    assert_eq!(explained.packet(6)["reason"], "frame_truncated");
    assert!(explained.packet(6)["state"].is_null());
}

/// The fragments of a datagram wait for each other, and go on together.
#[test]
fn fragments_are_judged_as_one() {
    const FIRST_BYTES: usize = 40;
    let mut whole = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([192, 0, 2, 1], [198, 51, 100, 9], 64)
        .udp(5353, 53)
        .write(&mut whole, &[7; 64])
        .unwrap();
    let (head, datagram) = whole.split_at(ETHERNET_BYTES);
    let payload = &datagram[20..];
    let fragment = |bytes: &[u8], offset_bytes: usize, more: bool| {
        let protocol = etherparse::IpNumber::UDP;
        let addresses = ([192, 0, 2, 1], [198, 51, 100, 9]);
        let length = bytes.len() as u16;
        let mut ip =
            etherparse::Ipv4Header::new(length, 64, protocol, addresses.0, addresses.1).unwrap();
        ip.identification = 99;
        ip.more_fragments = more;
        ip.fragment_offset = ((offset_bytes / 8) as u16).try_into().unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        [head, &ip.to_bytes(), bytes].concat()
    };
    let mut scene = Scene::new();
    scene.push(fragment(&payload[..FIRST_BYTES], 0, true));
    scene.push(fragment(&payload[FIRST_BYTES..], FIRST_BYTES, false));
    scene.push(fragment(&payload[..FIRST_BYTES], 0, true));
    scene.wait(60);
    scene.push(whole);
    let explained = json(&["--inside", CLIENT], &scene.pcap());
    let verdicts: Vec<_> = explained.packets.iter().map(|p| &p["verdict"]).collect();
    assert_eq!(verdicts, ["held", "forward", "held", "forward"]);
    assert_eq!(explained.packet(2)["releases"], serde_json::json!([1]));
    assert_eq!(
        explained.packet(1)["what"],
        "fragment 192.0.2.1 > 198.51.100.9 id 0x63 offset 0 len 40 (UDP)"
    );
    assert_eq!(explained.packet(2)["flow"], 1);
    assert_eq!(
        explained.packet(4)["flow"],
        2,
        "the first one is over by then"
    );
    assert_eq!(explained.number("held"), 0);
    let dropped = &explained.summary["dropped_by_reason"][0];
    assert_eq!(
        (&dropped["reason"], &dropped["packets"]),
        (&"fragment_timeout".into(), &1.into())
    );
}

/// A password is masked however it is said, and a line from the wire does nothing to a terminal.
#[test]
fn hostile_lines_are_harmless() {
    let mut scene = Scene::new();
    let mut control = scene.connect(at(CLIENT, 40_000), at(SERVER, 21));
    scene.say(&mut control, Server, "220 \u{1b}[2J\u{9b}31m\r\n");
    scene.say(&mut control, Client, "USER \u{202e}anna\r\n");
    scene.say(&mut control, Client, " pAsS \thunter2\r\n");
    scene.say(&mut control, Client, "ACCT hunter2\r\n");
    let long = format!("STOR {}\r\n", "x".repeat(1000));
    scene.say(&mut control, Client, &long);
    let printed = text(&[], &scene.pcap());
    for c in printed.chars() {
        assert!(c == '\n' || !c.is_control(), "{c:?} was printed");
    }
    assert!(!printed.contains('\u{202e}'));
    assert!(printed.contains("\\u{1b}[2J"));
    assert!(printed.contains("client:  pAsS ****"));
    assert!(printed.lines().all(|line| line.chars().count() < 400));
}

/// The lines that are too many for the summary are counted, and stand beneath their packets.
#[test]
fn a_long_dialogue_is_told_in_short() {
    let mut scene = Scene::new();
    let mut control = scene.login(at(CLIENT, 40_000), at(SERVER, 21));
    for _ in 0..50 {
        scene.say(&mut control, Client, "NOOP\r\n");
        scene.say(&mut control, Server, "200 ok\r\n");
    }
    let explained = json(&[], &scene.pcap());
    let session = &explained.summary["sessions"][0];
    assert_eq!(session["lines"], 105);
    assert_eq!(session["first_lines"].as_array().unwrap().len(), 20);
    assert_eq!(session["last_lines"].as_array().unwrap().len(), 20);
    let printed = text(&[], &scene.pcap());
    assert!(printed.contains("... 65 lines, to be found beneath their packets"));
    // All beneath their packets, some again in the summary.
    assert_eq!(printed.matches("client: NOOP").count(), 50 + 8 + 10);
}

/// What a fuzzer would try first: any bytes are judged, none make it panic.
#[test]
fn any_frames_are_judged() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good = passive();
    let mut scene = Scene::new();
    for round in 0..3000 {
        let mut frame = if round % 5 == 0 {
            (0..random() % 90).map(|_| random() as u8).collect()
        } else {
            good.packets[round % good.packets.len()].frame.clone()
        };
        for _ in 0..random() % 4 {
            if !frame.is_empty() {
                let at = random() as usize % frame.len();
                frame[at] = random() as u8;
            }
        }
        scene.push(frame);
        let bytes = scene.last().frame.len();
        scene.last().wire_bytes += random() as usize % 3 * 50;
        if round % 7 == 0 {
            scene.last().frame.truncate(bytes / 2);
        }
        scene.now += std::time::Duration::from_millis(random() % 20_000);
    }
    let explained = json(&[], &scene.pcap());
    assert_eq!(explained.packets.len(), 3000);
    let trusting = json(&["--trust-checksums", "--inside", SERVER], &scene.pcap());
    assert_eq!(trusting.packets.len(), 3000);
}
