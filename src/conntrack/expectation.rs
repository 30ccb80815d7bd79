//! Connections that a helper announced: one port, one pair of hosts, once, for a short time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ipnet::IpNet;

use super::{FlowKey, Ranges, Time, Tuple};
use crate::wire::{MAX_VLAN_TAGS, Side, proto};

/// How long an announced connection may take to begin. Clients connect at once; servers that open
/// the connection themselves do so when the transfer command comes.
pub const EXPECTATION_LIFETIME: Duration = Duration::from_secs(60);

/// Expectations in all: 65,536 sessions that each wait for a data connection.
pub const MAX_EXPECTATIONS: usize = 65_536;

/// Expectations that name one client: what a busy client with many sessions needs.
pub const MAX_PER_CLIENT: u32 = 64;

/// A server that listens late answers the first SYNs with RST; more than this is a scan.
pub const MAX_ATTEMPTS: u8 = 8;

/// What a data connection's first SYN must look like. The source port is free, unless
/// [`Announcement::source_port`] says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExpectedTuple {
    /// Who may connect.
    pub from: IpAddr,
    /// Where to.
    pub to: IpAddr,
    /// The port there.
    pub port: u16,
    /// At which port of the firewall the SYN must come in.
    pub side: Side,
    /// In which VLAN.
    pub vlan: [u16; MAX_VLAN_TAGS],
}

impl ExpectedTuple {
    /// The expectation that a packet's tuple could meet.
    #[must_use]
    pub fn of(tuple: &Tuple, side: Side) -> Option<ExpectedTuple> {
        (tuple.protocol == proto::TCP).then_some(ExpectedTuple {
            from: tuple.src,
            to: tuple.dst,
            port: tuple.dst_port,
            side,
            vlan: tuple.vlan,
        })
    }

    fn without_source(mut self) -> ExpectedTuple {
        self.from = match self.from {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        self
    }
}

/// Who announced a connection, and what else its SYN must be like.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The session.
    pub session: u64,
    /// Its client, whose places in the table are counted.
    pub client: IpAddr,
    /// The server said it. A server that announces a port again, to another session, knows what it
    /// does.
    pub from_server: bool,
    /// The only port that the SYN may come from.
    pub source_port: Option<u16>,
    /// Hosts in these prefixes may connect instead of [`ExpectedTuple::from`]; it is one connection
    /// still.
    pub third_parties: Option<Arc<[IpNet]>>,
    /// How long it may take.
    pub lifetime: Duration,
}

/// How a SYN stands to the expectations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// None is about it.
    Unexpected,
    /// It is expected, but from another source port.
    OtherSourcePort,
    /// It is expected.
    Expected,
}

#[derive(Clone, Debug)]
struct Expectation {
    announced: Announcement,
    from: IpAddr,
    expires: Time,
    claim: Option<FlowKey>,
    attempts: u8,
}

impl Expectation {
    fn meets(&self, tuple: &ExpectedTuple, source_port: u16, now: Time) -> Meeting {
        let third = self.announced.third_parties.as_deref().unwrap_or_default();
        let is_about = tuple.from == self.from || third.iter().any(|p| p.contains(&tuple.from));
        if !is_about || self.expires <= now || self.attempts >= MAX_ATTEMPTS {
            Meeting::Unexpected
        } else if self
            .announced
            .source_port
            .is_none_or(|port| port == source_port)
        {
            Meeting::Expected
        } else {
            Meeting::OtherSourcePort
        }
    }
}

/// A claim of an expectation by a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The session that announced the connection.
    pub session: u64,
    /// An older claim that this one replaced: its flow never got an answer and must go.
    pub replaced: Option<FlowKey>,
}

/// Why a connection can't be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectError {
    /// Too many in all.
    Full,
    /// Too many for this client.
    ClientFull,
    /// Another session waits for the very same connection.
    Taken,
}

/// All expectations.
#[derive(Debug, Default)]
pub struct Expectations {
    /// Those that more than one host may meet stand under no source address.
    by_tuple: DashMap<ExpectedTuple, Expectation>,
    /// There was such a one.
    has_open_source: AtomicBool,
    by_client: DashMap<IpAddr, u32>,
    len: AtomicUsize,
    made: AtomicU64,
    used: AtomicU64,
    ranges: Ranges,
}

impl Expectations {
    /// Ranges of ports, where single ports can't be known. A new flow is looked for in both.
    #[must_use]
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Expectations now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is none, so that a new flow need not be looked up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were ever made.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    /// How many became a connection.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Expects a connection. An expectation of the same session with the same tuple begins anew;
    /// a SYN that claimed it still waits for its answer.
    /// When there are too many, the new one is refused, so that nobody can push out another's.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn insert(
        &self,
        tuple: ExpectedTuple,
        announced: Announcement,
        now: Time,
    ) -> Result<(), ExpectError> {
        let key = if announced.third_parties.is_some() {
            self.has_open_source.store(true, Relaxed);
            tuple.without_source()
        } else {
            tuple
        };
        let (session, client) = (announced.session, announced.client);
        let from_server = announced.from_server;
        let mut fresh = Expectation {
            expires: now + announced.lifetime,
            announced,
            from: tuple.from,
            claim: None,
            attempts: 0,
        };
        self.take_place(client)?;
        let outcome = match self.by_tuple.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(fresh);
                Ok(())
            }
            Entry::Occupied(mut there)
                if there.get().announced.session == session
                    || there.get().expires <= now
                    || (from_server && there.get().claim.is_none()) =>
            {
                let old = there.get_mut();
                if old.announced.session == session && old.expires > now {
                    fresh.claim = old.claim;
                }
                let old = std::mem::replace(old, fresh);
                drop(there);
                self.give_place(old.announced.client);
                Ok(())
            }
            Entry::Occupied(_) => Err(ExpectError::Taken),
        };
        match outcome {
            Ok(()) => {
                self.made.fetch_add(1, Relaxed);
            }
            Err(_) => self.give_place(client),
        }
        outcome
    }

    /// Ends an expectation of this session. Returns whether there was one.
    pub fn remove(&self, tuple: &ExpectedTuple, session: u64) -> bool {
        self.take_if(tuple, |e| {
            e.announced.session == session && e.from == tuple.from
        })
    }

    /// A SYN with this tuple begins the flow `flow`: claims the expectation it meets, atomically.
    pub fn claim(
        &self,
        tuple: &ExpectedTuple,
        source_port: u16,
        flow: FlowKey,
        now: Time,
    ) -> Option<Claim> {
        let claimed = self.keys(tuple).find_map(|key| {
            let mut expectation = self.by_tuple.get_mut(&key)?;
            if expectation.meets(tuple, source_port, now) != Meeting::Expected {
                return None;
            }
            expectation.attempts += 1;
            let replaced = expectation.claim.replace(flow).filter(|old| *old != flow);
            Some(Claim {
                session: expectation.announced.session,
                replaced,
            })
        });
        claimed.or_else(|| self.ranges.claim(tuple, flow))
    }

    /// Whether this SYN would meet an expectation.
    #[must_use]
    pub fn meeting(&self, tuple: &ExpectedTuple, source_port: u16, now: Time) -> Meeting {
        let meets = |key: ExpectedTuple| {
            let expectation = self.by_tuple.get(&key)?;
            Some(expectation.meets(tuple, source_port, now))
        };
        let met = if self.is_empty() {
            None
        } else {
            self.keys(tuple)
                .filter_map(meets)
                .find(|meeting| *meeting != Meeting::Unexpected)
        };
        match met {
            None if self.ranges.is_open(tuple) => Meeting::Expected,
            met => met.unwrap_or(Meeting::Unexpected),
        }
    }

    /// The flow that claimed it was answered by a SYN-ACK: the expectation is used up.
    pub fn confirm(&self, tuple: &ExpectedTuple, flow: FlowKey) -> bool {
        let confirmed = self.take_if(tuple, |e| e.claim == Some(flow));
        self.used.fetch_add(u64::from(confirmed), Relaxed);
        confirmed || self.ranges.confirm(tuple, flow)
    }

    /// The flow that claimed it was refused by a RST: the next SYN may claim it.
    pub fn free(&self, tuple: &ExpectedTuple, flow: FlowKey) {
        for key in self.keys(tuple) {
            if let Some(mut expectation) = self.by_tuple.get_mut(&key)
                && expectation.claim == Some(flow)
            {
                expectation.claim = None;
            }
        }
        self.ranges.release(tuple, flow);
    }

    /// Removes what is over; returns it with its session.
    pub fn sweep(&self, now: Time) -> Vec<(ExpectedTuple, u64)> {
        let mut over = Vec::new();
        let mut clients = Vec::new();
        if !self.is_empty() {
            self.by_tuple.retain(|tuple, expectation| {
                let stays = expectation.expires > now;
                if !stays {
                    let mut tuple = *tuple;
                    tuple.from = expectation.from;
                    over.push((tuple, expectation.announced.session));
                    clients.push(expectation.announced.client);
                }
                stays
            });
        }
        for client in clients {
            self.give_place(client);
        }
        over
    }

    /// Where an expectation about this tuple may stand.
    fn keys(&self, tuple: &ExpectedTuple) -> impl Iterator<Item = ExpectedTuple> + use<> {
        let open = self.has_open_source.load(Relaxed);
        let keys = [Some(*tuple), open.then(|| tuple.without_source())];
        keys.into_iter().flatten()
    }

    fn take_if(&self, tuple: &ExpectedTuple, is_it: impl Fn(&Expectation) -> bool) -> bool {
        self.keys(tuple).any(|key| {
            let removed = self.by_tuple.remove_if(&key, |_, e| is_it(e));
            if let Some((_, expectation)) = &removed {
                self.give_place(expectation.announced.client);
            }
            removed.is_some()
        })
    }

    fn take_place(&self, client: IpAddr) -> Result<(), ExpectError> {
        if self.len.fetch_add(1, Relaxed) >= MAX_EXPECTATIONS {
            self.len.fetch_sub(1, Relaxed);
            return Err(ExpectError::Full);
        }
        let mut count = self.by_client.entry(client).or_insert(0);
        if *count >= MAX_PER_CLIENT {
            drop(count);
            self.len.fetch_sub(1, Relaxed);
            return Err(ExpectError::ClientFull);
        }
        *count += 1;
        Ok(())
    }

    fn give_place(&self, client: IpAddr) {
        self.len.fetch_sub(1, Relaxed);
        if let Some(mut count) = self.by_client.get_mut(&client) {
            *count = count.saturating_sub(1);
        }
        self.by_client.remove_if(&client, |_, count| *count == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(port: u16) -> ExpectedTuple {
        ExpectedTuple {
            from: [192, 0, 2, 1].into(),
            to: [192, 0, 2, 2].into(),
            port,
            side: Side::Outside,
            vlan: [0; 2],
        }
    }

    fn flow(port: u16) -> FlowKey {
        let t = Tuple {
            src: [192, 0, 2, 1].into(),
            dst: [192, 0, 2, 2].into(),
            src_port: port,
            dst_port: 5000,
            protocol: proto::TCP,
            vlan: [0; 2],
        };
        FlowKey::new(&t, &ahash::RandomState::with_seeds(1, 2, 3, 4)).0
    }

    fn of(session: u64, client: IpAddr) -> Announcement {
        Announcement {
            session,
            client,
            from_server: false,
            source_port: None,
            third_parties: None,
            lifetime: EXPECTATION_LIFETIME,
        }
    }

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const START: Time = Time::from_nanos(1);

    #[test]
    fn one_connection_and_no_more() {
        let all = Expectations::default();
        all.insert(tuple(5000), of(1, CLIENT), START).unwrap();
        let claim = all.claim(&tuple(5000), 9, flow(1), START).unwrap();
        assert_eq!(
            claim,
            Claim {
                session: 1,
                replaced: None
            }
        );
        assert!(all.confirm(&tuple(5000), flow(1)));
        assert_eq!(all.claim(&tuple(5000), 9, flow(2), START), None);
        assert_eq!((all.len(), all.made(), all.used()), (0, 1, 1));
    }

    #[test]
    fn a_newer_syn_replaces_an_unanswered_claim() {
        let all = Expectations::default();
        all.insert(tuple(5000), of(1, CLIENT), START).unwrap();
        all.claim(&tuple(5000), 9, flow(1), START).unwrap();
        let second = all.claim(&tuple(5000), 9, flow(2), START).unwrap();
        assert_eq!(second.replaced, Some(flow(1)));
        assert!(!all.confirm(&tuple(5000), flow(1)));
        assert!(all.confirm(&tuple(5000), flow(2)));
    }

    #[test]
    fn refused_attempts_are_bounded() {
        let all = Expectations::default();
        all.insert(tuple(5000), of(1, CLIENT), START).unwrap();
        for port in 0..u16::from(MAX_ATTEMPTS) {
            assert!(all.claim(&tuple(5000), 9, flow(port), START).is_some());
            all.free(&tuple(5000), flow(port));
        }
        assert_eq!(all.claim(&tuple(5000), 9, flow(99), START), None);
        assert_eq!(all.meeting(&tuple(5000), 9, START), Meeting::Unexpected);
    }

    #[test]
    fn it_ends_after_a_minute_and_at_the_sessions_word() {
        let all = Expectations::default();
        all.insert(tuple(5000), of(1, CLIENT), START).unwrap();
        all.insert(tuple(5001), of(2, CLIENT), START).unwrap();
        assert!(!all.remove(&tuple(5000), 2), "another session's");
        assert!(all.remove(&tuple(5000), 1));
        let later = START + EXPECTATION_LIFETIME;
        assert_eq!(all.meeting(&tuple(5001), 9, later), Meeting::Unexpected);
        assert_eq!(all.claim(&tuple(5001), 9, flow(1), later), None);
        assert_eq!(all.sweep(later), vec![(tuple(5001), 2)]);
        assert!(all.is_empty());
    }

    #[test]
    fn a_client_has_a_limit_and_cannot_push_out_others() {
        let all = Expectations::default();
        for session in 0..MAX_PER_CLIENT {
            let port = 5000 + session as u16;
            all.insert(tuple(port), of(u64::from(session), CLIENT), START)
                .unwrap();
        }
        assert_eq!(
            all.insert(tuple(9), of(900, CLIENT), START),
            Err(ExpectError::ClientFull)
        );
        let other: IpAddr = [192, 0, 2, 77].into();
        assert_eq!(
            all.insert(tuple(5000), of(901, other), START),
            Err(ExpectError::Taken)
        );
        all.insert(tuple(9), of(902, other), START).unwrap();
        assert_eq!(all.len(), MAX_PER_CLIENT as usize + 1);
        // The same session may announce the same port again: that takes no second place.
        all.insert(tuple(9), of(902, other), START).unwrap();
        assert_eq!(all.len(), MAX_PER_CLIENT as usize + 1);
    }

    #[test]
    fn when_all_places_are_taken_the_new_one_is_refused() {
        let all = Expectations::default();
        let client = |n: usize| IpAddr::from((n as u32).to_be_bytes());
        for n in 0..MAX_EXPECTATIONS {
            let to = ExpectedTuple {
                from: client(n),
                ..tuple(5000)
            };
            all.insert(to, of(n as u64, client(n)), START).unwrap();
        }
        let full = all.insert(tuple(9), of(1 << 20, CLIENT), START);
        assert_eq!(full, Err(ExpectError::Full));
        assert_eq!(all.len(), MAX_EXPECTATIONS);
        let first = ExpectedTuple {
            from: client(0),
            ..tuple(5000)
        };
        assert_eq!(all.meeting(&first, 9, START), Meeting::Expected);
        assert!(all.remove(&first, 0));
        all.insert(tuple(9), of(1 << 20, CLIENT), START).unwrap();
    }

    #[test]
    fn a_source_port_may_be_demanded() {
        let all = Expectations::default();
        let mut announced = of(1, CLIENT);
        announced.source_port = Some(20);
        all.insert(tuple(5000), announced, START).unwrap();
        let meeting = |port| all.meeting(&tuple(5000), port, START);
        assert_eq!(meeting(21), Meeting::OtherSourcePort);
        assert_eq!(meeting(20), Meeting::Expected);
        assert_eq!(all.claim(&tuple(5000), 21, flow(21), START), None);
        assert!(all.claim(&tuple(5000), 20, flow(20), START).is_some());
        assert_eq!(all.meeting(&tuple(5001), 21, START), Meeting::Unexpected);
    }

    #[test]
    fn third_parties_share_the_one_connection() {
        let all = Expectations::default();
        let mut announced = of(1, CLIENT);
        announced.third_parties = Some(["198.51.100.0/24".parse().unwrap()].into());
        all.insert(tuple(5000), announced.clone(), START).unwrap();
        let from = |host: [u8; 4]| ExpectedTuple {
            from: host.into(),
            ..tuple(5000)
        };
        let meeting = |host| all.meeting(&from(host), 9, START);
        assert_eq!(meeting([192, 0, 2, 1]), Meeting::Expected);
        assert_eq!(meeting([198, 51, 100, 7]), Meeting::Expected);
        assert_eq!(meeting([203, 0, 113, 7]), Meeting::Unexpected);
        let third = from([198, 51, 100, 7]);
        assert_eq!(all.claim(&third, 9, flow(7), START).unwrap().session, 1);
        all.free(&third, flow(7));
        assert_eq!(all.claim(&third, 9, flow(8), START).unwrap().replaced, None);
        assert!(all.confirm(&third, flow(8)));
        assert_eq!(meeting([192, 0, 2, 1]), Meeting::Unexpected, "used up");
        assert!(all.is_empty());

        all.insert(tuple(5000), announced.clone(), START).unwrap();
        assert!(!all.remove(&tuple(5000), 2) && all.remove(&tuple(5000), 1));
        all.insert(tuple(5000), announced, START).unwrap();
        let later = START + EXPECTATION_LIFETIME;
        assert_eq!(all.sweep(later), vec![(tuple(5000), 1)]);
        assert!(all.is_empty() && all.by_client.is_empty());
    }

    #[test]
    fn how_long_it_waits_is_said_with_it() {
        let all = Expectations::default();
        let mut announced = of(1, CLIENT);
        announced.lifetime = Duration::from_secs(5);
        all.insert(tuple(5000), announced, START).unwrap();
        let meeting = |seconds| all.meeting(&tuple(5000), 9, START + Duration::from_secs(seconds));
        assert_eq!(meeting(4), Meeting::Expected);
        assert_eq!(meeting(5), Meeting::Unexpected);
    }

    #[test]
    fn said_again_it_keeps_the_syn_that_waits_for_its_answer() {
        let all = Expectations::default();
        all.insert(tuple(5000), of(1, CLIENT), START).unwrap();
        all.claim(&tuple(5000), 9, flow(1), START).unwrap();
        all.insert(tuple(5000), of(1, CLIENT), START).unwrap();
        assert!(all.confirm(&tuple(5000), flow(1)));
        assert!(all.is_empty());
    }
}
