//! The language by parts: for each a probe, which tells whether lotus has it, and for a match how it is
//! drawn.

use super::{Draw, Net, Transport};
use crate::bed::Arrangement;
use crate::rules::Family;
use crate::values::Kind;

/// A match.
pub struct Feature {
    pub name: &'static str,
    /// `FAMILY:RULE`, or a whole file.
    pub probe: &'static str,
    pub weight: u64,
    /// `None` where it makes no sense.
    pub draw: fn(&mut Draw<'_>) -> Option<String>,
}

/// Features that are not matches, and how to know that lotus has them.
pub const STRUCTURES: &[(&str, &str)] = &[
    ("define", "bridge:tcp dport $probe accept"),
    (
        "several chains",
        "table bridge t {\nchain a {\ntype filter hook forward priority 0;\n}\nchain b {\ntype filter hook forward priority 1;\n}\n}\n",
    ),
    (
        "jump and return",
        "table bridge t {\nchain b {\nreturn\n}\nchain a {\ntype filter hook forward priority 0;\njump b\n}\n}\n",
    ),
    (
        "goto",
        "table bridge t {\nchain b {\naccept\n}\nchain a {\ntype filter hook forward priority 0;\ngoto b\n}\n}\n",
    ),
    ("continue", "bridge:continue"),
    ("vmap", "bridge:tcp dport vmap { 1 : accept, 2-3 : drop }"),
    (
        "named vmap",
        "table bridge t {\nmap m {\ntype inet_service : verdict\nelements = { 1 : accept }\n}\nchain a {\ntype filter hook forward priority 0;\ntcp dport vmap @m\n}\n}\n",
    ),
    (
        "named sets",
        "table bridge t {\nset s { type inet_service; flags interval; elements = { 1, 2-3 }; }\nchain a {\ntype filter hook forward priority 0;\ntcp dport @s accept\n}\n}\n",
    ),
    (
        "typeof sets",
        "table bridge t {\nset s { typeof tcp dport; elements = { 1 }; }\nchain a {\ntype filter hook forward priority 0;\ntcp dport @s accept\n}\n}\n",
    ),
    (
        "concatenations",
        "bridge:ip saddr . tcp dport { 192.0.2.1 . 1, 192.0.2.0/24 . 2-3 } accept",
    ),
    (
        "named concatenations",
        "table bridge t {\nset s { type ipv4_addr . inet_service; flags interval; elements = { 192.0.2.0/24 . 1-2 }; }\nchain a {\ntype filter hook forward priority 0;\nip saddr . tcp dport @s accept\n}\n}\n",
    ),
    ("less and greater", "bridge:tcp dport >= 1024 accept"),
    (
        "tables of ip and ip6",
        "table ip t {\nchain a {\ntype filter hook forward priority 0;\n}\n}\ntable ip6 t {\nchain a {\ntype filter hook forward priority 0;\n}\n}\n",
    ),
    ("reject", "inet:reject"),
    ("reject with", "inet:meta l4proto tcp reject with tcp reset"),
];

const fn feature(
    name: &'static str,
    probe: &'static str,
    weight: u64,
    draw: fn(&mut Draw<'_>) -> Option<String>,
) -> Feature {
    Feature {
        name,
        probe,
        weight,
        draw,
    }
}

pub const MATCHES: &[Feature] = &[
    feature("iifname", "bridge:iifname port0", 6, |d| {
        Some(d.interface("«iifname»", "in"))
    }),
    feature("oifname", "bridge:oifname port0", 4, |d| {
        Some(d.interface("«oifname»", "out"))
    }),
    feature("iif", "bridge:iif port0", 2, |d| {
        Some(d.interface("«iif»", "in"))
    }),
    feature("oif", "bridge:oif port0", 2, |d| {
        Some(d.interface("«oif»", "out"))
    }),
    feature("ct state", "inet:ct state new", 10, |d| d.ct_state()),
    feature("ct direction", "inet:ct direction original", 3, |d| {
        let way = *d.rng.pick(&["original", "reply"]);
        d.is_stateful.then(|| format!("ct direction {way}"))
    }),
    feature("meta l4proto", "bridge:meta l4proto tcp", 5, |d| {
        (d.net != Net::Arp).then(|| d.protocol("meta l4proto"))
    }),
    feature("meta nfproto", "inet:meta nfproto ipv4", 2, |d| {
        let name = match d.net {
            Net::V4 => "ipv4",
            Net::V6 => "ipv6",
            _ => *d.rng.pick(&["ipv4", "ipv6"]),
        };
        (d.family == Family::Inet).then(|| format!("meta nfproto {name}"))
    }),
    feature("meta protocol", "bridge:meta protocol ip", 2, |d| {
        (d.family == Family::Bridge).then(|| d.ether_type("meta protocol"))
    }),
    feature("meta length", "bridge:meta length 40-60", 2, |d| {
        // br_netfilter cuts padding off before the bridge's hook sees a frame; without it that does not.
        (d.family != Family::Bridge || d.arrangement == Arrangement::Bridge)
            .then(|| d.number("meta length", Kind::Length))
    }),
    feature("ether type", "bridge:ether type arp", 5, |d| {
        match d.family {
            Family::Bridge => Some(d.ether_type("ether type")),
            Family::Inet => Some(d.ether_type("ether type")),
            _ => None,
        }
    }),
    feature(
        "ether saddr",
        "bridge:ether saddr 02:00:00:00:00:01",
        3,
        |d| Some(d.number("ether saddr", Kind::Mac)),
    ),
    feature(
        "ether daddr",
        "bridge:ether daddr 02:00:00:00:00:01",
        3,
        |d| Some(d.number("ether daddr", Kind::Mac)),
    ),
    feature("vlan id", "bridge:vlan id 5", 3, |d| {
        (d.family == Family::Bridge).then(|| d.number("vlan id", Kind::VlanId))
    }),
    feature("vlan pcp", "bridge:vlan pcp 3", 2, |d| {
        (d.family == Family::Bridge).then(|| d.number("vlan pcp", Kind::VlanPriority))
    }),
    feature("arp operation", "bridge:arp operation request", 3, |d| {
        d.arp("arp operation", Kind::ArpOperation)
    }),
    feature("arp saddr ip", "bridge:arp saddr ip 192.0.2.1", 3, |d| {
        d.arp("arp saddr ip", Kind::V4)
    }),
    feature("arp daddr ip", "bridge:arp daddr ip 192.0.2.1", 2, |d| {
        d.arp("arp daddr ip", Kind::V4)
    }),
    feature(
        "arp saddr ether",
        "bridge:arp saddr ether 02:00:00:00:00:01",
        2,
        |d| d.arp("arp saddr ether", Kind::Mac),
    ),
    feature(
        "arp daddr ether",
        "bridge:arp daddr ether 02:00:00:00:00:01",
        1,
        |d| d.arp("arp daddr ether", Kind::Mac),
    ),
    feature("ip saddr", "bridge:ip saddr 192.0.2.1", 8, |d| {
        d.v4("ip saddr", Kind::V4)
    }),
    feature("ip daddr", "bridge:ip daddr 192.0.2.1", 8, |d| {
        d.v4("ip daddr", Kind::V4)
    }),
    feature(
        "masks",
        "bridge:ip saddr & 255.255.255.1 == 192.0.2.1",
        2,
        |d| {
            let end = *d.rng.pick(&["saddr", "daddr"]);
            let (mask, value) = *d.rng.pick(&[
                ("255.0.0.1", "192.0.0.1"),
                ("0.0.0.1", "0.0.0.0"),
                ("255.255.255.1", "192.0.2.0"),
                ("0.0.255.254", "0.0.100.20"),
            ]);
            let relation = *d.rng.pick(&["==", "!="]);
            (d.family != Family::Ip6 && d.net == Net::V4)
                .then(|| format!("ip {end} & {mask} {relation} {value}"))
        },
    ),
    feature("ip protocol", "bridge:ip protocol tcp", 4, |d| {
        d.is_v4().then(|| d.protocol("ip protocol"))
    }),
    feature("ip ttl", "bridge:ip ttl 64", 3, |d| {
        d.v4("ip ttl", Kind::HopLimit)
    }),
    feature("ip dscp", "bridge:ip dscp cs1", 3, |d| {
        d.v4("ip dscp", Kind::Dscp)
    }),
    feature("ip ecn", "bridge:ip ecn ce", 1, |d| {
        d.v4("ip ecn", Kind::Ecn)
    }),
    feature("ip length", "bridge:ip length 40", 3, |d| {
        d.v4("ip length", Kind::Length)
    }),
    feature("ip id", "bridge:ip id 5", 1, |d| d.v4("ip id", Kind::Id)),
    feature("ip hdrlength", "bridge:ip hdrlength 5", 1, |d| {
        d.v4("ip hdrlength", Kind::HeaderWords)
    }),
    feature("ip6 saddr", "bridge:ip6 saddr 2001:db8::1", 8, |d| {
        d.v6("ip6 saddr", Kind::V6)
    }),
    feature("ip6 daddr", "bridge:ip6 daddr 2001:db8::1", 8, |d| {
        d.v6("ip6 daddr", Kind::V6)
    }),
    feature("ip6 nexthdr", "bridge:ip6 nexthdr tcp", 3, |d| {
        d.is_v6().then(|| d.protocol("ip6 nexthdr"))
    }),
    feature("ip6 hoplimit", "bridge:ip6 hoplimit 64", 3, |d| {
        d.v6("ip6 hoplimit", Kind::HopLimit)
    }),
    feature("ip6 dscp", "bridge:ip6 dscp cs1", 3, |d| {
        d.v6("ip6 dscp", Kind::Dscp)
    }),
    feature("ip6 length", "bridge:ip6 length 40", 3, |d| {
        d.v6("ip6 length", Kind::Length)
    }),
    feature("tcp sport", "bridge:tcp sport 20", 4, |d| {
        d.l4(Transport::Tcp, "tcp sport", Kind::Port)
    }),
    feature("tcp dport", "bridge:tcp dport 20", 8, |d| {
        d.l4(Transport::Tcp, "tcp dport", Kind::Port)
    }),
    feature("tcp flags", "bridge:tcp flags syn", 5, |d| {
        let value = *d.rng.pick(&[
            "syn", "fin", "rst", "ack", "syn,ack", "fin,rst", "psh", "urg", "!= syn", "!= ack",
            "== syn", "== ack", "== 0x12",
        ]);
        (d.transport == Transport::Tcp).then(|| format!("tcp flags {value}"))
    }),
    feature(
        "tcp flags with masks",
        "bridge:tcp flags & (syn | ack) == syn",
        5,
        |d| {
            let value = *d.rng.pick(&[
                "& (syn|ack) == syn",
                "& (fin|syn|rst|ack) == syn",
                "& (syn|rst|ack) != syn",
                "& (fin|rst) != 0",
                "& (fin|rst) == 0x0",
                "& (syn|ack) == syn|ack",
                "& syn == syn",
                "& ack != 0",
            ]);
            (d.transport == Transport::Tcp).then(|| format!("tcp flags {value}"))
        },
    ),
    feature(
        "tcp flags with a slash",
        "bridge:tcp flags syn / syn,ack",
        3,
        |d| {
            let value = *d.rng.pick(&[
                "syn / syn,ack",
                "syn / fin,syn,rst,ack",
                "!= syn / syn,ack",
                "ack / syn,ack",
                "syn,ack / syn,ack",
            ]);
            (d.transport == Transport::Tcp).then(|| format!("tcp flags {value}"))
        },
    ),
    feature("tcp window", "bridge:tcp window 100", 1, |d| {
        d.l4(Transport::Tcp, "tcp window", Kind::Window)
    }),
    feature("udp sport", "bridge:udp sport 20", 4, |d| {
        d.l4(Transport::Udp, "udp sport", Kind::Port)
    }),
    feature("udp dport", "bridge:udp dport 20", 6, |d| {
        d.l4(Transport::Udp, "udp dport", Kind::Port)
    }),
    feature("udp length", "bridge:udp length 20", 1, |d| {
        d.l4(Transport::Udp, "udp length", Kind::Length)
    }),
    feature("sctp dport", "bridge:sctp dport 20", 2, |d| {
        d.l4(Transport::Sctp, "sctp dport", Kind::Port)
    }),
    feature("sctp sport", "bridge:sctp sport 20", 2, |d| {
        d.l4(Transport::Sctp, "sctp sport", Kind::Port)
    }),
    // Only behind a protocol that has ports: what the kernel reads in others is its own affair.
    feature(
        "th",
        "bridge:meta l4proto { tcp, udp } th dport 20",
        4,
        |d| {
            let end = *d.rng.pick(&["sport", "dport"]);
            let test = d.number(&format!("th {end}"), Kind::Port);
            match d.transport {
                Transport::Tcp => Some(format!("meta l4proto tcp {test}")),
                Transport::Any if d.net != Net::Arp => {
                    Some(format!("meta l4proto {{ tcp, udp }} {test}"))
                }
                _ => None,
            }
        },
    ),
    feature("icmp type", "bridge:icmp type echo-request", 5, |d| {
        d.icmp(Net::V4, "icmp type", Kind::IcmpType)
    }),
    feature("icmp code", "bridge:icmp code 0", 2, |d| {
        d.icmp(Net::V4, "icmp code", Kind::IcmpCode)
    }),
    feature("icmpv6 type", "bridge:icmpv6 type echo-request", 5, |d| {
        d.icmp(Net::V6, "icmpv6 type", Kind::Icmpv6Type)
    }),
    feature("icmpv6 code", "bridge:icmpv6 code 0", 2, |d| {
        d.icmp(Net::V6, "icmpv6 code", Kind::IcmpCode)
    }),
];
