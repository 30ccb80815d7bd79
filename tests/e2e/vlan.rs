//! Tagged traffic: 802.1Q and QinQ, tags intact, and FTP inside.

use std::time::Duration;

use crate::dut::{Config, Dut, strict_rules};
use crate::ftp::{ABILITIES, Client, Server, Site, Transfer, Way};
use crate::ledger::Ledger;
use crate::net::{Family, Host, Lab};
use crate::sniff::Watch;
use crate::tcp::bulk;

/// Priority 5 and the drop-eligible bit are part of the TCI and must arrive too.
const TAGGED: &[(u16, u16)] = &[(0x8100, 0xb064)];
const DOUBLE: &[(u16, u16)] = &[(0x88a8, 0x6065), (0x8100, 0x2066)];
/// The MTU of a trunk with two tags, in which IP has its usual 1500 bytes: a packet socket sends
/// frames longer than its MTU only if their outer tag is 802.1Q.
const TRUNK_MTU: u32 = 1508;
const IP_MTU: u32 = 1500;
/// A frame with 1500 bytes of IP, without its tags.
const FULL_FRAME_BYTES: usize = 1514;

#[test]
fn vlan_tags_intact() {
    tags_intact(TAGGED);
}

#[test]
fn qinq_tags_intact() {
    tags_intact(DOUBLE);
}

fn tags_intact(tags: &[(u16, u16)]) {
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab);
    if tags.len() > 1 {
        trunk(&lab);
    }
    let words: Vec<String> = tags
        .iter()
        .map(|(tpid, tci)| format!("{tpid:#x}:{tci:#x}"))
        .collect();
    let taggers = [Host::Client, Host::Server].map(|host| {
        let mut arguments = vec![host.interface()];
        arguments.extend(words.iter().map(String::as_str));
        let mut tagger = lab.python(host, "vlan.py", &arguments);
        tagger.wait_for("ready", Duration::from_secs(20));
        tagger
    });
    let more = "meta l4proto { icmp, icmpv6 } accept tcp dport 5000-5999 ct state new accept";
    let more = more.replacen("accept tcp", "accept\n    tcp", 1);
    let mut dut = Dut::start(
        &lab,
        &Config::new(Host::Server, strict_rules(Host::Server, true, &more)),
    );
    let ledger = Ledger::open(&lab, &mut dut);
    let watch = Watch::start(&lab);
    for host in [Host::Server.v4(), Host::Server.v6()] {
        lab.client.run(&format!("ping -c 2 -i 0.1 -W 10 {host}"));
        lab.client
            .run(&format!("ping -c 2 -i 0.1 -W 10 -s 4000 {host}"));
    }
    for (client, family, mode) in ABILITIES {
        if client == Client::Curl {
            for way in [Way::Download, Way::Upload] {
                let server = Server::Vsftpd20;
                let transfer = Transfer {
                    client,
                    server,
                    family,
                    mode,
                    way,
                };
                site.transfer(transfer)
                    .unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
    let watched = watch.stop(&lab);
    for host in [Host::Client, Host::Server] {
        let changed = watched.strangers(host);
        assert!(
            changed.is_empty(),
            "{host:?} got frames that were not sent so: {changed:#?}"
        );
        let full_frame = watched
            .incoming(host)
            .any(|frame| frame.len == FULL_FRAME_BYTES);
        assert!(
            full_frame,
            "{host:?} saw no full frame (of a fragmented ping)"
        );
        for frame in watched.incoming(host).chain(watched.outgoing(host)) {
            assert_eq!(frame.tags, tags, "at {host:?}: {frame:?}");
        }
    }
    for family in Family::BOTH {
        for from in [Host::Client, Host::Server] {
            if from == Host::Server && !crate::dut::stand_in() {
                continue; // the rules let only the client begin
            }
            bulk(&lab, from, family, 5001, Duration::from_millis(300));
        }
    }
    ledger.close(&lab, &mut dut);
    drop(taggers);
    dut.stop();
}

fn trunk(lab: &Lab) {
    lab.set_mtu(TRUNK_MTU);
    for host in [Host::Client, Host::Server] {
        let (device, source) = (host.interface(), host.v4());
        lab.ns(host).ip(&format!(
            "route replace 192.0.2.0/24 dev {device} proto kernel scope link src {source} \
             mtu lock {IP_MTU}"
        ));
        lab.ns(host)
            .sysctl(&format!("net.ipv6.conf.{device}.mtu={IP_MTU}"));
    }
}
