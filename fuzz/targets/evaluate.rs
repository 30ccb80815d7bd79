//! Evaluation: any frame, in any standing, against rulesets that use the whole language.

use std::sync::OnceLock;

use lotus::conntrack::{CtState, Direction, Time};
use lotus::rules::{Outcome, PortNames, Query, Ruleset};
use lotus::wire::{self, Packet, Side};

/// The examples, and one that has what they lack.
const RULES: [&str; 7] = [
    include_str!("../../tests/rules/office-clients.nft"),
    include_str!("../../tests/rules/ftp-server-farm.nft"),
    include_str!("../../tests/rules/ftps-farm.nft"),
    include_str!("../../tests/rules/vlan-trunk.nft"),
    include_str!("../../tests/rules/printers-and-scanners.nft"),
    include_str!("../../tests/rules/lotus-only-vlan-ftp.nft"),
    REST,
];

const REST: &str = r#"
table bridge rest {
  set pairs { typeof vlan id . ip saddr; flags interval; elements = { 1-9 . 10.0.0.0/8, 5 . 10.1.0.0/16 }; }
  map hosts { type ipv4_addr . inet_service : verdict; flags interval
    elements = { 10.0.0.0/9 . 1-99 : jump more, 10.128.0.0/9 . 22 : goto more } }
  chain more {
    tcp flags & (syn | ack) == syn tcp flags != syn return
    ip6 dscp cs1 ip6 length > 100 ip6 hoplimit < 5 drop
    th dport 1-1000 th sport != 5 continue
    ct direction reply ct helper "ftp" reject
  }
  chain c {
    type filter hook forward priority 0; policy accept;
    vlan id . ip saddr @pairs drop
    vlan type ip vlan pcp 1-3 counter
    ether type vlan ether type != arp ether daddr != 01:00:00:00:00:00 counter
    arp operation { request, reply } arp saddr ip 10.0.0.0/8 arp daddr ether 02:00:00:00:00:01 drop
    ip daddr . tcp dport vmap @hosts
    sctp dport { 1, 5-9 } sctp sport > 5 reject with icmp type net-prohibited
    icmp type { 3, 11 } icmp code 0-4 counter
    icmpv6 type 1 icmpv6 code no-route reject with icmpv6 type no-route
    meta length < 64 meta protocol ip ip ttl 1 drop
    tcp flags { syn, fin | ack, 0x3f } log prefix "odd " reject with tcp reset
    ip dscp vmap { ef : accept, cs0 : jump more }
  }
}
"#;

const STATES: [CtState; 5] = [
    CtState::New,
    CtState::Established,
    CtState::Related,
    CtState::Invalid,
    CtState::Untracked,
];

fn rulesets() -> &'static [Ruleset] {
    static ALL: OnceLock<Vec<Ruleset>> = OnceLock::new();
    ALL.get_or_init(|| {
        let ports = PortNames {
            inside: "eth1".into(),
            outside: "eth2".into(),
        };
        let parse = |text: &&str| Ruleset::parse("fuzz.nft", text, &ports).expect("good rules");
        RULES.iter().map(parse).collect()
    })
}

/// The first byte says how the packet stands, the rest is the frame.
pub fn check(data: &[u8]) {
    let Some((&standing, frame)) = data.split_first() else {
        return;
    };
    let Ok(packet) = wire::parse(frame) else {
        return;
    };
    // A fragment is judged when its datagram is whole.
    if packet.ip.as_ref().is_some_and(|ip| ip.fragment.is_some()) {
        return;
    }
    for rules in rulesets() {
        let mut logged = 0;
        let query = query(standing, &packet, frame);
        let outcome = rules.evaluate_and_log(&query, |_| logged += 1);
        assert!(logged == 0 || !outcome.cacheable, "each packet is logged");
        assert!(outcome.reject.is_none() || (outcome.drop.is_some() && !outcome.cacheable));
        if outcome.cacheable {
            assert_eq!(rules.evaluate(&query), outcome);
            like_any_other(rules, standing, frame, &outcome);
        }
    }
}

fn query<'a>(standing: u8, packet: &'a Packet, frame: &'a [u8]) -> Query<'a> {
    let of = |bit: u8| standing >> bit & 1 == 1;
    Query {
        packet,
        frame,
        side: if of(0) { Side::Inside } else { Side::Outside },
        state: STATES[usize::from(standing >> 3) % STATES.len()],
        direction: if of(1) {
            Direction::Reply
        } else {
            Direction::Original
        },
        is_expected: of(2),
        now: Time::default(),
    }
}

/// An outcome that may be kept is the same for every packet of the flow: those that differ in what
/// does not name the flow.
fn like_any_other(rules: &Ruleset, standing: u8, frame: &[u8], outcome: &Outcome) {
    for seed in 1..=3u8 {
        let mut other = frame.to_vec();
        for byte in other.iter_mut().take(12) {
            *byte ^= seed;
        }
        let Ok(packet) = wire::parse(frame) else {
            return;
        };
        if let Some(ip) = &packet.ip {
            let at = ip.datagram.start;
            // DSCP, time to live, TCP flags.
            let changed: &[usize] = if ip.src.is_ipv4() { &[1, 8] } else { &[1, 7] };
            for offset in changed {
                other[at + offset] = other[at + offset].wrapping_add(seed);
            }
            if ip.protocol == 6 {
                other[ip.l4_offset + 13] = [0x02, 0x10, 0x11][usize::from(seed - 1)];
            }
            other.extend(std::iter::repeat_n(0, usize::from(seed)));
        } else {
            continue;
        }
        let Ok(packet) = wire::parse(&other) else {
            continue;
        };
        assert_eq!(
            rules.evaluate(&query(standing, &packet, &other)),
            *outcome,
            "kept, and yet not the same for another packet"
        );
    }
}
