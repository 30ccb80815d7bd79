//! Chains, sets, maps, limits and the fields that are read from the frame.

use super::frames::*;
use super::{parse, table};
use crate::conntrack::{CtState, Direction, Time};
use crate::observe::DropReason;
use crate::rules::{Log, Query, Reject, Ruleset};
use crate::wire::Side;

/// A file with one table; `rules` stand in its base chain, `more` beside it.
fn with(family: &str, more: &str, rules: &str) -> Ruleset {
    parse(&format!(
        "table {family} t {{\n{more}\nchain c {{ type filter hook forward priority 0; policy \
         drop;\n{rules}\n}}\n}}\n"
    ))
}

fn accepts(rules: &Ruleset, frame: &[u8]) -> bool {
    ask_frame(rules, frame, Side::Inside, CtState::New)
        .drop
        .is_none()
}

fn syn(dport: u16) -> Vec<u8> {
    ipv4(A4, B4, 6, &tcp(40_000, dport))
}

/// Which of these ports a table accepts.
fn open_ports(rules: &Ruleset, ports: &[u16]) -> Vec<u16> {
    let is_open = |port: &&u16| accepts(rules, &syn(**port));
    ports.iter().filter(is_open).copied().collect()
}

#[test]
fn chains_are_jumped_to_and_returned_from() {
    let rules = with(
        "inet",
        "chain web {
            tcp dport 8080 return
            tcp dport 443 accept
            tcp dport 22 continue
            jump deep
            tcp dport 25 accept
        }
        chain deep { tcp dport 26 accept; return; tcp dport 27 accept; }
        chain last { tcp dport 30 accept; }",
        "tcp dport 1 goto last
        jump web
        tcp dport 8080 accept
        tcp dport 443 drop
        tcp dport 31 goto last
        tcp dport 31 accept
        goto last
        tcp dport 30 drop",
    );
    let ports = [1, 22, 25, 26, 27, 30, 31, 443, 8080];
    assert_eq!(open_ports(&rules, &ports), [25, 26, 30, 443, 8080]);
}

#[test]
fn a_goto_does_not_come_back_to_where_it_left() {
    let rules = with(
        "inet",
        "chain a { goto b; tcp dport 80 accept; }
        chain b { tcp dport 22 accept; }",
        "jump a\ntcp dport 443 accept",
    );
    // b returns to whoever jumped to a.
    assert_eq!(open_ports(&rules, &[22, 80, 443]), [22, 443]);
}

#[test]
fn maps_of_verdicts() {
    let rules = with(
        "inet",
        "map ports { type inet_service : verdict; flags interval
            elements = { 21 : accept, 1000-1999 : jump more, 22 : drop, 23 : continue, 24 : return } }
        chain more { tcp dport 1500 accept; }",
        "tcp dport vmap @ports
        ip saddr . tcp dport vmap { 192.0.2.1 . 22: accept, 192.0.2.0/24 . 80-81:accept }
        tcp dport { 23, 24, 1501 } accept",
    );
    let ports = [21, 22, 23, 24, 80, 81, 82, 1500, 1501];
    assert_eq!(open_ports(&rules, &ports), [21, 23, 80, 81, 1500, 1501]);
    // A UDP packet has no such field, and a map no verdict for it.
    assert!(!accepts(&rules, &ipv4(A4, B4, 17, &udp(1, 21))));
}

#[test]
fn sets_by_name_and_of_several_fields() {
    let rules = with(
        "inet",
        "set hosts { type ipv4_addr; flags interval; elements = { 192.0.2.0/25, 203.0.113.5-203.0.113.9 } }
        set pairs { typeof ip daddr . tcp dport; flags interval
            elements = { 198.51.100.0/24 . 8000-8010, 198.51.100.2 . 22, 198.51.100.2 . 20-30 } }
        set none { type inet_service; }",
        "ip saddr != @hosts drop
        tcp dport @none accept
        ip daddr . tcp dport @pairs accept
        ip daddr . tcp dport != @pairs tcp dport 443 accept",
    );
    let ports = [20, 22, 31, 443, 8000, 8011];
    assert_eq!(open_ports(&rules, &ports), [20, 22, 443, 8000]);
    assert!(!accepts(&rules, &ipv4("192.0.2.200", B4, 6, &tcp(1, 22))));
    assert!(accepts(&rules, &ipv4("203.0.113.9", B4, 6, &tcp(1, 22))));
    // IPv6 has no `ip saddr`, so that the first rule does not drop it; nothing accepts it either.
    assert!(!accepts(&rules, &ipv6(A6, B6, 6, 64, &tcp(1, 22))));
}

#[test]
fn flags_by_mask_by_list_and_by_set() {
    let frame = |flags: u8| {
        let mut header = tcp(1, 2);
        header[13] = flags;
        ipv4(A4, B4, 6, &header)
    };
    let (fin, syn, rst, psh, ack) = (1, 2, 4, 8, 16);
    let all = [syn, syn | ack, ack, fin | ack, rst, psh | ack, rst | ack];
    let cases: &[(&str, &[u8])] = &[
        ("syn", &[syn, syn | ack]),
        ("== syn", &[syn]),
        (
            "!= syn",
            &[syn | ack, ack, fin | ack, rst, psh | ack, rst | ack],
        ),
        ("syn,rst", &[syn, syn | ack, rst, rst | ack]),
        ("& (syn | ack) == syn", &[syn]),
        (
            "& (syn|ack) != syn",
            &[syn | ack, ack, fin | ack, rst, psh | ack, rst | ack],
        ),
        ("syn / syn,ack", &[syn]),
        ("& (fin | rst) == 0x0", &[syn, syn | ack, ack, psh | ack]),
        ("{ syn, fin | ack, 0x18 }", &[syn, fin | ack, psh | ack]),
        (
            "!= { syn, ack }",
            &[syn | ack, fin | ack, rst, psh | ack, rst | ack],
        ),
    ];
    for (text, matching) in cases {
        let rules = with("inet", "", &format!("tcp flags {text} accept"));
        let found: Vec<u8> = all
            .iter()
            .copied()
            .filter(|&flags| accepts(&rules, &frame(flags)))
            .collect();
        assert_eq!(found, *matching, "{text}");
        let outcome = ask_frame(&rules, &frame(syn), Side::Inside, CtState::New);
        assert!(!outcome.cacheable, "another segment has other flags");
    }
}

#[test]
fn comparisons_are_ranges() {
    for (text, open) in [
        ("< 22", &[21u16][..]),
        ("<= 22", &[21, 22]),
        ("> 22", &[23]),
        (">= 22", &[22, 23]),
        ("!= 22", &[21, 23]),
        ("== 22", &[22]),
    ] {
        let rules = with("inet", "", &format!("tcp dport {text} accept"));
        assert_eq!(open_ports(&rules, &[21, 22, 23]), open, "{text}");
    }
}

#[test]
fn fields_behind_tags_and_in_headers() {
    let plain = ipv4(A4, B4, 17, &udp(1, 53));
    let in_vlan = |tci: u16| tagged(ipv4(A4, B4, 17, &udp(1, 53)), tci);
    let service = |tci: u16| {
        let mut frame = in_vlan(tci);
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);
        frame
    };
    let mut marked = plain.clone();
    marked[15] = 46 << 2;
    let mut marked6 = ipv6(A6, B6, 17, 64, &udp(1, 53));
    marked6[14] |= 46 >> 2;
    marked6[15] |= (46 & 3) << 6;
    let mut low = plain.clone();
    low[22] = 1;
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
    request.extend([
        2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
    ]);
    let arp = ethernet(0x0806, &request);
    let sctp = ipv4(A4, B4, 132, &[0x13, 0x88, 0, 80, 0, 0, 0, 0]);
    let unreachable = ipv4(A4, B4, 1, &[3, 13, 0, 0, 0, 0, 0, 0]);
    for (text, frame, matches) in [
        ("vlan id 5", in_vlan(5), true),
        ("vlan id 5", in_vlan(6), false),
        ("vlan id 5", plain.clone(), false),
        ("vlan id != 5", plain.clone(), false),
        ("vlan id 5", service(5), false),
        ("ether type vlan", service(5), true),
        ("vlan id { 5, 100-200 }", in_vlan(0x6000 | 150), true),
        ("vlan pcp 3", in_vlan(0x6000 | 150), true),
        ("vlan pcp > 3", in_vlan(0x6000 | 150), false),
        ("vlan type ip", in_vlan(5), true),
        ("vlan type arp", in_vlan(5), false),
        ("vlan id . ip saddr { 5 . 192.0.2.1 }", in_vlan(5), true),
        ("ip dscp ef", marked.clone(), true),
        ("ip dscp != ef", plain.clone(), true),
        ("ip dscp { cs1, 10-14 }", marked, false),
        ("ip6 dscp 46", marked6, true),
        ("ip ttl 1", low.clone(), true),
        ("ip ttl < 2", low, true),
        ("ip ttl < 2", plain.clone(), false),
        ("ip length 28", plain.clone(), true),
        ("ip length != 20-40", plain.clone(), false),
        ("meta length <= 46", plain.clone(), true),
        ("meta length > 46", plain.clone(), false),
        ("meta protocol ip", plain.clone(), true),
        ("meta protocol ip6", plain.clone(), false),
        ("arp operation request", arp.clone(), true),
        ("arp operation { reply, 3 }", arp.clone(), false),
        (
            "arp saddr ip 192.0.2.1 arp daddr ip 192.0.2.9",
            arp.clone(),
            true,
        ),
        ("arp saddr ether 02:00:00:00:00:01", arp.clone(), true),
        ("arp daddr ip 192.0.2.0/29", arp, false),
        ("sctp dport 80", sctp.clone(), true),
        ("th sport 5000", sctp.clone(), true),
        ("tcp dport 80", sctp, false),
        (
            "icmp type 3 icmp code admin-prohibited",
            unreachable.clone(),
            true,
        ),
        ("icmp code 4", unreachable, false),
        ("iif \"inside\" oif \"outside\"", plain.clone(), true),
        ("iifname in* oifname \"out*\"", plain.clone(), true),
        ("iifname \"out*\"", plain.clone(), false),
    ] {
        let rules = with("bridge", "", &format!("{text} accept"));
        assert_eq!(accepts(&rules, &frame), matches, "{text}");
    }
    // The padding of a short frame is none of the datagram.
    assert!(accepts(&with("inet", "", "meta length 28 accept"), &plain));
    let inet = with("inet", "", "meta nfproto ipv6 accept");
    assert!(!accepts(&inet, &plain) && accepts(&inet, &ipv6(A6, B6, 17, 64, &udp(1, 1))));
}

#[test]
fn families_see_their_own() {
    let text = "table ip a { chain c { type filter hook forward priority 0; tcp dport 1 drop; } }
        table ip6 b { chain c { type filter hook forward priority 0; tcp dport 2 drop; } }";
    let rules = parse(text);
    let v6 = |port| ipv6(A6, B6, 6, 64, &tcp(1, port));
    assert!(!accepts(&rules, &syn(1)) && accepts(&rules, &syn(2)));
    assert!(accepts(&rules, &v6(1)) && !accepts(&rules, &v6(2)));
    assert!(accepts(&rules, &ethernet(0x0806, &[0; 28])));
}

#[test]
fn directions_and_the_helper_of_a_flow() {
    let rules = with(
        "inet",
        "",
        "ct direction reply accept\nct helper \"ftp\" accept",
    );
    let frame = syn(5);
    let packet = packet(&frame);
    let ask = |state, direction, is_expected| {
        let query = Query {
            packet: &packet,
            frame: &frame,
            side: Side::Inside,
            state,
            direction,
            is_expected,
            now: Time::default(),
        };
        let outcome = rules.evaluate(&query);
        assert!(outcome.cacheable);
        outcome.drop.is_none()
    };
    assert!(ask(CtState::Related, Direction::Reply, false));
    assert!(!ask(CtState::Related, Direction::Original, false));
    assert!(ask(CtState::Related, Direction::Original, true));
    // What is of no connection has no direction.
    assert!(!ask(CtState::Invalid, Direction::Reply, false));
    assert!(!ask(CtState::Untracked, Direction::Reply, false));
}

#[test]
fn a_limit_is_exact_and_never_cached() {
    let rules = with(
        "inet",
        "",
        "tcp dport 80 limit rate 2/second burst 3 packets accept",
    );
    let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
    let ask = |now| ask_at(&rules, &syn(80), Side::Inside, CtState::New, now);
    let passed = |now, packets: usize| (0..packets).filter(|_| ask(now).drop.is_none()).count();
    assert_eq!(passed(at(10_000), 10), 3);
    assert_eq!(passed(at(11_000), 10), 2);
    assert!(!ask(at(11_000)).cacheable);
    let other = ask_at(&rules, &syn(81), Side::Inside, CtState::New, at(11_000));
    assert!(other.cacheable, "the limit was not looked at");
}

#[test]
fn a_reject_answers_for_the_family_of_the_packet() {
    let v6 = ipv6(A6, B6, 17, 64, &udp(1, 53));
    let v4 = ipv4(A4, B4, 17, &udp(1, 53));
    for (text, for4, for6, for_tcp) in [
        (
            "reject",
            Some(Reject::Icmp(3)),
            Some(Reject::Icmpv6(4)),
            Some(Reject::Icmp(3)),
        ),
        (
            "reject with icmpx type admin-prohibited",
            Some(Reject::Icmp(13)),
            Some(Reject::Icmpv6(1)),
            Some(Reject::Icmp(13)),
        ),
        (
            "reject with icmp type host-unreachable",
            Some(Reject::Icmp(1)),
            None,
            Some(Reject::Icmp(1)),
        ),
        (
            "reject with icmpv6 type no-route",
            None,
            Some(Reject::Icmpv6(0)),
            None,
        ),
        ("reject with tcp reset", None, None, Some(Reject::TcpReset)),
    ] {
        let rules = with("inet", "", text);
        for (frame, answer) in [(&v4, for4), (&v6, for6), (&syn(1), for_tcp)] {
            let outcome = ask_frame(&rules, frame, Side::Inside, CtState::New);
            assert_eq!(outcome.reject, answer, "{text}");
            // One that is not for the packet does not match it.
            let reason = match answer {
                Some(_) => DropReason::RuleReject,
                None => DropReason::PolicyDrop,
            };
            assert_eq!(outcome.drop, Some(reason), "{text}");
            assert_eq!(outcome.cacheable, answer.is_none());
        }
    }
}

#[test]
fn what_is_logged() {
    let rules = with(
        "inet",
        "",
        "tcp dport 80 log prefix \"web: \" level info accept\nlog",
    );
    let logged = |frame: &[u8]| {
        let packet = packet(frame);
        let mut found = Vec::new();
        let query = Query {
            packet: &packet,
            frame,
            side: Side::Inside,
            state: CtState::New,
            direction: Direction::Original,
            is_expected: false,
            now: Time::default(),
        };
        let outcome = rules.evaluate_and_log(&query, |log: &Log| found.push(log.clone()));
        assert!(!outcome.cacheable, "each packet is logged");
        found
    };
    let log = |prefix: &str, level| Log {
        prefix: prefix.to_owned(),
        level,
    };
    assert_eq!(logged(&syn(80)), [log("web: ", 6)]);
    assert_eq!(logged(&syn(81)), [log("", 4)]);
}

#[test]
fn counters_of_a_table() {
    let rules = with(
        "inet",
        "counter web { packets 5 bytes 500 }",
        "tcp dport 80 counter name \"web\" accept\ntcp dport 81 counter name web",
    );
    for port in [80, 81, 82] {
        let _ = ask_frame(&rules, &syn(port), Side::Inside, CtState::New);
    }
    let counts: Vec<_> = rules
        .counters()
        .map(|c| (c.rule.to_owned(), c.packets))
        .collect();
    assert_eq!(counts, [("counter web".to_owned(), 7)]);
}

#[test]
fn jumps_that_cannot_end_are_refused() {
    let fails = |text: &str, part: &str| {
        let errors = Ruleset::parse("f", text, &super::ports())
            .unwrap_err()
            .to_string();
        assert!(errors.contains(part), "{errors}");
    };
    fails(
        "table inet t { chain a { jump b; }\nchain b { tcp dport vmap { 1 : goto a }; } }",
        "circle",
    );
    fails(
        "table inet t { chain a { jump a; } }",
        "the way round: a -> a",
    );
    let deep: String = (0..18)
        .map(|n| format!("chain c{n} {{ jump c{}; }}\n", n + 1))
        .collect();
    let base = "chain f { type filter hook forward priority 0; jump c0; }";
    fails(
        &format!("table inet t {{ {base}\n{deep} chain c18 {{ accept; }} }}"),
        "16 deep",
    );
    // Twice each: two to the power of the depth.
    let twice: String = (0..15)
        .map(|n| {
            let next = format!("jump c{};", n + 1);
            format!("chain c{n} {{ {} }}\n", next.repeat(4))
        })
        .collect();
    fails(
        &format!("table inet t {{ {base}\n{twice} chain c15 {{ accept; }} }}"),
        "steps from here",
    );
}

#[test]
fn a_large_set_loads_at_once_and_is_searched() {
    let elements: Vec<_> = (0..100_000u32)
        .map(|n| {
            format!(
                "10.{}.{}.{} . {}",
                n >> 16 & 255,
                n >> 8 & 255,
                n & 255,
                1 + n % 1000
            )
        })
        .collect();
    let set = format!(
        "set big {{ type ipv4_addr . inet_service; elements = {{ {} }} }}",
        elements.join(",")
    );
    let begun = std::time::Instant::now();
    let rules = with("inet", &set, "ip saddr . tcp dport @big accept");
    // A second in a release build; this one is checked throughout.
    assert!(begun.elapsed().as_secs() < 20);
    assert!(accepts(&rules, &ipv4("10.1.0.7", B4, 6, &tcp(1, 544))));
    assert!(!accepts(&rules, &ipv4("10.1.0.7", B4, 6, &tcp(1, 545))));
}

#[test]
fn a_table_may_come_in_several_blocks() {
    let text = "flush ruleset
        table inet t { chain late { tcp dport 5 accept; } }
        define port = 6
        table inet t { chain c { type filter hook forward priority 0; policy drop; jump late; tcp dport $port accept; } }";
    assert_eq!(open_ports(&parse(text), &[4, 5, 6]), [5, 6]);
    assert_eq!(parse(text).summary(), "table inet t: 3 rules, policy drop");
    let _ = table("inet", "drop", "");
}

#[test]
fn texts_that_would_go_deep_do_not() {
    for rule in [
        format!("tcp flags {}", "(".repeat(200_000)),
        format!("tcp flags {} accept", vec!["syn"; 200_000].join("|")),
        format!("tcp dport {{ {} }} accept", vec!["80"; 200_000].join(",")),
    ] {
        let _ = Ruleset::parse("f", &table("inet", "drop", &rule), &super::ports());
    }
}

#[test]
fn elements_that_no_packet_has_are_refused_wherever_they_stand() {
    let named = "map m { typeof ether type : verdict; elements = { 8021q : drop }; }
        set s { typeof ip6 nexthdr; elements = { 43, tcp }; }";
    for rule in [
        "ether type vmap { 8021q : drop, ip : accept }",
        "ether type vmap @m",
        "ether type . iifname { 8021q . \"inside\" } drop",
        "ether type { 8021ad, arp } drop",
        "meta protocol { vlan, ip } drop",
        "ip6 nexthdr { 43, 44 } drop",
        "ip6 nexthdr @s drop",
    ] {
        let text = format!(
            "table bridge t {{\n{named}\nchain c {{ type filter hook forward priority 0;\n{rule}\n}}\n}}"
        );
        let errors = Ruleset::parse("f", &text, &super::ports()).unwrap_err();
        assert!(
            errors.to_string().contains("can never match"),
            "{rule}: {errors}"
        );
    }
    // Alone it asks for the tag.
    let rules = with("bridge", "", "ether type { 8021q, arp } accept");
    assert!(accepts(&rules, &tagged(ipv4(A4, B4, 17, &udp(1, 53)), 5)));
}

#[test]
fn what_would_throw_tables_away_stands_before_them() {
    let chain = "chain c { type filter hook forward priority 0; drop; }";
    for flush in ["flush ruleset", "delete table inet a", "flush table a"] {
        let good = format!("{flush}\ntable inet a {{ {chain} }}");
        assert!(
            Ruleset::parse("f", &good, &super::ports()).is_ok(),
            "{flush}"
        );
        let bad = format!("table inet a {{ {chain} }}\n{flush}\n");
        let errors = Ruleset::parse("f", &bad, &super::ports())
            .unwrap_err()
            .to_string();
        assert!(
            errors.contains("f:2:1") && errors.contains("at the top"),
            "{errors}"
        );
    }
}
