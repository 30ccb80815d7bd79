//! A host on either side cannot tell that something stands between.

use std::time::Duration;

use pnet::datalink::{self, Channel, NetworkInterface};
use pnet::util::MacAddr;

use crate::dut::{Config, Dut, lotus_only, open_rules, stand_in, strict_rules};
use crate::ledger::Ledger;
use crate::net::{Family, Host, Lab, Ns};
use crate::sniff::Watch;
use crate::tcp::{Knock, bulk, knock};

const BULK_PORT: u16 = 5001;

#[test]
fn pings_and_neighbours() {
    let Some(lab) = Lab::new() else { return };
    let mut dut = Dut::start(&lab, &Config::new(Host::Server, open_rules()));
    let ledger = Ledger::open(&lab, &mut dut);
    for family in Family::BOTH {
        for (from, to) in [(Host::Client, Host::Server), (Host::Server, Host::Client)] {
            lab.ns(from)
                .ip(&format!("neigh flush dev {}", from.interface()));
            let address = to.address(family);
            lab.ns(from)
                .run(&format!("ping -c 3 -i 0.1 -W 10 {address}"));
            lab.ns(from)
                .run(&format!("ping -c 3 -i 0.1 -W 10 -s 4000 {address}"));
            let learnt = lab.ns(from).ip(&format!("neigh show {address}"));
            assert!(
                learnt.contains(&format!("lladdr {}", to.mac())),
                "{from:?} learnt: {learnt}"
            );
        }
    }
    let totals = ledger.close(&lab, &mut dut);
    assert_eq!((totals.dropped, totals.ring_lost), (0, 0), "{totals:?}");
    dut.stop();
}

#[test]
fn jumbo_frames() {
    let Some(lab) = Lab::new() else { return };
    lab.set_mtu(9000);
    let mut dut = Dut::start(&lab, &Config::new(Host::Server, open_rules()));
    let ledger = Ledger::open(&lab, &mut dut);
    lab.client.run(&format!(
        "ping -M do -c 5 -i 0.1 -W 10 -s 8972 {}",
        Host::Server.v4()
    ));
    lab.client.run(&format!(
        "ping -M do -c 5 -i 0.1 -W 10 -s 8952 {}",
        Host::Server.v6()
    ));
    for family in Family::BOTH {
        for from in [Host::Client, Host::Server] {
            bulk(&lab, from, family, BULK_PORT, Duration::from_millis(300));
        }
    }
    // Also without super-frames: full jumbo frames, with the checksum in them.
    for host in [Host::Client, Host::Server] {
        let device = host.interface();
        lab.ns(host)
            .run(&format!("ethtool -K {device} tx off tso off gso off"));
    }
    bulk(
        &lab,
        Host::Client,
        Family::V4,
        BULK_PORT,
        Duration::from_millis(300),
    );
    ledger.close(&lab, &mut dut);
    dut.stop();
}

/// TCP bulk both ways with offloads at their defaults, lotus and a kernel bridge in turn.
#[test]
fn bulk_beside_a_kernel_bridge() {
    /// Loose on purpose: the machine is small and shared, and the build may be a debug one.
    const LEAST_RATIO: f64 = 0.3;
    let (rounds, time) = if crate::full() { (7, 2000) } else { (3, 600) };
    let Some(lab) = Lab::new() else { return };
    let mut rates = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for _ in 0..rounds {
        for (device, rates) in rates.iter_mut().enumerate() {
            let mut dut = match device {
                0 => Dut::start(&lab, &Config::new(Host::Server, open_rules())),
                _ => Dut::bridge(&lab),
            };
            let ledger = Ledger::open(&lab, &mut dut);
            for (way, from) in [Host::Client, Host::Server].into_iter().enumerate() {
                let time = Duration::from_millis(time);
                rates[way].push(bulk(&lab, from, Family::V4, BULK_PORT, time));
            }
            ledger.close(&lab, &mut dut);
            dut.stop();
        }
    }
    for (way, name) in ["client to server", "server to client"].iter().enumerate() {
        let [here, bridge] = [0, 1].map(|device| median(&mut rates[device][way]));
        let ratio = here / bridge;
        crate::say(&format!(
            "TCP bulk {name}: {:.2} Gbit/s, kernel bridge {:.2} Gbit/s, ratio {ratio:.2}",
            here / 1e9,
            bridge / 1e9
        ));
        assert!(ratio >= LEAST_RATIO, "{name}: ratio {ratio:.2}");
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn silent_when_all_passes() {
    silent(open_rules(), true);
}

#[test]
fn silent_when_little_passes() {
    if lotus_only() {
        silent(strict_rules(Host::Server, true, ""), false);
    }
}

/// Whatever is thrown at it, every frame that a host gets was sent by the other host.
fn silent(rules: String, all_passes: bool) {
    let Some(lab) = Lab::new() else { return };
    let port_macs = [Host::Client, Host::Server].map(|host| mac_of(&lab.fw, host.port()));
    let mut dut = Dut::start(&lab, &Config::new(Host::Server, rules));
    let ledger = Ledger::open(&lab, &mut dut);
    let watch = Watch::start(&lab);
    for (host, port_mac) in [Host::Client, Host::Server].into_iter().zip(port_macs) {
        lab.ns(host)
            .ip(&format!("neigh flush dev {}", host.interface()));
        lab.ns(host).enter(|| provoke(host, port_mac));
        // Closed ports: only the far host itself may refuse.
        let expected = if all_passes {
            Knock::Refused
        } else {
            Knock::Silence
        };
        for family in Family::BOTH {
            assert_eq!(
                knock(&lab, host, host.other().address(family), 4444, expected),
                expected
            );
        }
        // Nobody has this address: nobody may answer for it.
        let output = lab.ns(host).output("ping -c 1 -W 1 192.0.2.99");
        assert!(!output.status.success(), "somebody answers for 192.0.2.99");
    }
    let watched = watch.stop(&lab);
    for host in [Host::Client, Host::Server] {
        let unknown = watched.strangers(host);
        assert!(
            unknown.is_empty(),
            "{host:?} got frames that nobody sent: {unknown:#?}"
        );
        let got = watched.incoming(host).count();
        assert!(got > 0, "{host:?} got nothing: the capture proves nothing");
        for frame in watched.incoming(host) {
            let own_mac = port_macs.iter().any(|mac| frame.is_from(*mac));
            assert!(!own_mac, "from the firewall itself: {frame:?}");
        }
        if all_passes {
            let mut missing = watched.missing(host);
            if stand_in() {
                // A kernel bridge keeps what is sent to its own MAC addresses; a wire has none.
                missing.retain(|frame| !port_macs.iter().any(|mac| frame.is_to(*mac)));
            }
            assert!(missing.is_empty(), "{host:?} did not get {missing:#?}");
        }
    }
    ledger.close(&lab, &mut dut);
    dut.stop();
}

/// Frames that a stack at the firewall's port would answer.
fn provoke(host: Host, port_mac: MacAddr) {
    let interface = interface(host.interface());
    let Ok(Channel::Ethernet(mut tx, _rx)) = datalink::channel(&interface, Default::default())
    else {
        panic!("no raw socket at {}", interface.name);
    };
    let own: MacAddr = host.mac().parse().expect("a MAC");
    for frame in provocations(host, own, port_mac) {
        tx.send_to(&frame, None)
            .expect("a raw socket")
            .expect("send");
    }
}

fn provocations(host: Host, own: MacAddr, port: MacAddr) -> Vec<Vec<u8>> {
    let ether = |to: MacAddr, kind: u16, body: &[u8]| {
        [&to.octets()[..], &own.octets(), &kind.to_be_bytes(), body].concat()
    };
    let (here, there) = match host {
        Host::Client => ([192, 0, 2, 10], [192, 0, 2, 20]),
        Host::Server => ([192, 0, 2, 20], [192, 0, 2, 10]),
    };
    // ARP: who has the far host, asked at the firewall's own MAC; and who has a loopback address.
    let arp = |target: [u8; 4]| {
        let head: &[u8] = &[0, 1, 8, 0, 6, 4, 0, 1];
        [head, &own.octets(), &here, &[0; 6], &target].concat()
    };
    // To the firewall's MAC: an echo request and a SYN for the far host's address.
    let ipv4 = |protocol: u8, body: &[u8]| {
        let mut header = vec![
            0x45,
            0,
            0,
            20 + body.len() as u8,
            0,
            1,
            0,
            0,
            64,
            protocol,
            0,
            0,
        ];
        header.extend_from_slice(&here);
        header.extend_from_slice(&there);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [header, body.to_vec()].concat()
    };
    let mut echo = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    // IPv6: the link-local address that the firewall's own stack would have.
    let local = |mac: MacAddr| {
        let m = mac.octets();
        [
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            m[0] ^ 2,
            m[1],
            m[2],
            0xff,
            0xfe,
            m[3],
            m[4],
            m[5],
        ]
    };
    let (mine, its) = (local(own), local(port));
    let mut solicited = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    solicited[13..].copy_from_slice(&its[13..]);
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let icmpv6 = |to: [u8; 16], body: &[u8]| {
        let length = (body.len() as u16).to_be_bytes();
        let pseudo = [&mine[..], &to, &[0, 0], &length, &[0, 0, 0, 58], body].concat();
        let mut body = body.to_vec();
        body[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
        let head = [&[0x60, 0, 0, 0], &length[..], &[58, 255], &mine, &to].concat();
        [head, body].concat()
    };
    let solicit = [
        &[135, 0, 0, 0, 0, 0, 0, 0][..],
        &its,
        &[1, 1],
        &own.octets(),
    ]
    .concat();
    let everybody = MacAddr::new(0x33, 0x33, 0, 0, 0, 1);
    let group = MacAddr::new(0x33, 0x33, 0xff, its[13], its[14], its[15]);
    let ping6: &[u8] = &[128, 0, 0, 0, 0x12, 0x34, 0, 1];
    vec![
        ether(port, 0x0806, &arp(there)),
        ether(MacAddr::broadcast(), 0x0806, &arp([127, 0, 0, 1])),
        ether(port, 0x0800, &ipv4(1, &echo)),
        ether(
            port,
            0x0800,
            &ipv4(17, &[0x30, 0x39, 0x11, 0x5c, 0, 8, 0, 0]),
        ),
        ether(group, 0x86dd, &icmpv6(solicited, &solicit)),
        ether(port, 0x86dd, &icmpv6(its, &solicit)),
        ether(port, 0x86dd, &icmpv6(its, ping6)),
        ether(everybody, 0x86dd, &icmpv6(all_nodes, ping6)),
    ]
}

/// The internet checksum (RFC 1071) of bytes whose checksum field is zero.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An interface of the namespace that this thread is in.
fn interface(name: &str) -> NetworkInterface {
    let all = datalink::interfaces();
    all.into_iter()
        .find(|i| i.name == name)
        .unwrap_or_else(|| panic!("no interface {name}"))
}

fn mac_of(ns: &Ns, name: &str) -> MacAddr {
    ns.enter(|| interface(name).mac.expect("a MAC"))
}
