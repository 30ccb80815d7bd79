mod ask;
mod fragment;
mod helped;

use std::sync::Arc;

use self::ask::{Asked, is_expected};
use super::published::Published;
use super::{Kept, Out, Shared, Trace, Verdict};
use crate::conntrack::icmp::{self, Role};
use crate::conntrack::{
    CachedVerdict, CtState, Direction, ExpectedTuple, Flow, FlowKey, InsertError, Judgement, Link,
    Meeting, STATE_CHANGING_FLAGS, Tcp, TcpState, TcpStep, Time, Tracked, Tuple, has_tcp_flags,
};
use crate::observe::{Counters, DropReason};
use crate::wire::{ETHERTYPE_IPV4, Ip, L4, Meta, Packet, Side, checksum};

/// A worker that loses the race to insert a flow looks it up instead; losing it again means that
/// the flow vanished in between, and a third time does not happen twice.
const MAX_RACES: usize = 4;

/// One worker's engine.
pub struct Engine {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    /// The ruleset that was in force when the present batch began.
    rules: Arc<Published>,
    /// What is noted of the present frame, if anybody wants to know.
    pub(super) trace: Option<Trace>,
}

/// A frame as [`Engine::parse`] understood it.
#[derive(Debug, Default)]
pub struct Parsed {
    packet: Packet,
    /// Why it can't be judged, if it can't.
    refused: Option<DropReason>,
    /// The name of its flow, and whether it comes from the lower end; of what can have one.
    key: Option<(FlowKey, bool)>,
}

/// One frame on its way, and what is known of it.
struct Passing<'a> {
    side: Side,
    frame: &'a mut [u8],
    meta: &'a Meta,
    /// It is a datagram put together from fragments: it cannot be changed or held.
    is_assembled: bool,
    now: Time,
    out: &'a mut Out,
}

/// Why no flow has taken a packet.
enum NotTaken {
    /// There is none with its name.
    Nothing,
    /// The flow's time is over.
    Expired,
    /// The flow's connection was closed, and this SYN begins a new one.
    Reopen,
    WrongSide,
    BadChecksum,
}

impl Engine {
    /// An engine that counts in `counters`, which is this worker's own block.
    #[must_use]
    pub fn new(shared: Arc<Shared>, counters: Arc<Counters>) -> Engine {
        let rules = shared.rules.load();
        Engine {
            shared,
            counters,
            rules,
            trace: None,
        }
    }

    /// Judges one frame that came in at `side`, as a batch of one: [`Engine::begin_batch`],
    /// [`Engine::parse`] and [`Engine::judge`].
    pub fn process(
        &mut self,
        side: Side,
        frame: &mut [u8],
        meta: &Meta,
        now: Time,
        out: &mut Out,
    ) -> Verdict {
        let mut parsed = Parsed::default();
        self.begin_batch();
        self.parse(frame, &mut parsed);
        self.judge(&parsed, side, frame, meta, now, out)
    }

    /// Takes the ruleset in force, for all frames until the next call.
    #[inline]
    pub fn begin_batch(&mut self) {
        self.shared.rules.refresh(&mut self.rules);
    }

    /// Reads a frame's headers, and has the beginning of its flow's look-up fetched. Whoever has a
    /// batch parses all of it, then calls [`Engine::fetch`] for each frame, then judges each: memory
    /// works on many flows at once then.
    #[inline]
    pub fn parse(&self, frame: &[u8], parsed: &mut Parsed) {
        parsed.refused = crate::wire::parse_into(frame, &mut parsed.packet).err();
        parsed.key = match parsed.refused {
            None => self.key(&parsed.packet),
            Some(_) => None,
        };
        if let Some((key, _)) = &parsed.key {
            self.shared.table.fetch_bucket(key);
        }
    }

    /// Has the frame's flow fetched, some time after [`Engine::parse`].
    #[inline]
    pub fn fetch(&self, parsed: &Parsed) {
        if let Some((key, _)) = &parsed.key {
            self.shared.table.fetch_flow(key);
        }
    }

    /// Judges a parsed frame. The engine counts it as received, dropped or held; the caller counts
    /// as forwarded (or as dropped with a `tx_` reason) what it sends, including the frames in
    /// `out`, which leave after this one in their order.
    pub fn judge(
        &mut self,
        parsed: &Parsed,
        side: Side,
        frame: &mut [u8],
        meta: &Meta,
        now: Time,
        out: &mut Out,
    ) -> Verdict {
        let bytes = frame.len();
        self.counters.received(side.index(), bytes);
        self.note(|trace| *trace = Trace::default());
        let packet = &parsed.packet;
        let mut passing = Passing {
            side,
            frame,
            meta,
            is_assembled: false,
            now,
            out,
        };
        let passing = &mut passing;
        let verdict = match (parsed.refused, &packet.ip) {
            (Some(reason), _) => Verdict::Drop(reason),
            (None, Some(ip)) if ip.fragment.is_some() => self.fragment(packet, ip, passing),
            (None, Some(ip)) => self.ip(packet, ip, parsed.key.as_ref(), passing),
            (None, None) => self.untracked(packet, passing),
        };
        match verdict {
            Verdict::Forward => {}
            Verdict::Drop(reason) => self.counters.dropped(reason, bytes),
            Verdict::Held => self.counters.held(bytes),
        }
        verdict
    }

    #[inline]
    fn key(&self, packet: &Packet) -> Option<(FlowKey, bool)> {
        Some(self.shared.table.key(&Tuple::of(packet)?))
    }

    #[inline(never)]
    fn untracked(&mut self, packet: &Packet, passing: &mut Passing<'_>) -> Verdict {
        let outcome = self.ask(packet, passing, Asked::alone(CtState::Untracked));
        verdict_of(outcome.drop)
    }

    // Into its callers, one of which is the way of nearly all packets and has everything at hand; what is
    // seldom is apart from it.
    #[inline(always)]
    fn ip(
        &mut self,
        packet: &Packet,
        ip: &Ip,
        key: Option<&(FlowKey, bool)>,
        passing: &mut Passing<'_>,
    ) -> Verdict {
        if !header_is_right(passing.frame, packet, ip) {
            return Verdict::Drop(DropReason::IpChecksumBad);
        }
        if let L4::Icmp(message) = &ip.l4 {
            match icmp::role(ip.protocol, message.kind) {
                Role::Query | Role::Answer => {}
                Role::Error => return self.icmp_error(packet, ip, passing),
                Role::Untracked => return self.untracked(packet, passing),
                Role::Unknown => {
                    return self.invalid(packet, passing, DropReason::IcmpUnrelated);
                }
            }
        }
        let Some((key, from_low)) = key else {
            return Verdict::Drop(DropReason::IcmpUnrelated);
        };
        self.note(|trace| trace.tuple = Tuple::of(packet));
        if has_tcp_flags(ip, STATE_CHANGING_FLAGS) && !passing.checksum_holds(ip) {
            return Verdict::Drop(DropReason::ChecksumBad);
        }
        match self.of_flow(key, *from_low, packet, ip, passing) {
            Ok(verdict) => verdict,
            Err(why) => self.not_taken(why, key, *from_low, packet, ip, passing),
        }
    }

    /// A packet that no flow has taken.
    // Apart from the way of those that one takes, which is to be short.
    #[inline(never)]
    fn not_taken(
        &mut self,
        mut why: NotTaken,
        key: &FlowKey,
        from_low: bool,
        packet: &Packet,
        ip: &Ip,
        passing: &mut Passing<'_>,
    ) -> Verdict {
        for _ in 0..MAX_RACES {
            let may_begin = match why {
                NotTaken::WrongSide => return Verdict::Drop(DropReason::WrongSide),
                NotTaken::BadChecksum => return Verdict::Drop(DropReason::ChecksumBad),
                NotTaken::Expired => {
                    // It may be needed for longer than it was promised: look again.
                    self.shared.expire(key, passing.now, &self.counters);
                    false
                }
                NotTaken::Reopen => {
                    if let Some(removed) = self.shared.table.remove_if(key, is_closed) {
                        let why = "its ports were used for another connection";
                        self.shared
                            .flow_gone(&removed, why, passing.now, &self.counters);
                    }
                    true
                }
                NotTaken::Nothing => true,
            };
            if may_begin
                && let Some(tuple) = Tuple::of(packet)
                && let Some(verdict) = self.begin(*key, from_low, &tuple, packet, ip, passing)
            {
                return self.missed_range(verdict, &tuple, packet, passing);
            }
            match self.of_flow(key, from_low, packet, ip, passing) {
                Ok(verdict) => return verdict,
                Err(again) => why = again,
            }
        }
        Verdict::Drop(DropReason::TableFull)
    }

    /// Finds a packet's flow, moves it, and judges the packet once the flow is let go.
    #[inline(always)]
    fn of_flow(
        &mut self,
        key: &FlowKey,
        from_low: bool,
        packet: &Packet,
        ip: &Ip,
        passing: &mut Passing<'_>,
    ) -> Result<Verdict, NotTaken> {
        let generation = self.rules.generation;
        let settings = &self.shared.settings.conntrack;
        let now = passing.now;
        let Some(mut flow) = self.shared.table.find(key) else {
            return Err(NotTaken::Nothing);
        };
        if flow.expires <= now {
            return Err(NotTaken::Expired);
        }
        let direction = flow.direction(from_low);
        if flow.side_of(direction) != passing.side {
            return Err(NotTaken::WrongSide);
        }
        if matches!(flow.link, Link::Control(..)) && !passing.checksum_holds(ip) {
            return Err(NotTaken::BadChecksum);
        }
        let tracked = flow.update(direction, ip, settings, now);
        if let Some(TcpStep {
            judgement: Judgement::Reopen,
            ..
        }) = tracked.tcp
        {
            return Err(NotTaken::Reopen);
        }
        let (link, cached) = (flow.link, flow.cached(direction, tracked.state, generation));
        drop(flow);
        Ok(self.known(key, &tracked, link, cached, packet, ip, passing))
    }

    /// A packet of a tracked flow.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // all that the look-up told, and the packet
    fn known(
        &mut self,
        key: &FlowKey,
        tracked: &Tracked,
        link: Link,
        cached: Option<Kept>,
        packet: &Packet,
        ip: &Ip,
        passing: &mut Passing<'_>,
    ) -> Verdict {
        self.note(|trace| {
            trace.state = Some(tracked.state);
            trace.direction = Some(tracked.direction);
            trace.link = link;
            trace.tcp = tracked.tcp.map(|step| step.after);
        });
        if let Some(reason) = tracked.invalid {
            // Nothing reaches a peer of a control connection that the helper has not read.
            return match link {
                Link::Control(..) => Verdict::Drop(reason),
                Link::None | Link::Announced(_) | Link::Data(_) | Link::Ended(_) => {
                    self.invalid(packet, passing, reason)
                }
            };
        }
        let drop = match cached {
            Some(Kept { drop, hits }) => {
                self.rules.ruleset.count(hits, passing.frame.len());
                drop
            }
            None => self.ask_and_keep(key, tracked, link, packet, passing),
        };
        if let Some(reason) = drop {
            return Verdict::Drop(reason);
        }
        match (link, tracked.tcp) {
            (Link::Control(session, profile), Some(step)) => self.control(
                (session, profile),
                key,
                tracked.direction,
                step,
                packet,
                passing,
            ),
            (Link::Announced(session), Some(step)) => {
                self.announced(session, key, tracked.direction, step, passing)
            }
            (Link::Data(session), Some(step)) => self.data(session, key, step, passing),
            (Link::Ended(_), Some(step)) => helped::ended(step, ip),
            _ => Verdict::Forward,
        }
    }

    /// A packet that begins a flow, or belongs to none. `None`: another worker was faster.
    fn begin(
        &mut self,
        key: FlowKey,
        from_low: bool,
        tuple: &Tuple,
        packet: &Packet,
        ip: &Ip,
        passing: &mut Passing<'_>,
    ) -> Option<Verdict> {
        let Passing { side, now, .. } = *passing;
        let settings = &self.shared.settings.conntrack;
        let may_pick_up = self.shared.may_pick_up(now);
        let mut flow = match Flow::begin(ip, side, from_low, settings, now, may_pick_up) {
            Ok(flow) => flow,
            Err(reason) => return Some(self.invalid(packet, passing, reason)),
        };
        let source_port = tuple.src_port;
        let expected = ExpectedTuple::of(tuple, side);
        let meeting = expected.as_ref().map_or(Meeting::Unexpected, |expected| {
            let all = &self.shared.expectations;
            all.meeting(expected, source_port, now)
        });
        let expected = expected.filter(|_| meeting == Meeting::Expected);
        let state = if expected.is_some() {
            CtState::Related
        } else {
            CtState::New
        };
        let asked = Asked {
            is_expected: expected.is_some(),
            ..Asked::alone(state)
        };
        let outcome = self.ask(packet, passing, asked);
        if let Some(reason) = outcome.drop {
            let reason = match meeting {
                Meeting::OtherSourcePort => DropReason::ExpectationSourcePort,
                Meeting::Expected | Meeting::Unexpected => reason,
            };
            return Some(Verdict::Drop(reason));
        }
        if outcome.cacheable {
            let generation = self.rules.generation;
            flow.cache(
                Direction::Original,
                CachedVerdict {
                    generation,
                    state,
                    outcome: outcome.into(),
                },
            );
        }
        if let Some(expected) = &expected {
            // Claimed before it is inserted: of two SYNs at once, one gets it.
            let all = &self.shared.expectations;
            let claim = all.claim(expected, source_port, key, now)?;
            flow.link = Link::Announced(claim.session);
            if let Some(older) = claim.replaced {
                self.forget_unanswered(&older, now);
            }
        } else if let Some(helper) = outcome.helper
            && let L4::Tcp(segment) = &ip.l4
        {
            let id = self.shared.sessions.reserve();
            let profile = self.rules.profile(helper);
            flow.link = Link::Control(id, profile);
            if flow.tcp().is_some_and(Tcp::is_picked_up) {
                if !passing.checksum_holds(ip) {
                    return Some(Verdict::Drop(DropReason::ChecksumBad));
                }
                self.begin_midstream((id, profile), packet, ip, segment, passing);
            } else if segment.payload_bytes > 0 {
                return Some(Verdict::Drop(DropReason::SynPayload));
            }
        }
        let (link, tcp) = (flow.link, flow.tcp().map(Tcp::state));
        let mut evicted = Vec::new();
        let inserted = self.shared.table.insert(key, flow, now, &mut evicted);
        for removed in &evicted {
            let why = "the flow table was full";
            self.shared.flow_gone(removed, why, now, &self.counters);
        }
        match inserted {
            Ok(()) => {
                self.note(|trace| {
                    trace.begun = true;
                    trace.direction = Some(Direction::Original);
                    trace.link = link;
                    trace.tcp = tcp;
                });
                Some(Verdict::Forward)
            }
            Err(error) => {
                if let Link::Control(id, _) = link
                    && let Some(session) = self.shared.sessions.remove(id)
                {
                    let why = "there was no room for it";
                    self.shared.end_session(&session, why, now, &self.counters);
                }
                if error != InsertError::Exists
                    && let Some(expected) = expected
                {
                    self.shared.expectations.free(&expected, key);
                }
                match error {
                    InsertError::Full => Some(Verdict::Drop(DropReason::TableFull)),
                    InsertError::SourceLimit => Some(Verdict::Drop(DropReason::SourceHalfOpen)),
                    // The same SYN, which another worker saw: the claim is that flow's.
                    InsertError::Exists => None,
                }
            }
        }
    }

    /// An ICMP error: it is about the flow whose packet it quotes, or about nothing.
    #[inline(never)]
    fn icmp_error(&mut self, packet: &Packet, ip: &Ip, passing: &mut Passing<'_>) -> Verdict {
        const ICMP_HEADER_BYTES: usize = 8;
        if !passing.checksum_holds(ip) {
            return Verdict::Drop(DropReason::ChecksumBad);
        }
        let quote = passing
            .frame
            .get(ip.l4_offset + ICMP_HEADER_BYTES..ip.datagram.end);
        let is_about = quote
            .and_then(crate::wire::parse_quoted)
            .and_then(|quoted| {
                let tuple = Tuple::of_ip(&quoted, packet.ether.vlan_ids())?;
                let (key, from_low) = self.shared.table.key(&tuple);
                // Sent to whoever sent what it quotes, from where that was going.
                let is_to_sender = quoted.src == ip.dst;
                self.shared.table.with(&key, |flow| {
                    let direction = flow.direction(from_low);
                    let is_about = is_to_sender
                        && flow.expires > passing.now
                        && flow.side_of(direction) == passing.side.other()
                        && flow.can_have_sent(direction, &quoted.l4);
                    // It goes back to where that came from.
                    is_about.then_some((flow.link, direction.other()))
                })
            });
        let Some(Some((link, direction))) = is_about else {
            return self.invalid(packet, passing, DropReason::IcmpUnrelated);
        };
        let asked = Asked {
            state: CtState::Related,
            direction,
            is_expected: is_expected(link),
        };
        verdict_of(self.ask(packet, passing, asked).drop)
    }

    /// A packet that is invalid to connection tracking: rules may accept it, else the reason is
    /// what connection tracking found.
    #[inline(never)]
    fn invalid(&mut self, packet: &Packet, passing: &mut Passing<'_>, why: DropReason) -> Verdict {
        let outcome = self.ask(packet, passing, Asked::alone(CtState::Invalid));
        verdict_of(outcome.drop.map(|_| why))
    }
}

impl Passing<'_> {
    fn checksum_holds(&self, ip: &Ip) -> bool {
        checksum::holds(self.frame, self.meta, ip)
    }
}

/// Whether the IP header's checksum is right; IPv6 has none.
#[inline(always)] // on the way of every packet
fn header_is_right(frame: &[u8], packet: &Packet, ip: &Ip) -> bool {
    let header = ip.datagram.start..ip.l4_offset;
    packet.ether.ethertype != ETHERTYPE_IPV4
        || checksum::ipv4_header_is_right(frame.get(header).unwrap_or_default())
}

fn verdict_of(drop: Option<DropReason>) -> Verdict {
    drop.map_or(Verdict::Forward, Verdict::Drop)
}

fn is_closed(flow: &Flow<Kept>) -> bool {
    flow.tcp().is_some_and(|tcp| is_over(tcp.state()))
}

fn is_over(state: TcpState) -> bool {
    matches!(state, TcpState::TimeWait | TcpState::Close)
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}
