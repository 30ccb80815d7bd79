//! What the sender of a rejected packet is told. As the kernel does it (`nf_reject_ipv4.c`,
//! `nf_reject_ipv6.c`, `nft_reject_bridge.c`), with the restraint of RFC 1122 section 3.2.2 and RFC
//! 4443 section 2.4(e): nobody is made to answer an error, or a group, or in the name of a group.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::conntrack::Time;
use crate::conntrack::icmp::{self, Role};
use crate::rules::Reject;
use crate::wire::{
    EtherHeader, Icmp, Ip, L4, Meta, OwnedFrame, Packet, TcpFlags, checksum, proto, reset,
    unreachable,
};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Whether a rejected packet may be answered in this way at all.
pub(super) fn may_answer(frame: &[u8], packet: &Packet, meta: &Meta, reject: Reject) -> bool {
    let Some(ip) = &packet.ip else {
        return false;
    };
    let fits = match reject {
        // A packet that is no TCP is dropped in silence.
        Reject::TcpReset => match &ip.l4 {
            L4::Tcp(segment) => !segment.flags.has(TcpFlags::RST),
            _ => false,
        },
        Reject::Icmp(_) => ip.src.is_ipv4() && !is_icmp_error(ip),
        Reject::Icmpv6(_) => ip.src.is_ipv6() && !is_icmp_error(ip),
    };
    fits && is_between_two_hosts(&packet.ether, ip)
        // Of a part of a datagram nobody can say whether it is right.
        && ip.fragment.is_none()
        // What is wrong was perhaps not sent by the one whom the answer would reach.
        && checksum::holds(frame, meta, ip)
}

/// The answer to a packet that [`may_answer`] allowed.
pub(super) fn answer(frame: &[u8], packet: &Packet, reject: Reject) -> Option<OwnedFrame> {
    match reject {
        Reject::TcpReset => reset::to_sender(frame, packet),
        Reject::Icmp(code) | Reject::Icmpv6(code) => unreachable::to_sender(frame, packet, code),
    }
}

/// How many answers there may be: a token bucket that all workers share, kept as the moment at
/// which it will be full again.
#[derive(Debug)]
pub(super) struct Limit {
    full_at: AtomicU64,
    /// Nanoseconds for one token.
    token: u64,
    /// Nanoseconds for all tokens but one.
    reserve: u64,
}

impl Limit {
    pub(super) fn new(per_second: usize, burst: usize) -> Limit {
        let token = NANOS_PER_SECOND / (per_second as u64).max(1);
        Limit {
            full_at: AtomicU64::new(0),
            token,
            reserve: token.saturating_mul((burst as u64).saturating_sub(1)),
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&self, now: Time) -> bool {
        let now = now.as_nanos();
        let after = |full_at: u64| {
            let is_there = full_at <= now.saturating_add(self.reserve);
            is_there.then(|| full_at.max(now).saturating_add(self.token))
        };
        self.full_at.fetch_update(Relaxed, Relaxed, after).is_ok()
    }
}

/// Whether an error must not be answered with another: of ICMP all but queries and their answers,
/// since who knows what a message of unknown type is; of ICMPv6 those that are not informational,
/// and redirects.
fn is_icmp_error(ip: &Ip) -> bool {
    const INFORMATIONAL: u8 = 0x80;
    const REDIRECT: u8 = 137;
    let L4::Icmp(Icmp { kind, .. }) = ip.l4 else {
        return false;
    };
    match ip.protocol {
        proto::ICMPV6 => kind & INFORMATIONAL == 0 || kind == REDIRECT,
        protocol => !matches!(icmp::role(protocol, kind), Role::Query | Role::Answer),
    }
}

fn is_between_two_hosts(ether: &EtherHeader, ip: &Ip) -> bool {
    const GROUP: u8 = 1;
    let is_card = |[first, ..]: [u8; 6]| first & GROUP == 0;
    is_card(ether.src) && is_card(ether.dst) && is_host(ip.src) && is_host(ip.dst)
}

/// Whether an address can be that of one host, seen from a wire.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_host4(address),
        IpAddr::V6(address) => is_host6(address),
    }
}

fn is_host4(address: Ipv4Addr) -> bool {
    /// Groups, and the former class E with the broadcast address.
    const FIRST_GROUP: u8 = 224;
    let [first, ..] = address.octets();
    first != 0 && !address.is_loopback() && first < FIRST_GROUP
}

fn is_host6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let limit = Limit::new(1000, 50);
        let at = |micros: u64| Time::from_nanos(1_000_000_000 + micros * 1000);
        let taken = |micros, times| (0..times).filter(|_| limit.take(at(micros))).count();
        assert_eq!(taken(0, 200), 50);
        assert_eq!(taken(999, 5), 0);
        assert_eq!(taken(1000, 5), 1);
        // Whatever was asked for in vain costs nothing.
        assert_eq!(taken(11_000, 20), 10);
        // A pause makes no more than a burst.
        assert_eq!(taken(3_600_000_000, 200), 50);
        // Over ten seconds, a frame each 100 us.
        let from = 7_200_000_000;
        let many: usize = (0..100_000).map(|i| taken(from + i * 100, 1)).sum();
        assert!((10_000..=10_050).contains(&many), "{many}");
    }

    #[test]
    fn no_setting_and_no_time_makes_it_panic() {
        for (rate, burst) in [(0, 0), (usize::MAX, usize::MAX), (1, usize::MAX)] {
            let limit = Limit::new(rate, burst);
            for nanos in [1, u64::MAX, u64::MAX, 0] {
                let _ = limit.take(Time::from_nanos(nanos));
            }
        }
    }

    #[test]
    fn addresses_of_one_host() {
        for (address, expected) in [
            ("192.0.2.1", true),
            ("10.255.255.255", true),
            ("169.254.1.1", true),
            ("223.255.255.254", true),
            ("0.0.0.0", false),
            ("0.0.0.7", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("239.1.2.3", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2001:db8::1", true),
            ("fe80::1", true),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_host(address.parse().unwrap()), expected, "{address}");
        }
    }
}
