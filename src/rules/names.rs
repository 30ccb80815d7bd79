//! Names that nft knows for numbers. The lists of services and protocols are short on purpose:
//! nft takes them from the machine's `/etc/services`, and a firewall must not mean something else
//! on another machine.

use crate::conntrack::CtState;
use crate::wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

pub(super) type Names = &'static [(&'static str, u16)];

/// 802.1Q. A frame with any tag answers to it; see `EtherType` in the program.
pub(super) const ETHERTYPE_VLAN: u16 = 0x8100;

/// 802.1ad. Only a tag behind another one can be asked for it.
pub(super) const ETHERTYPE_SERVICE_TAG: u16 = 0x88a8;

/// Services by port (IANA "Service Name and Transport Protocol Port Number Registry"), with the
/// spelling of Debian's /etc/services.
pub(super) const SERVICES: Names = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("ntp", 123),
    ("imap2", 143),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("submissions", 465),
    ("syslog", 514),
    ("dhcpv6-client", 546),
    ("dhcpv6-server", 547),
    ("submission", 587),
    ("ldaps", 636),
    ("ftps-data", 989),
    ("ftps", 990),
    ("imaps", 993),
    ("pop3s", 995),
    ("mdns", 5353),
];

/// IP protocols (IANA "Assigned Internet Protocol Numbers").
pub(super) const PROTOCOLS: Names = &[
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("sctp", 132),
    ("udplite", 136),
];

/// Ethernet types as `nft describe ether type` lists them.
pub(super) const ETHERTYPES: Names = &[
    ("ip", ETHERTYPE_IPV4),
    ("ip6", ETHERTYPE_IPV6),
    ("arp", ETHERTYPE_ARP),
    ("vlan", ETHERTYPE_VLAN),
    ("8021q", ETHERTYPE_VLAN),
    ("8021ad", ETHERTYPE_SERVICE_TAG),
];

/// As `nft describe icmp type` lists them.
pub(super) const ICMP_TYPES: Names = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
];

/// As `nft describe icmpv6 type` lists them.
pub(super) const ICMPV6_TYPES: Names = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("mld-listener-reduction", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("ind-neighbor-advert", 142),
    ("mld2-listener-report", 143),
];

/// As `nft describe icmp code` lists them.
pub(super) const ICMP_CODES: Names = &[
    ("net-unreachable", 0),
    ("host-unreachable", 1),
    ("prot-unreachable", 2),
    ("port-unreachable", 3),
    ("frag-needed", 4),
    ("net-prohibited", 9),
    ("host-prohibited", 10),
    ("admin-prohibited", 13),
];

/// As `nft describe icmpv6 code` lists them.
pub(super) const ICMPV6_CODES: Names = &[
    ("no-route", 0),
    ("admin-prohibited", 1),
    ("addr-unreachable", 3),
    ("port-unreachable", 4),
    ("policy-fail", 5),
    ("reject-route", 6),
];

/// What `reject with icmpx type` takes, with the codes that nf_tables gives them.
pub(super) const ICMPX_CODES: Names = &[
    ("no-route", 0),
    ("port-unreachable", 1),
    ("host-unreachable", 2),
    ("admin-prohibited", 3),
];

/// As `nft describe arp operation` lists them.
pub(super) const ARP_OPERATIONS: Names = &[
    ("request", 1),
    ("reply", 2),
    ("rrequest", 3),
    ("rreply", 4),
    ("inrequest", 8),
    ("inreply", 9),
    ("nak", 10),
];

/// As `nft describe ip dscp` lists them (RFC 2474, RFC 2597, RFC 3246, RFC 5865).
pub(super) const DSCPS: Names = &[
    ("cs0", 0x00),
    ("cs1", 0x08),
    ("cs2", 0x10),
    ("cs3", 0x18),
    ("cs4", 0x20),
    ("cs5", 0x28),
    ("cs6", 0x30),
    ("cs7", 0x38),
    ("df", 0x00),
    ("be", 0x00),
    ("lephb", 0x01),
    ("af11", 0x0a),
    ("af12", 0x0c),
    ("af13", 0x0e),
    ("af21", 0x12),
    ("af22", 0x14),
    ("af23", 0x16),
    ("af31", 0x1a),
    ("af32", 0x1c),
    ("af33", 0x1e),
    ("af41", 0x22),
    ("af42", 0x24),
    ("af43", 0x26),
    ("va", 0x2c),
    ("ef", 0x2e),
];

/// RFC 9293 section 3.1, RFC 3168.
pub(super) const TCP_FLAGS: Names = &[
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
    ("ecn", 0x40),
    ("cwr", 0x80),
];

/// `meta nfproto`, with the numbers of the kernel.
pub(super) const NFPROTOS: Names = &[("ipv4", 2), ("ipv6", 10)];

/// `ct direction`
pub(super) const CT_DIRECTIONS: Names = &[("original", 0), ("reply", 1)];

/// `ct state`
pub(super) const CT_STATES: Names = &[
    ("invalid", CtState::Invalid as u16),
    ("established", CtState::Established as u16),
    ("related", CtState::Related as u16),
    ("new", CtState::New as u16),
    ("untracked", CtState::Untracked as u16),
];

/// The helpers that lotus has.
pub(super) const HELPERS: Names = &[("ftp", 0)];

/// What `log level` takes (syslog(3)).
pub(super) const LOG_LEVELS: Names = &[
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warn", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];

/// The number that a name stands for.
pub(super) fn number_of(names: Names, name: &str) -> Option<u16> {
    names
        .iter()
        .find(|(known, _)| *known == name)
        .map(|&(_, number)| number)
}

/// The first name of a number.
pub(super) fn name_of(names: Names, number: u128) -> Option<&'static str> {
    names
        .iter()
        .find(|&&(_, known)| u128::from(known) == number)
        .map(|&(name, _)| name)
}

/// All names of a list, for hints.
pub(super) fn list(names: Names) -> String {
    names
        .iter()
        .map(|&(name, _)| name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The known name that a person most likely meant, if one is near.
pub(super) fn nearest<'n>(names: impl IntoIterator<Item = &'n str>, word: &str) -> Option<&'n str> {
    // Longer words are no typing errors of anything here, and the distance costs their square.
    if word.len() > 32 {
        return None;
    }
    let limit = (word.len() / 3).clamp(1, 3);
    names
        .into_iter()
        .map(|name| (distance(name, word), name))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions and replacements that turn one word into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (line, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), line + 1);
        let mut left = line + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let best = (diagonal + usize::from(from != to))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_typing_error_finds_what_was_meant() {
        let services = || SERVICES.iter().map(|&(name, _)| name);
        assert_eq!(nearest(services(), "htttp"), Some("http"));
        assert_eq!(nearest(services(), "domian"), Some("domain"));
        assert_eq!(nearest(services(), "gopher"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    /// Where the machine has the list that nft reads, it must mean the same numbers.
    #[test]
    fn services_agree_with_this_machine() {
        let Ok(text) = std::fs::read_to_string("/etc/services") else {
            // Not by eprintln, which the test harness hides.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no /etc/services");
            return;
        };
        for &(name, port) in SERVICES {
            let listed = text.lines().filter_map(|line| {
                let mut words = line.split('#').next()?.split_whitespace();
                let (first, number) = (words.next()?, words.next()?);
                (first == name || words.any(|alias| alias == name))
                    .then(|| number.split('/').next().map(str::to_owned))
                    .flatten()
            });
            for number in listed {
                assert_eq!(number, port.to_string(), "{name}");
            }
        }
    }
}
