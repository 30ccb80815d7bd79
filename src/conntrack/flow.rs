use std::net::SocketAddr;
use std::time::Duration;

use super::{CtState, Direction, ExpectedTuple, FlowKey, Judgement, Settings, Tcp, TcpState, Time};
use crate::observe::DropReason;
use crate::wire::{Ip, L4, Side, TcpFlags, TcpSegment, proto};

/// What a flow has to do with a helper's session. The number names the session; whose it is, the
/// engine knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Nothing.
    #[default]
    None,
    /// It is the session's control connection, and the helper's settings have this number.
    Control(u64, u8),
    /// It is a data connection that the session announced, and that was not answered yet.
    Announced(u64),
    /// It is a data connection of the session.
    Data(u64),
    /// It was one: its ends are through, and what still comes of it is the session's as before.
    Ended(u64),
}

/// What rules said of a flow's packets, kept so that they need not be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedVerdict<T> {
    /// The ruleset that said so.
    pub generation: u32,
    /// For packets in this state.
    pub state: CtState,
    /// What it said.
    pub outcome: T,
}

/// How readily a flow makes room for another one when the table is full, most readily first.
/// Established connections never do, so that nobody can push them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Standing {
    /// Nobody has answered yet: the oldest goes first.
    HalfOpen,
    /// It is over, or nearly.
    Ending,
    /// It was answered, but nothing says that it goes on: it makes room if it is silent.
    Exchange,
    /// A connection.
    Established,
}

/// A flow in an exchange that says nothing for so long may make room for another one: as long as an
/// unanswered one lives.
const SILENCE: Duration = Duration::from_secs(30);

/// UDP that goes on for longer than this is a stream (Linux, `nf_conntrack_proto_udp.c`).
const STREAM_AFTER: Duration = Duration::from_secs(2);

/// One tracked flow. `T` is what the rules say of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Flow<T> {
    /// The port at which packets in the original direction come in. Replies come in at the other.
    pub origin: Side,
    /// The original source is the lower end point of the key.
    pub original_is_low: bool,
    /// A packet in the reply direction was accepted.
    pub replied: bool,
    /// What it has to do with a helper's session.
    pub link: Link,
    /// When it ends if nothing comes.
    pub expires: Time,
    /// Bytes carried, by direction: of a TCP stream, each counted once; else of whole datagrams.
    pub bytes: [u64; 2],
    /// Cached verdicts by direction, all of one ruleset. Fields of their own, as the flow is 8 bytes
    /// smaller then.
    outcomes: [Option<T>; 2],
    generation: u32,
    /// The states for which they are, four bits each, the original direction's in the lower ones.
    for_states: u8,
    tracker: Tracker,
}

#[derive(Clone, Copy, Debug)]
enum Tracker {
    Tcp(Tcp),
    Udp {
        /// From when on it is a stream, if it was answered.
        stream_from: Time,
    },
    Icmp,
    Icmpv6,
    Generic,
}

/// What became of a packet in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Its direction.
    pub direction: Direction,
    /// Its state as rules see it.
    pub state: CtState,
    /// Why it is invalid, if [`Tracked::state`] is.
    pub invalid: Option<DropReason>,
    /// For TCP.
    pub tcp: Option<TcpStep>,
}

/// What a TCP segment did to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpStep {
    /// The tracker's word.
    pub judgement: Judgement,
    /// The state before.
    pub before: TcpState,
    /// The state after.
    pub after: TcpState,
}

impl<T: Copy> Flow<T> {
    /// A flow that begins with this packet. With `may_pick_up` it may be a segment from the middle
    /// of a connection.
    ///
    /// # Errors
    ///
    /// The packet can't begin a flow.
    pub fn begin(
        ip: &Ip,
        origin: Side,
        original_is_low: bool,
        settings: &Settings,
        now: Time,
        may_pick_up: bool,
    ) -> Result<Flow<T>, DropReason> {
        let tracker = match &ip.l4 {
            L4::Tcp(segment) => Tracker::Tcp(match Tcp::begin(segment) {
                Err(_) if may_pick_up => Tcp::pick_up(segment)?,
                begun => begun?,
            }),
            L4::Udp(_) => Tracker::Udp {
                stream_from: now + STREAM_AFTER,
            },
            L4::Icmp(message) => match super::icmp::role(ip.protocol, message.kind) {
                super::icmp::Role::Query if ip.protocol == proto::ICMPV6 => Tracker::Icmpv6,
                super::icmp::Role::Query => Tracker::Icmp,
                _ => return Err(DropReason::IcmpUnrelated),
            },
            L4::Other | L4::Unparsed => Tracker::Generic,
        };
        let mut flow = Flow {
            origin,
            original_is_low,
            replied: false,
            link: Link::None,
            expires: now,
            bytes: [0; 2],
            outcomes: [None; 2],
            generation: 0,
            for_states: 0,
            tracker,
        };
        flow.expires = now + flow.timeout(settings, now);
        Ok(flow)
    }

    /// Which way a packet from the lower (or higher) end point goes.
    #[must_use]
    pub fn direction(&self, from_low: bool) -> Direction {
        if from_low == self.original_is_low {
            Direction::Original
        } else {
            Direction::Reply
        }
    }

    /// Who began it, and with whom.
    #[must_use]
    pub fn ends(&self, key: &FlowKey) -> (SocketAddr, SocketAddr) {
        let [low, high] = key.ends().map(SocketAddr::from);
        if self.original_is_low {
            (low, high)
        } else {
            (high, low)
        }
    }

    /// The expectation that its first packet met, if it met one.
    #[must_use]
    pub fn expected(&self, key: &FlowKey) -> ExpectedTuple {
        let (from, to) = self.ends(key);
        ExpectedTuple {
            from: from.ip(),
            to: to.ip(),
            port: to.port(),
            side: self.origin,
            vlan: key.vlan(),
        }
    }

    /// The port at which packets in this direction come in.
    #[must_use]
    pub fn side_of(&self, direction: Direction) -> Side {
        match direction {
            Direction::Original => self.origin,
            Direction::Reply => self.origin.other(),
        }
    }

    /// lotus itself reset the connection.
    pub fn reset(&mut self, settings: &Settings, now: Time) {
        if let Tracker::Tcp(tcp) = &mut self.tracker {
            tcp.close();
            self.expires = now + settings.tcp_close;
        }
    }

    /// Judges a packet of this flow that came in at the right side, and moves the flow.
    #[inline(always)] // what it tells is not to go through memory
    pub fn update(
        &mut self,
        direction: Direction,
        ip: &Ip,
        settings: &Settings,
        now: Time,
    ) -> Tracked {
        let mut bytes = ip.datagram.len() as u64;
        let mut tracked = Tracked {
            direction,
            state: CtState::Established,
            invalid: None,
            tcp: None,
        };
        let is_control = matches!(self.link, Link::Control(..));
        if let (Tracker::Tcp(tcp), L4::Tcp(segment)) = (&mut self.tracker, &ip.l4) {
            let (before, end) = (tcp.state(), tcp.end(direction));
            let as_it_was = is_control.then_some(*tcp);
            let judgement = tcp.update(direction, segment);
            let after = tcp.state();
            bytes = stream_bytes(judgement, segment, tcp.end(direction).wrapping_sub(end));
            match judgement {
                Judgement::Valid | Judgement::Restarted => {
                    let is_one_sided = direction == Direction::Original && !self.replied;
                    self.expires = now + settings.tcp(tcp, is_one_sided);
                }
                Judgement::DoubtfulReset => {
                    self.expires = self.expires.min(now + settings.tcp_close);
                }
                Judgement::ValidNoRenewal | Judgement::Ignored | Judgement::Reopen => {
                    // It never gets there: no helper reads what may not belong to its stream.
                    if let Some(as_it_was) = as_it_was
                        && judgement == Judgement::Ignored
                        && says_something(segment)
                    {
                        *tcp = as_it_was;
                    }
                }
                Judgement::Invalid(reason) => {
                    tracked.state = CtState::Invalid;
                    tracked.invalid = Some(reason);
                    return tracked;
                }
            }
            tracked.tcp = Some(TcpStep {
                judgement,
                before,
                after,
            });
        }
        let slot = match direction {
            Direction::Original => {
                if !self.replied {
                    tracked.state = self.first_state();
                }
                &mut self.bytes[0]
            }
            Direction::Reply => {
                self.replied = true;
                &mut self.bytes[1]
            }
        };
        *slot += bytes;
        if !matches!(self.tracker, Tracker::Tcp(_)) {
            self.expires = now + self.timeout(settings, now);
        }
        tracked
    }

    /// How long it may stay silent from now on.
    fn timeout(&self, settings: &Settings, now: Time) -> Duration {
        match &self.tracker {
            Tracker::Tcp(tcp) => settings.tcp(tcp, !self.replied),
            Tracker::Udp { stream_from } if self.replied && now > *stream_from => {
                settings.udp_stream
            }
            Tracker::Udp { .. } => settings.udp,
            Tracker::Icmp => settings.icmp,
            Tracker::Icmpv6 => settings.icmpv6,
            Tracker::Generic => settings.generic,
        }
    }

    /// Whether nothing was said in it for [`SILENCE`] or half of what it may stay silent,
    /// whichever is less. UDP that is no stream has said all that it had to.
    pub(super) fn is_silent(&self, settings: &Settings, now: Time) -> bool {
        let timeout = match &self.tracker {
            Tracker::Udp { .. } => settings.udp_stream,
            _ => self.timeout(settings, now),
        };
        let silence = SILENCE.min(timeout / 2);
        self.expires.since(now) <= timeout.saturating_sub(silence)
    }

    /// How readily it makes room for another one.
    #[inline]
    pub(super) fn standing(&self) -> Standing {
        let Tracker::Tcp(tcp) = &self.tracker else {
            return match self.replied {
                true => Standing::Exchange,
                false => Standing::HalfOpen,
            };
        };
        match tcp.state() {
            TcpState::SynSent | TcpState::SynSent2 | TcpState::SynRecv => Standing::HalfOpen,
            TcpState::Established if !self.replied => Standing::HalfOpen,
            TcpState::Established => Standing::Established,
            TcpState::FinWait | TcpState::CloseWait => Standing::Exchange,
            TcpState::LastAck | TcpState::TimeWait | TcpState::Close => Standing::Ending,
        }
    }

    /// The state of packets until the first answer.
    #[must_use]
    pub fn first_state(&self) -> CtState {
        match self.link {
            Link::Announced(_) | Link::Data(_) | Link::Ended(_) => CtState::Related,
            Link::None | Link::Control(..) => CtState::New,
        }
    }

    /// Whether nobody ever answered: such flows go first when the table is full.
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        match &self.tracker {
            Tracker::Tcp(tcp) => {
                matches!(
                    tcp.state(),
                    TcpState::SynSent | TcpState::SynSent2 | TcpState::SynRecv | TcpState::Close
                )
            }
            _ => !self.replied,
        }
    }

    /// The TCP tracker, if it is TCP.
    #[must_use]
    pub fn tcp(&self) -> Option<&Tcp> {
        match &self.tracker {
            Tracker::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }

    /// Whether a packet that an ICMP error quotes can have been sent in this flow.
    #[must_use]
    pub fn can_have_sent(&self, direction: Direction, quoted: &L4) -> bool {
        match (&self.tracker, quoted) {
            (Tracker::Tcp(tcp), L4::Tcp(segment)) => tcp.in_flight(direction, segment.seq),
            (Tracker::Tcp(_), _) => false,
            _ => true,
        }
    }

    /// The cached outcome for a packet, if it is still good.
    #[inline(always)]
    #[must_use]
    pub fn cached(&self, direction: Direction, state: CtState, generation: u32) -> Option<T> {
        let [original, reply] = &self.outcomes;
        let (outcome, for_state) = match direction {
            Direction::Original => (original, self.for_states & 0x0f),
            Direction::Reply => (reply, self.for_states >> 4),
        };
        if self.generation != generation || for_state != state as u8 {
            return None;
        }
        *outcome
    }

    /// Keeps an outcome. Those of another ruleset go.
    pub fn cache(&mut self, direction: Direction, verdict: CachedVerdict<T>) {
        if self.generation != verdict.generation {
            self.generation = verdict.generation;
            self.outcomes = [None; 2];
        }
        let [original, reply] = &mut self.outcomes;
        let state = verdict.state as u8;
        match direction {
            Direction::Original => {
                *original = Some(verdict.outcome);
                self.for_states = self.for_states & 0xf0 | state;
            }
            Direction::Reply => {
                *reply = Some(verdict.outcome);
                self.for_states = self.for_states & 0x0f | state << 4;
            }
        }
    }
}

/// Whether a segment, a SYN apart, has a part of its stream.
fn says_something(segment: &TcpSegment) -> bool {
    segment.seq_len() > 0 && !segment.flags.has(TcpFlags::SYN)
}

/// What a segment added to its stream, given how far it moved the sender's end: retransmissions add
/// nothing, and SYN and FIN are no bytes.
fn stream_bytes(judgement: Judgement, segment: &TcpSegment, moved: u32) -> u64 {
    if judgement != Judgement::Valid || segment.flags.has(TcpFlags::SYN) {
        return 0;
    }
    let fin = u32::from(moved > 0 && segment.flags.has(TcpFlags::FIN));
    u64::from(moved - fin)
}

/// Whether a packet is a TCP segment with any of these flags.
#[must_use]
pub fn has_tcp_flags(ip: &Ip, flags: u8) -> bool {
    matches!(&ip.l4, L4::Tcp(segment) if segment.flags.has(flags))
}

/// Segments whose checksum is verified even outside helpers, because they end or begin flows.
pub const STATE_CHANGING_FLAGS: u8 = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
