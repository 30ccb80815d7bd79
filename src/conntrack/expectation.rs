//! Connections that a helper announced: one port, one pair of hosts, once, for a short time.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

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

/// What a data connection's first SYN must look like. The source port is free.
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
}

#[derive(Clone, Copy, Debug)]
struct Expectation {
    session: u64,
    client: IpAddr,
    expires: Time,
    claim: Option<FlowKey>,
    attempts: u8,
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
    by_tuple: DashMap<ExpectedTuple, Expectation>,
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

    /// Expects a connection. An expectation of the same session with the same tuple begins anew.
    /// When there are too many, the new one is refused, so that nobody can push out another's. A
    /// server that announces a port again, to the same client's other session, knows what it does.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn insert(
        &self,
        tuple: ExpectedTuple,
        session: u64,
        client: IpAddr,
        from_server: bool,
        now: Time,
    ) -> Result<(), ExpectError> {
        let fresh = Expectation {
            session,
            client,
            expires: now + EXPECTATION_LIFETIME,
            claim: None,
            attempts: 0,
        };
        self.take_place(client)?;
        let outcome = match self.by_tuple.entry(tuple) {
            Entry::Vacant(vacant) => {
                vacant.insert(fresh);
                Ok(())
            }
            Entry::Occupied(mut there)
                if there.get().session == session
                    || there.get().expires <= now
                    || (from_server && there.get().claim.is_none()) =>
            {
                let old = std::mem::replace(there.get_mut(), fresh);
                drop(there);
                self.give_place(old.client);
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
        let removed = self.by_tuple.remove_if(tuple, |_, e| e.session == session);
        if let Some((_, expectation)) = &removed {
            self.give_place(expectation.client);
        }
        removed.is_some()
    }

    /// A SYN with this tuple begins the flow `flow`: claims the expectation it meets, atomically.
    pub fn claim(&self, tuple: &ExpectedTuple, flow: FlowKey, now: Time) -> Option<Claim> {
        self.claim_port(tuple, flow, now)
            .or_else(|| self.ranges.claim(tuple, flow))
    }

    fn claim_port(&self, tuple: &ExpectedTuple, flow: FlowKey, now: Time) -> Option<Claim> {
        let mut expectation = self.by_tuple.get_mut(tuple)?;
        if expectation.expires <= now || expectation.attempts >= MAX_ATTEMPTS {
            return None;
        }
        expectation.attempts += 1;
        let replaced = expectation.claim.replace(flow).filter(|old| *old != flow);
        Some(Claim {
            session: expectation.session,
            replaced,
        })
    }

    /// Whether this SYN would meet an expectation.
    #[must_use]
    pub fn is_expected(&self, tuple: &ExpectedTuple, now: Time) -> bool {
        let is_claimable = |e: &Expectation| e.expires > now && e.attempts < MAX_ATTEMPTS;
        let is_port_expected =
            !self.is_empty() && self.by_tuple.get(tuple).is_some_and(|e| is_claimable(&e));
        is_port_expected || self.ranges.is_open(tuple)
    }

    /// The flow that claimed it was answered by a SYN-ACK: the expectation is used up.
    pub fn confirm(&self, tuple: &ExpectedTuple, flow: FlowKey) -> bool {
        let removed = self.by_tuple.remove_if(tuple, |_, e| e.claim == Some(flow));
        if let Some((_, expectation)) = &removed {
            self.give_place(expectation.client);
            self.used.fetch_add(1, Relaxed);
        }
        removed.is_some() || self.ranges.confirm(tuple, flow)
    }

    /// The flow that claimed it was refused by a RST: the next SYN may claim it.
    pub fn free(&self, tuple: &ExpectedTuple, flow: FlowKey) {
        if let Some(mut expectation) = self.by_tuple.get_mut(tuple)
            && expectation.claim == Some(flow)
        {
            expectation.claim = None;
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
                    over.push((*tuple, expectation.session));
                    clients.push(expectation.client);
                }
                stays
            });
        }
        for client in clients {
            self.give_place(client);
        }
        over
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

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const START: Time = Time::from_nanos(1);

    #[test]
    fn one_connection_and_no_more() {
        let all = Expectations::default();
        all.insert(tuple(5000), 1, CLIENT, false, START).unwrap();
        let claim = all.claim(&tuple(5000), flow(1), START).unwrap();
        assert_eq!(
            claim,
            Claim {
                session: 1,
                replaced: None
            }
        );
        assert!(all.confirm(&tuple(5000), flow(1)));
        assert_eq!(all.claim(&tuple(5000), flow(2), START), None);
        assert_eq!((all.len(), all.made(), all.used()), (0, 1, 1));
    }

    #[test]
    fn a_newer_syn_replaces_an_unanswered_claim() {
        let all = Expectations::default();
        all.insert(tuple(5000), 1, CLIENT, false, START).unwrap();
        all.claim(&tuple(5000), flow(1), START).unwrap();
        let second = all.claim(&tuple(5000), flow(2), START).unwrap();
        assert_eq!(second.replaced, Some(flow(1)));
        assert!(!all.confirm(&tuple(5000), flow(1)));
        assert!(all.confirm(&tuple(5000), flow(2)));
    }

    #[test]
    fn refused_attempts_are_bounded() {
        let all = Expectations::default();
        all.insert(tuple(5000), 1, CLIENT, false, START).unwrap();
        for port in 0..u16::from(MAX_ATTEMPTS) {
            assert!(all.claim(&tuple(5000), flow(port), START).is_some());
            all.free(&tuple(5000), flow(port));
        }
        assert_eq!(all.claim(&tuple(5000), flow(99), START), None);
        assert!(!all.is_expected(&tuple(5000), START));
    }

    #[test]
    fn it_ends_after_a_minute_and_at_the_sessions_word() {
        let all = Expectations::default();
        all.insert(tuple(5000), 1, CLIENT, false, START).unwrap();
        all.insert(tuple(5001), 2, CLIENT, false, START).unwrap();
        assert!(!all.remove(&tuple(5000), 2), "another session's");
        assert!(all.remove(&tuple(5000), 1));
        let later = START + EXPECTATION_LIFETIME;
        assert!(!all.is_expected(&tuple(5001), later));
        assert_eq!(all.claim(&tuple(5001), flow(1), later), None);
        assert_eq!(all.sweep(later), vec![(tuple(5001), 2)]);
        assert!(all.is_empty());
    }

    #[test]
    fn a_client_has_a_limit_and_cannot_push_out_others() {
        let all = Expectations::default();
        for session in 0..MAX_PER_CLIENT {
            let port = 5000 + session as u16;
            all.insert(tuple(port), u64::from(session), CLIENT, false, START)
                .unwrap();
        }
        assert_eq!(
            all.insert(tuple(9), 900, CLIENT, false, START),
            Err(ExpectError::ClientFull)
        );
        let other: IpAddr = [192, 0, 2, 77].into();
        assert_eq!(
            all.insert(tuple(5000), 901, other, false, START),
            Err(ExpectError::Taken)
        );
        all.insert(tuple(9), 902, other, false, START).unwrap();
        assert_eq!(all.len(), MAX_PER_CLIENT as usize + 1);
        // The same session may announce the same port again: that takes no second place.
        all.insert(tuple(9), 902, other, false, START).unwrap();
        assert_eq!(all.len(), MAX_PER_CLIENT as usize + 1);
    }
}
