use super::frames::*;
use super::{parse, table};
use crate::conntrack::CtState;
use crate::observe::DropReason;
use crate::rules::{Builtin, FtpServer, HelperObject, Hits, Ruleset};
use crate::wire::{Packet, Side};

/// Whether a chain of the policy drop with this one rule accepts the packet.
fn accepts(family: &str, matches: &str, packet: &Packet) -> bool {
    ask(
        &parse(&table(family, "drop", &format!("{matches} accept"))),
        packet,
    )
    .drop
    .is_none()
}

#[test]
fn each_match_looks_at_its_field_and_at_nothing_else() {
    let arp = packet(&ethernet(0x0806, &[0; 28]));
    let stp = packet(&ethernet(38, &[0x42; 38]));
    let vlan_arp = packet(&tagged(ethernet(0x0806, &[0; 28]), 5));
    let echo4 = packet(&ipv4(A4, B4, 1, &icmp(8)));
    let echo6 = packet(&ipv6(A6, B6, 58, 64, &icmp(128)));
    let dns4 = packet(&ipv4(A4, B4, 17, &udp(40000, 53)));
    let dns6 = packet(&ipv6(A6, B6, 17, 64, &udp(40000, 53)));
    // ICMPv6 in IPv4 is nothing.
    let odd = packet(&ipv4(A4, B4, 58, &icmp(128)));
    // Looks like a segment to port 21, but it is of another protocol: CVE-2014-8160.
    let gre = packet(&ipv4(A4, B4, 47, &tcp(40000, 21)));
    let sctp = packet(&ipv4(A4, B4, 132, &tcp(40000, 21)));
    // Hop-by-hop options before TCP.
    let mut behind = vec![6, 0, 1, 4, 0, 0, 0, 0];
    behind.extend(tcp(40000, 21));
    let options6 = packet(&ipv6(A6, B6, 0, 64, &behind));
    let (tcp4, tcp6) = (tcp4(21), tcp6(21));
    let all = [
        ("arp", &arp),
        ("stp", &stp),
        ("vlan_arp", &vlan_arp),
        ("echo4", &echo4),
        ("echo6", &echo6),
        ("dns4", &dns4),
        ("dns6", &dns6),
        ("odd", &odd),
        ("gre", &gre),
        ("sctp", &sctp),
        ("options6", &options6),
        ("tcp4", &tcp4),
        ("tcp6", &tcp6),
    ];
    let cases: &[(&str, &[&str])] = &[
        ("ether type arp", &["arp", "vlan_arp"]),
        ("ether type vlan", &["vlan_arp"]),
        ("ether type != { vlan, ip, ip6 }", &["arp", "stp"]),
        ("ether type 0-1535", &["stp"]),
        (
            "ether type ip ether saddr 02:00:00:00:00:01",
            &["echo4", "dns4", "odd", "gre", "sctp", "tcp4"],
        ),
        ("ether daddr != 02:00:00:00:00:02", &[]),
        (
            "ip saddr 192.0.2.0/24",
            &["echo4", "dns4", "odd", "gre", "sctp", "tcp4"],
        ),
        ("ip daddr 192.0.2.0/24", &[]),
        (
            "ip daddr != 192.0.2.0/24",
            &["echo4", "dns4", "odd", "gre", "sctp", "tcp4"],
        ),
        (
            "ip daddr 198.51.100.2-198.51.100.9 tcp dport 1-65535",
            &["tcp4"],
        ),
        (
            "ip6 saddr 2001:db8::/64",
            &["echo6", "dns6", "options6", "tcp6"],
        ),
        (
            "ip6 daddr { ::1, 2001:db8:ffff::-2001:db8:ffff::3 }",
            &["echo6", "dns6", "options6", "tcp6"],
        ),
        ("ip6 daddr != 2001:db8:ffff::2", &[]),
        ("ip protocol tcp", &["tcp4"]),
        (
            "ip protocol != { icmp, tcp }",
            &["dns4", "odd", "gre", "sctp"],
        ),
        ("ip6 nexthdr tcp", &["options6", "tcp6"]),
        ("ip6 hoplimit 64 ip6 nexthdr icmpv6", &["echo6"]),
        ("ip6 hoplimit 255", &[]),
        (
            "meta l4proto { tcp, udp }",
            &["dns4", "dns6", "options6", "tcp4", "tcp6"],
        ),
        (
            "meta l4proto != tcp",
            &["echo4", "echo6", "dns4", "dns6", "odd", "gre", "sctp"],
        ),
        ("tcp dport ftp", &["options6", "tcp4", "tcp6"]),
        ("tcp dport != 22", &["options6", "tcp4", "tcp6"]),
        ("tcp sport 21", &[]),
        (
            "tcp sport 30000-50000 tcp dport { 20-21, 80 }",
            &["options6", "tcp4", "tcp6"],
        ),
        ("udp dport domain", &["dns4", "dns6"]),
        (
            "th dport { 21, 53 }",
            &["dns4", "dns6", "options6", "tcp4", "tcp6"],
        ),
        ("icmp type echo-request", &["echo4"]),
        ("icmp type != echo-reply", &["echo4"]),
        ("icmpv6 type 128-129", &["echo6"]),
        (
            "iifname \"inside\" tcp dport 21",
            &["options6", "tcp4", "tcp6"],
        ),
        ("iifname outside", &[]),
        ("oifname { outside } icmp type 8", &["echo4"]),
        ("oifname != $outside", &[]),
        ("ct state new icmp type 8", &["echo4"]),
        ("ct state != { new, related }", &[]),
    ];
    for (rule, expected) in cases {
        let found: Vec<&str> = all
            .iter()
            .filter(|(_, packet)| accepts("bridge", rule, packet))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(&found, expected, "{rule}");
    }
}

#[test]
fn states_are_told_apart() {
    let states = [
        ("new", CtState::New),
        ("established", CtState::Established),
        ("related", CtState::Related),
        ("invalid", CtState::Invalid),
        ("untracked", CtState::Untracked),
    ];
    for (name, state) in states {
        let one = parse(&table("inet", "drop", &format!("ct state {name} accept")));
        let not = parse(&table(
            "inet",
            "drop",
            &format!("ct state != {name} accept"),
        ));
        let list = parse(&table(
            "inet",
            "drop",
            "ct state new,invalid,untracked accept",
        ));
        for (other_name, other) in states {
            let drop = |rules| ask_as(rules, &tcp4(21), Side::Inside, other).drop.is_some();
            assert_eq!(drop(&one), state != other, "{name} {other_name}");
            assert_eq!(drop(&not), state == other, "!= {name} {other_name}");
            let listed = !matches!(other, CtState::Established | CtState::Related);
            assert_eq!(drop(&list), !listed, "{other_name}");
        }
    }
}

#[test]
fn rules_run_in_order_and_the_policy_last() {
    let rules = parse(&table(
        "inet",
        "drop",
        "tcp dport 20-30 drop\ntcp dport 21 accept",
    ));
    assert_eq!(ask(&rules, &tcp4(21)).drop, Some(DropReason::RuleDrop));
    assert_eq!(ask(&rules, &tcp4(80)).drop, Some(DropReason::PolicyDrop));
    // nft's default policy is accept.
    let rules = parse("table inet t { chain c { type filter hook forward priority 0\n } }");
    assert_eq!(ask(&rules, &tcp4(80)).drop, None);
}

#[test]
fn inet_tables_see_ip_only() {
    let arp = packet(&ethernet(0x0806, &[0; 28]));
    assert_eq!(ask(&parse(&table("inet", "drop", "")), &arp).drop, None);
    let drop = ask(&parse(&table("bridge", "drop", "")), &arp).drop;
    assert_eq!(drop, Some(DropReason::PolicyDrop));
}

#[test]
fn accept_ends_a_chain_and_drop_ends_all() {
    let chain = |family, name, priority, body: &str| {
        format!(
            "table {family} {name} {{ chain c {{ type filter hook forward priority {priority}; \
             policy accept; {body}; }} }}\n"
        )
    };
    // Written in the opposite order of their running; each counter tells who was asked.
    let text = chain("inet", "last", "10", "counter tcp dport 4 drop")
        + &chain(
            "inet",
            "middle",
            "filter - 1",
            "counter tcp dport 3 drop; tcp dport 2-4 accept",
        )
        + &chain("bridge", "first", "9", "counter tcp dport 2 drop; accept");
    let rules = parse(&text);
    let counts = || rules.counters().map(|c| c.packets).collect::<Vec<_>>();
    assert_eq!(ask(&rules, &tcp4(2)).drop, Some(DropReason::RuleDrop));
    assert_eq!(counts(), [0, 0, 1]);
    assert_eq!(ask(&rules, &tcp4(3)).drop, Some(DropReason::RuleDrop));
    assert_eq!(counts(), [0, 1, 2]);
    assert_eq!(ask(&rules, &tcp4(4)).drop, Some(DropReason::RuleDrop));
    assert_eq!(counts(), [1, 2, 3]);
    assert_eq!(ask(&rules, &tcp4(5)).drop, None);
    assert_eq!(
        rules.summary(),
        "table bridge first: 2 rules, policy accept; table inet middle: 2 rules, policy accept; \
         table inet last: 1 rule, policy accept"
    );
}

#[test]
fn of_equal_priorities_the_last_of_the_file_runs_first() {
    // As nft shows with these rules and counters: the kernel asks b, then a.
    let text = "table inet a { chain c { type filter hook forward priority 0; counter drop; } }
        table inet b { chain c { type filter hook forward priority 0; counter drop; } }";
    let rules = parse(text);
    assert_eq!(ask(&rules, &tcp4(1)).drop, Some(DropReason::RuleDrop));
    let counts: Vec<_> = rules.counters().map(|c| c.packets).collect();
    assert_eq!(counts, [0, 1]);
}

#[test]
fn filter_is_minus_200_in_the_bridge_family() {
    let text = "table bridge a { chain c { type filter hook forward priority -199; drop; } }
        table bridge b { chain c { type filter hook forward priority filter; policy drop; } }";
    assert_eq!(
        ask(&parse(text), &tcp4(1)).drop,
        Some(DropReason::PolicyDrop)
    );
}

#[test]
fn counters_count_and_only_two_fit_into_a_cached_outcome() {
    let rules = parse(&table(
        "inet",
        "accept",
        "counter packets 5 bytes 7\ntcp dport 80-90   counter comment \"web\"\ntcp dport 90 counter",
    ));
    let one = ask(&rules, &tcp4(21));
    assert!(one.cacheable && one.hits.0[0].is_some() && one.hits.0[1].is_none());
    let two = ask(&rules, &tcp4(80));
    assert!(two.cacheable && two.hits.0[1].is_some());
    let three = ask(&rules, &tcp4(90));
    assert!(!three.cacheable);
    let shown = |at: usize| {
        let counter = rules.counters().nth(at).unwrap();
        (
            counter.line,
            counter.rule.to_owned(),
            counter.packets,
            counter.bytes,
        )
    };
    assert_eq!(shown(0), (4, "counter".to_owned(), 8, 307));
    assert_eq!(
        shown(1),
        (
            5,
            "tcp dport 80-90 counter comment \"web\"".to_owned(),
            2,
            200
        )
    );
    assert_eq!(shown(2), (6, "tcp dport 90 counter".to_owned(), 1, 100));
    rules.count(two.hits, 50);
    assert_eq!(
        (shown(0).2, shown(1).2, shown(1).3, shown(2).2),
        (9, 3, 250, 1)
    );
    rules.count(Hits::default(), 50);
    assert_eq!(shown(0).2, 9);
}

#[test]
fn an_outcome_is_cacheable_if_nothing_was_looked_at_that_may_change() {
    let echo4 = packet(&ipv4(A4, B4, 1, &icmp(8)));
    let tagged = packet(&tagged(ipv4(A4, B4, 6, &tcp(1, 2)), 0));
    let cases: &[(&str, &Packet, bool)] = &[
        ("icmp type 8 accept", &echo4, false),
        ("icmp type 0 accept", &echo4, false),
        // Never gets as far as the type.
        ("icmp type 8 accept", &tcp4(1), true),
        ("icmpv6 type 8 accept", &echo4, true),
        ("meta l4proto icmp accept\nicmp type 8 accept", &echo4, true),
        ("ether saddr 02:00:00:00:00:01 accept", &tcp4(1), false),
        (
            "tcp dport 2 ether saddr 02:00:00:00:00:01 accept",
            &tcp4(1),
            true,
        ),
        ("ip6 hoplimit 64 accept", &tcp6(1), false),
        ("ip6 hoplimit 64 accept", &tcp4(1), true),
        ("ether type vlan accept", &tagged, false),
        ("ether type ip accept", &tagged, true),
        (
            "ip saddr 192.0.2.1 tcp dport 1 ct state new iifname $inside accept",
            &tcp4(1),
            true,
        ),
    ];
    for (rules, packet, cacheable) in cases {
        let outcome = ask(&parse(&table("bridge", "drop", rules)), packet);
        assert_eq!(outcome.cacheable, *cacheable, "{rules}");
    }
}

#[test]
fn the_helper_is_the_one_named_last_on_the_way() {
    let text = "table inet t {
        chain c {
            type filter hook forward priority 0;
            tcp dport 21 ct helper set \"any\"
            ip daddr 198.51.100.2 ct helper set four
            tcp dport 9 ct helper set \"any\" drop
            ct helper set six
        }
        ct helper any { type \"ftp\" protocol tcp; }
        ct helper four { type \"ftp\" protocol tcp; l3proto ip; comment \"lotus:ftps\"; }
        ct helper six { comment \"the new net\"; l3proto ip6; type \"ftp\" protocol tcp }
    }";
    let rules = parse(text);
    let helper = |packet: &Packet| {
        ask(&rules, packet)
            .helper
            .map(|id| rules.helper(id).name.clone())
            .unwrap_or_default()
    };
    assert_eq!(helper(&tcp4(21)), "four");
    assert_eq!(helper(&tcp4(22)), "four");
    assert_eq!(helper(&tcp6(21)), "six");
    assert_eq!(helper(&tcp4(9)), "any");
    // FTP runs over TCP, whatever the rules say.
    assert_eq!(helper(&packet(&ipv4(A4, B4, 17, &udp(1, 21)))), "");
    let four = ask(&rules, &tcp4(22)).helper.unwrap();
    let expected = HelperObject {
        name: "four".to_owned(),
        profile: Some("ftps".to_owned()),
    };
    assert_eq!(rules.helper(four), &expected);
}

#[test]
fn names_are_written_out() {
    let text = "define web = { 80, 443 }
        define low = 20 ; define high = 22
        define ports = { $web, $low-$high, 8000-8080 }
        define inside = \"inside\"
        table inet t {
            define web = 21
            chain c { type filter hook forward priority 0; policy drop
                iifname $inside tcp dport $ports accept
                iifname { $outside } tcp dport $web accept
            }
        }";
    let rules = parse(text);
    for (port, side, passes) in [
        (443, Side::Inside, true),
        (22, Side::Inside, true),
        (23, Side::Inside, false),
        (8000, Side::Inside, true),
        (21, Side::Outside, true),
        (80, Side::Outside, false),
    ] {
        let outcome = ask_as(&rules, &tcp4(port), side, CtState::New);
        assert_eq!(outcome.drop.is_none(), passes, "{port} {side}");
    }
}

fn builtin() -> Ruleset {
    let ftp_servers: Vec<FtpServer> = ["198.51.100.2", "[2001:db8:ffff::2]:2121"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    parse(
        &Builtin {
            ftp_servers,
            l2: vec![0x88cc, 0x8863],
        }
        .text(),
    )
}

#[test]
fn the_built_in_rules_do_what_their_comments_say() {
    let rules = builtin();
    let stp = |mac: [u8; 6]| {
        let mut frame = ethernet(38, &[0x42; 38]);
        frame[..6].copy_from_slice(&mac);
        packet(&frame)
    };
    let nd = |kind, hops| packet(&ipv6("fe80::1", "ff02::1", 58, hops, &icmp(kind)));
    let dhcp4 = packet(&ipv4("192.0.2.67", "255.255.255.255", 17, &udp(67, 68)));
    let dhcp6 = |src| packet(&ipv6(src, "fe80::2", 17, 64, &udp(547, 546)));
    let igmp = |dst| packet(&ipv4(A4, dst, 2, &[0x11, 0, 0, 0, 0, 0, 0, 0]));
    let (new, none) = (CtState::New, CtState::Untracked);
    // Packet, state, passes inwards, passes outwards.
    let cases: &[(&str, Packet, CtState, bool, bool)] = &[
        ("arp", packet(&ethernet(0x0806, &[0; 28])), none, true, true),
        (
            "arp in a vlan",
            packet(&tagged(ethernet(0x0806, &[0; 28]), 9)),
            none,
            true,
            true,
        ),
        ("stp", stp([1, 0x80, 0xc2, 0, 0, 0]), none, true, true),
        (
            "other 802.3",
            stp([1, 0x80, 0xc2, 0, 0, 1]),
            none,
            false,
            false,
        ),
        (
            "lldp",
            packet(&ethernet(0x88cc, &[0; 40])),
            none,
            true,
            true,
        ),
        (
            "ipx",
            packet(&ethernet(0x8137, &[0; 40])),
            none,
            false,
            false,
        ),
        ("ftp server", tcp4(21), new, true, true),
        ("other port of it", tcp4(22), new, false, true),
        ("ftp server 6", tcp6(2121), new, true, true),
        ("other port of 6", tcp6(21), new, false, true),
        ("reply", tcp4(50000), CtState::Established, true, true),
        ("data connection", tcp4(50000), CtState::Related, true, true),
        ("invalid", tcp4(21), CtState::Invalid, false, false),
        ("ping", packet(&ipv4(A4, B4, 1, &icmp(8))), new, false, true),
        (
            "icmp error",
            packet(&ipv4(A4, B4, 1, &icmp(3))),
            CtState::Related,
            true,
            true,
        ),
        ("nd", nd(135, 255), none, true, true),
        ("nd from afar", nd(135, 254), none, false, true),
        ("ra", nd(134, 255), none, true, true),
        ("redirect", nd(137, 255), none, false, true),
        ("mld query", nd(130, 1), none, true, true),
        ("mld query from afar", nd(130, 64), none, false, true),
        ("igmp", igmp("224.0.0.1"), new, true, true),
        ("igmp to a host", igmp("192.0.2.9"), new, false, true),
        ("dhcp reply", dhcp4, new, true, true),
        ("dhcpv6 reply", dhcp6("fe80::1"), new, true, true),
        ("dhcpv6 from afar", dhcp6("2001:db8::1"), new, false, true),
    ];
    for (name, packet, state, inwards, outwards) in cases {
        for (side, passes) in [(Side::Outside, inwards), (Side::Inside, outwards)] {
            let outcome = ask_as(&rules, packet, side, *state);
            assert_eq!(outcome.drop.is_none(), *passes, "{name} from {side}");
        }
    }
    let helped = |packet: &Packet, side| ask_as(&rules, packet, side, new).helper.is_some();
    assert!(helped(&tcp4(21), Side::Outside) && helped(&tcp6(2121), Side::Outside));
    assert!(helped(&tcp4(21), Side::Inside) && !helped(&tcp4(22), Side::Inside));
    // What flows carry is judged once.
    for side in Side::BOTH {
        assert!(ask_as(&rules, &tcp4(21), side, new).cacheable);
        assert!(ask_as(&rules, &tcp4(21), side, CtState::Established).cacheable);
    }
}

#[test]
fn without_flags_the_built_in_rules_let_no_server_in() {
    let rules = parse(&Builtin::default().text());
    let inwards = ask_as(&rules, &tcp4(21), Side::Outside, CtState::New);
    assert_eq!(inwards.drop, Some(DropReason::PolicyDrop));
    assert!(Builtin::default().text().lines().count() < 60);
}
