//! What is printed: as nft prints it, and it means the same when it is read again.

use super::{parse, ports};
use crate::rules::{Explained, Ruleset};

const ALL: &str = r#"
define admins = { 192.0.2.7, 192.0.2.16/28 }
table inet fw {
  ct helper ftp-std { type "ftp" protocol tcp; comment "lotus:plc"; }
  counter refused { packets 3 bytes 300; }
  set servers { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/8, 10.1.0.0/16, 192.0.2.1 } }
  set pairs { typeof ip saddr . tcp dport; elements = { 192.0.2.1 . ssh } }
  map ways { type inet_service : verdict; elements = { 25 : jump mail, 22 : accept } }
  chain mail { ip saddr @servers accept comment "ours"; tcp dport 25 log prefix "mail " level info drop; }
  chain c {
    type filter hook forward priority filter - 5; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    ct state new,untracked counter packets 7 bytes 70
    iifname $inside ip saddr $admins tcp dport vmap @ways
    ip saddr . tcp dport @pairs ct helper set "ftp-std" accept
    tcp flags & (syn|ack) == syn tcp flags syn,rst tcp flags != syn tcp dport >= 1024 accept
    tcp dport != { 80, 443 } ip daddr != 10.0.0.0/8 ip dscp af11 limit rate over 10/second burst 5 packets drop
    ip6 saddr fe80::/10 icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept
    meta l4proto { tcp, udp } th dport 53 accept
    vlan id 1-20 vlan pcp 3 ether saddr 02:00:00:00:00:01 ip length <= 100 accept
    reject with tcp reset
    counter name refused reject with icmpx type admin-prohibited
  }
}
table bridge l2 { chain f { type filter hook forward priority 0; ether type { arp, 0x88cc } accept; } }
"#;

const LISTED: &str = r#"table inet fw {
	ct helper ftp-std {
		type "ftp" protocol tcp
		l3proto inet
		comment "lotus:plc"
	}

	counter refused {
		packets 3 bytes 300
	}

	set servers {
		type ipv4_addr
		flags interval
		auto-merge
		elements = { 10.0.0.0/8, 10.1.0.0/16, 192.0.2.1 }
	}

	set pairs {
		typeof ip saddr . tcp dport
		elements = { 192.0.2.1 . 22 }
	}

	map ways {
		type inet_service : verdict
		elements = { 22 : accept, 25 : jump mail }
	}

	chain mail {
		ip saddr @servers accept comment "ours"
		tcp dport 25 log prefix "mail " level info drop
	}

	chain c {
		type filter hook forward priority filter - 5; policy drop;
		ct state vmap { invalid : drop, established : accept, related : accept }
		ct state new,untracked counter packets 7 bytes 70
		iifname "inside" ip saddr { 192.0.2.7, 192.0.2.16/28 } tcp dport vmap @ways
		ip saddr . tcp dport @pairs ct helper set "ftp-std" accept
		tcp flags & (syn | ack) == syn tcp flags syn,rst tcp flags != syn tcp dport >= 1024 accept
		tcp dport != { 80, 443 } ip daddr != 10.0.0.0/8 ip dscp af11 limit rate over 10/second burst 5 packets drop
		ip6 saddr fe80::/10 icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept
		meta l4proto { tcp, udp } th dport 53 accept
		vlan id 1-20 vlan pcp 3 ether saddr 02:00:00:00:00:01 ip length <= 100 accept
		reject with tcp reset
		counter name "refused" reject with icmpx admin-prohibited
	}
}
table bridge l2 {
	chain f {
		type filter hook forward priority 0; policy accept;
		ether type { arp, 0x88cc } accept
	}
}
"#;

#[test]
fn a_listing_is_as_nft_prints_it_and_reads_the_same() {
    let odd = parse(
        "table bridge t { chain c { type filter hook forward priority 2147483647;
            ether saddr != 00:00:00:00:00:00-00:53:00:00:00:ff drop } }",
    );
    assert!(
        odd.list()
            .contains("!= 00:00:00:00:00:00-00:53:00:00:00:ff"),
        "{}",
        odd.list()
    );
    let listed = parse(ALL).list();
    assert_eq!(listed, LISTED, "\n{listed}");
    assert_eq!(parse(&listed).list(), listed);
}

/// The rules met, as line, text and what came of them; then the verdict.
fn explain(rules: &Ruleset, packet: &str) -> (Vec<String>, &'static str) {
    let explanation = rules.explain(packet).unwrap();
    let met = explanation.met.iter().map(|met| {
        let line = met.line.map_or(String::new(), |line| format!("{line} "));
        match &met.explained {
            Explained::Failed(part) => format!("{line}not {part}"),
            Explained::Decided(verdict) => format!("{line}{verdict}: {}", met.rule),
        }
    });
    (met.collect(), explanation.verdict)
}

#[test]
fn an_explanation_names_the_rule_that_decides_and_why_others_did_not() {
    let text = "table inet t {
        chain web { tcp dport 80 accept; }
        chain c { type filter hook forward priority 0; policy drop;
            ct state established accept
            iifname outside tcp dport 22 accept
            ip saddr 10.0.0.0/8 jump web
            udp dport vmap { 53 : accept }
        } }";
    let rules = parse(text);
    let (met, verdict) = explain(&rules, "iif inside ip saddr 10.0.0.1 tcp dport 22");
    assert_eq!(
        met,
        [
            "4 not ct state established",
            "5 not iifname \"outside\"",
            "6 jump: ip saddr 10.0.0.0/8 jump web",
            "2 not tcp dport 80",
            "7 not udp dport vmap { 53 : accept }",
            "drop: policy drop",
        ]
    );
    assert_eq!(verdict, "drop");
    assert_eq!(explain(&rules, "iif outside tcp dport 22").1, "accept");
    assert_eq!(
        explain(&rules, "ip saddr 10.9.9.9 tcp dport 80").1,
        "accept"
    );
    assert_eq!(explain(&rules, "udp dport 53").1, "accept");
    assert_eq!(
        explain(&rules, "ip6 saddr 2001:db8::1 udp dport 53").1,
        "accept"
    );
    assert_eq!(explain(&rules, "ct state established").1, "accept");
    assert_eq!(explain(&rules, "ether type arp").1, "accept");
    let described = rules
        .explain("iif outside ip saddr 10.0.0.1 tcp sport 99 tcp dport 22")
        .unwrap();
    assert_eq!(
        described.packet,
        "TCP 10.0.0.1:99 -> 192.0.2.2:22 from outside, new"
    );
}

#[test]
fn a_description_that_is_none() {
    let rules = parse("table inet t { }");
    for (text, part) in [
        ("tcp dport", "found the end"),
        ("tcp dport 1-5", "one value"),
        ("tcp dport { 1, 2 }", "one value"),
        ("ip saddr 1.2.3.4 ip6 saddr ::1", "can never match"),
        ("iif eth9", "no port is called"),
        ("accept", "matches alone"),
        ("tcp dport 5; tcp dport 6", "expected the end"),
        ("tcp flags 0", "TCP flags that no TCP sends"),
    ] {
        let shown = rules.explain(text).unwrap_err().to_string();
        assert!(shown.contains(part), "{text}: {shown}");
    }
    let _ = ports();
}
