//! From which side a packet of a capture came in.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::view::View;
use crate::wire::Side;

/// Addresses (and MAC addresses, and pairs) that are remembered. Who comes later is outside.
const MAX_REMEMBERED: usize = 1 << 20;

/// The port of FTP control connections (IANA).
const FTP_PORT: u16 = 21;

/// Where a packet came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It came in at this side.
    At(Side),
    /// Both ends are on this side: it never met the firewall.
    NeverMet(Side),
}

/// Which addresses are on which side.
#[derive(Debug, Default)]
pub(super) struct Sides {
    /// What the user named; empty: guess.
    inside: Vec<IpNet>,
    known: HashMap<IpAddr, Side>,
    /// FTP servers among the first packets.
    servers: HashSet<IpAddr>,
    /// Pairs of addresses that were guessed to be on one side: who of them (the lower or the
    /// higher address) is inside.
    neighbours: HashMap<(IpAddr, IpAddr), bool>,
    /// Connections of a host with itself: which port is inside.
    own: HashMap<(IpAddr, u16, u16), u16>,
    told_of_loopback: bool,
    macs: HashMap<[u8; 6], Side>,
    /// Guesses that were not told yet.
    news: Vec<String>,
}

impl Sides {
    /// Sides by the user's word (`inside`, or a guess if there is none), and with these servers
    /// inside.
    pub(super) fn new(inside: Vec<IpNet>, servers: &[IpAddr]) -> Sides {
        Sides {
            inside,
            known: servers.iter().map(|&ip| (ip, Side::Inside)).collect(),
            ..Sides::default()
        }
    }

    /// How it is decided, in one sentence.
    pub(super) fn rule(&self) -> String {
        if self.inside.is_empty() {
            return "guessed: a private address is inside when the other one is public; else an FTP \
                    server is inside; else who speaks first is outside. --inside CIDR names what \
                    is inside"
                .to_owned();
        }
        let named: Vec<_> = self.inside.iter().map(ToString::to_string).collect();
        format!("inside is {}, outside everything else", named.join(", "))
    }

    /// One of the first packets, before any is judged: is there an FTP server?
    pub(super) fn look_ahead(&mut self, view: &View) {
        let Some((src, dst)) = view.addresses else {
            return;
        };
        match view.ports {
            Some((_, FTP_PORT)) if view.is_tcp => self.servers.insert(dst),
            Some((FTP_PORT, _)) if view.is_tcp => self.servers.insert(src),
            _ => false,
        };
    }

    /// Where a packet came from. `expected` tells, where a session announced the connection, from
    /// which side it must come: where the ends have one address, nothing else tells.
    pub(super) fn place(&mut self, view: &View, expected: Option<Side>) -> Placed {
        let placed = match view.addresses {
            Some((src, dst)) if src == dst => Placed::At(self.with_itself(src, view, expected)),
            Some((src, dst)) if self.inside.is_empty() => Placed::At(self.guess(src, dst, view)),
            Some((src, dst)) => self.named(src, dst, view),
            None => Placed::At(self.by_mac(view)),
        };
        if let Placed::At(side) = placed
            && view.macs.1 != [0; 6]
            && self.macs.len() < MAX_REMEMBERED
        {
            self.macs.insert(view.macs.1, side);
        }
        placed
    }

    /// What was guessed since the last call.
    pub(super) fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// The addresses that were taken as being on a side, at most `limit`.
    pub(super) fn on(&self, side: Side, limit: usize) -> Vec<IpAddr> {
        let mut addresses: Vec<_> = self
            .known
            .iter()
            .filter(|&(_, &there)| there == side)
            .map(|(&address, _)| address)
            .collect();
        addresses.sort();
        addresses.truncate(limit);
        addresses
    }

    fn named(&mut self, src: IpAddr, dst: IpAddr, view: &View) -> Placed {
        let side = |address: IpAddr| {
            let is_inside = self.inside.iter().any(|net| net.contains(&address));
            if is_inside {
                Side::Inside
            } else {
                Side::Outside
            }
        };
        match (is_one_host(src), is_one_host(dst)) {
            (true, true) if side(src) == side(dst) => Placed::NeverMet(side(src)),
            (true, _) => Placed::At(side(src)),
            (false, true) => Placed::At(side(dst).other()),
            (false, false) => Placed::At(self.by_mac(view)),
        }
    }

    fn guess(&mut self, src: IpAddr, dst: IpAddr, view: &View) -> Side {
        let known = |address| self.known.get(&address).copied();
        match (known(src), known(dst)) {
            (Some(a), Some(b)) if a == b => self.neighbour(src, dst, view),
            (Some(side), _) => {
                self.remember(dst, side.other());
                side
            }
            (None, Some(side)) => {
                self.remember(src, side.other());
                side.other()
            }
            (None, None) if !is_one_host(src) || !is_one_host(dst) => {
                if is_private(src) {
                    Side::Inside
                } else {
                    self.by_mac(view)
                }
            }
            (None, None) => {
                let (side, why) = self.first_guess(src, dst, view);
                let (inside, outside) = match side {
                    Side::Inside => (src, dst),
                    Side::Outside => (dst, src),
                };
                self.news.push(format!(
                    "taken as inside: {inside}, as outside: {outside} ({why})"
                ));
                self.remember(src, side);
                self.remember(dst, side.other());
                side
            }
        }
    }

    fn first_guess(&self, src: IpAddr, dst: IpAddr, view: &View) -> (Side, &'static str) {
        let is_server = |address| self.servers.contains(&address);
        match (is_private(src), is_private(dst)) {
            (true, false) => return (Side::Inside, "it is a private address"),
            (false, true) => return (Side::Outside, "it is a private address"),
            _ => {}
        }
        match (is_server(src), is_server(dst)) {
            (true, false) => (Side::Inside, "it is an FTP server"),
            (false, true) => (Side::Outside, "it is an FTP server"),
            _ => (began(view), "the other one spoke first"),
        }
    }

    /// Both ends were taken as being on one side, each because of somebody else.
    fn neighbour(&mut self, src: IpAddr, dst: IpAddr, view: &View) -> Side {
        let pair = (src.min(dst), src.max(dst));
        let is_low = src < dst;
        let guess = (began(view) == Side::Inside) == is_low;
        let low_is_inside = if self.neighbours.len() < MAX_REMEMBERED {
            *self.neighbours.entry(pair).or_insert(guess)
        } else {
            self.neighbours.get(&pair).copied().unwrap_or(guess)
        };
        side_if(low_is_inside == is_low)
    }

    /// A capture of a loopback: the two ends are ports of one address.
    fn with_itself(&mut self, address: IpAddr, view: &View, expected: Option<Side>) -> Side {
        let Some((from, to)) = view.ports else {
            return Side::Outside;
        };
        if !std::mem::replace(&mut self.told_of_loopback, true) {
            self.news.push(format!(
                "both ends are {address}: they are told apart by port (21 and 20 are inside; \
                 else who connects is outside, but for data connections of active mode)"
            ));
        }
        let inside_port = match (from, to) {
            // The control connection's server, and the data port that belongs to it.
            (FTP_PORT, _) | (_, FTP_PORT) => FTP_PORT,
            (DATA_PORT, _) | (_, DATA_PORT) => DATA_PORT,
            _ => {
                let side = expected.unwrap_or_else(|| began(view));
                let guess = if side == Side::Inside { from } else { to };
                let pair = (address, from.min(to), from.max(to));
                if self.own.len() < MAX_REMEMBERED {
                    *self.own.entry(pair).or_insert(guess)
                } else {
                    self.own.get(&pair).copied().unwrap_or(guess)
                }
            }
        };
        side_if(from == inside_port)
    }

    fn by_mac(&self, view: &View) -> Side {
        self.macs
            .get(&view.macs.1)
            .copied()
            .unwrap_or(Side::Outside)
    }

    fn remember(&mut self, address: IpAddr, side: Side) {
        if is_one_host(address) && self.known.len() < MAX_REMEMBERED {
            self.known.entry(address).or_insert(side);
        }
    }
}

/// The server's port of an active data connection, if the server is root (RFC 959).
const DATA_PORT: u16 = 20;

/// Who begins is outside. A SYN-ACK tells that the other one began.
fn began(view: &View) -> Side {
    side_if(view.is_answer)
}

fn side_if(is_inside: bool) -> Side {
    if is_inside {
        Side::Inside
    } else {
        Side::Outside
    }
}

/// Not the address of a group, of everybody, or of somebody who has none yet.
fn is_one_host(address: IpAddr) -> bool {
    let is_broadcast = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(_) => false,
    };
    !(address.is_multicast() || address.is_unspecified() || is_broadcast)
}

/// RFC 1918, RFC 4193, and link-local addresses.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(src: &str, from: u16, dst: &str, to: u16) -> View {
        View {
            macs: ([0; 6], [0; 6]),
            addresses: Some((src.parse().unwrap(), dst.parse().unwrap())),
            ports: Some((from, to)),
            is_tcp: true,
            is_answer: false,
        }
    }

    fn answer(src: &str, from: u16, dst: &str, to: u16) -> View {
        View {
            is_answer: true,
            ..view(src, from, dst, to)
        }
    }

    const IN: Placed = Placed::At(Side::Inside);
    const OUT: Placed = Placed::At(Side::Outside);

    #[test]
    fn what_the_user_names_is_inside() {
        let nets = vec![
            "10.1.0.0/16".parse().unwrap(),
            "2001:db8::/64".parse().unwrap(),
        ];
        let mut sides = Sides::new(nets, &[]);
        assert_eq!(sides.place(&view("10.1.2.3", 1, "10.2.0.1", 2), None), IN);
        assert_eq!(sides.place(&view("10.2.0.1", 2, "10.1.2.3", 1), None), OUT);
        assert_eq!(
            sides.place(&view("2001:db8::1", 2, "2001:db9::1", 1), None),
            IN
        );
        assert_eq!(
            sides.place(&view("10.1.2.3", 1, "10.1.2.4", 2), None),
            Placed::NeverMet(Side::Inside)
        );
        assert_eq!(
            sides.place(&view("10.2.2.3", 1, "10.3.2.4", 2), None),
            Placed::NeverMet(Side::Outside)
        );
        assert_eq!(sides.place(&view("10.1.2.3", 1, "224.0.0.1", 2), None), IN);
        assert_eq!(
            sides.place(&view("10.2.2.3", 1, "255.255.255.255", 2), None),
            OUT
        );
        assert_eq!(sides.place(&view("0.0.0.0", 68, "10.1.2.3", 67), None), OUT);
        assert!(sides.news().is_empty());
    }

    #[test]
    fn a_private_address_is_inside() {
        let mut sides = Sides::default();
        assert_eq!(
            sides.place(&view("192.168.1.9", 5000, "198.51.100.1", 21), None),
            IN
        );
        assert_eq!(
            sides.place(&answer("198.51.100.1", 21, "192.168.1.9", 5000), None),
            OUT
        );
        let mut sides = Sides::default();
        assert_eq!(
            sides.place(&view("198.51.100.1", 5000, "fd00::1", 21), None),
            OUT
        );
        assert_eq!(sides.news().len(), 1);
    }

    #[test]
    fn an_ftp_server_is_inside_whoever_speaks_first() {
        let mut sides = Sides::default();
        sides.look_ahead(&view("10.0.0.1", 5000, "10.0.0.2", 21));
        assert_eq!(
            sides.place(&view("10.0.0.2", 999, "10.0.0.1", 53), None),
            IN
        );
        assert_eq!(
            sides.place(&view("10.0.0.1", 5000, "10.0.0.2", 21), None),
            OUT
        );
    }

    #[test]
    fn who_speaks_first_is_outside_and_stays_there() {
        let mut sides = Sides::default();
        assert_eq!(
            sides.place(&view("192.0.2.1", 1, "198.51.100.1", 2), None),
            OUT
        );
        assert_eq!(
            sides.place(&view("198.51.100.1", 3, "192.0.2.1", 4), None),
            IN
        );
        let mut sides = Sides::default();
        assert_eq!(
            sides.place(&answer("192.0.2.1", 1, "198.51.100.1", 2), None),
            IN
        );
    }

    #[test]
    fn two_that_were_put_on_one_side_are_told_apart() {
        let mut sides = Sides::default();
        assert_eq!(
            sides.place(&view("192.0.2.1", 1, "192.0.2.9", 2), None),
            OUT
        );
        assert_eq!(
            sides.place(&view("192.0.2.2", 1, "192.0.2.9", 2), None),
            OUT
        );
        assert_eq!(
            sides.place(&view("192.0.2.2", 1, "192.0.2.1", 2), None),
            OUT
        );
        assert_eq!(sides.place(&view("192.0.2.1", 2, "192.0.2.2", 1), None), IN);
        assert_eq!(
            sides.place(&view("192.0.2.2", 1, "192.0.2.1", 2), None),
            OUT
        );
    }

    #[test]
    fn a_host_with_itself() {
        let mut sides = Sides::default();
        assert_eq!(
            sides.place(&view("127.0.0.1", 4000, "127.0.0.1", 21), None),
            OUT
        );
        assert_eq!(
            sides.place(&view("127.0.0.1", 21, "127.0.0.1", 4000), None),
            IN
        );
        assert_eq!(
            sides.place(&view("127.0.0.1", 4001, "127.0.0.1", 50000), None),
            OUT
        );
        assert_eq!(
            sides.place(&view("127.0.0.1", 50000, "127.0.0.1", 4001), None),
            IN
        );
        assert_eq!(
            sides.place(&view("127.0.0.1", 20, "127.0.0.1", 4002), None),
            IN
        );
        assert_eq!(
            sides.place(&view("127.0.0.1", 4002, "127.0.0.1", 20), None),
            OUT
        );
    }

    #[test]
    fn what_has_no_address_comes_from_where_its_mac_was_seen() {
        let mac = [2, 0, 0, 0, 0, 1];
        let mut sides = Sides::default();
        let with_mac = |view: View| View {
            macs: ([0; 6], mac),
            ..view
        };
        let nameless = || View {
            macs: ([0; 6], mac),
            addresses: None,
            ports: None,
            is_tcp: false,
            is_answer: false,
        };
        assert_eq!(sides.place(&nameless(), None), OUT);
        sides.place(&with_mac(view("192.168.0.1", 1, "192.0.2.1", 2)), None);
        assert_eq!(sides.place(&nameless(), None), IN);
    }
}
