//! The TCP tracker: a pure function from (state, segment, direction) to a judgement.
//!
//! Window tracking after Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter"
//! (2000), with the bounds that `net/netfilter/nf_conntrack_proto_tcp.c` uses. For a segment
//! `[seq, end)` from a sender, acknowledging `ack`, four inequalities must hold:
//!
//! * (I)   `seq <= sender.max_end`: not past what the receiver offered to take
//! * (II)  `end >= sender.end - receiver.max_window`: not older than a window
//! * (III) `ack <= receiver.end`: acknowledges nothing that was not sent
//! * (IV)  `ack >= receiver.end - max(sender.max_window, 66000)`: not an ancient acknowledgment
//!
//! where `ack` is the highest edge of a SACK block, if the receiver's SYN permitted SACK.

mod peer;

use self::peer::{Offered, Peer, is_in_offer, is_no_ancient_ack, is_recent, is_sent, later};
use super::Direction;
use crate::observe::DropReason;
use crate::wire::{TcpFlags, TcpSegment};

/// The largest window scale (RFC 7323 section 2.3). For a connection whose SYNs nobody saw, it is
/// taken for the one agreed upon.
const MAX_WINDOW_SCALE: u8 = 14;

/// No window is larger (RFC 7323 section 2.3).
const MAX_WINDOW_BYTES: u32 = (u16::MAX as u32) << MAX_WINDOW_SCALE;

/// Inequality (IV) never asks for less than this: a 64 KiB window and a little more.
const MIN_ACK_WINDOW_BYTES: u32 = 66_000;

/// The states, under Linux's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// A SYN was seen.
    SynSent,
    /// SYNs in both directions, none acknowledged (simultaneous open).
    SynSent2,
    /// A SYN-ACK was seen.
    SynRecv,
    /// The handshake is complete.
    Established,
    /// One side sent FIN.
    FinWait,
    /// That FIN was acknowledged.
    CloseWait,
    /// Both sides sent FIN.
    LastAck,
    /// Both FINs were acknowledged.
    TimeWait,
    /// Reset.
    Close,
}

/// What a segment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Valid: the flow moved on.
    Valid,
    /// Valid, and the flow's timeout must not be renewed (a retransmitted SYN or SYN-ACK).
    ValidNoRenewal,
    /// Passes, but says nothing about the flow: a SYN in a live connection, an old or early
    /// segment within a window's reach. A helper must not read it.
    Ignored,
    /// A reset that may or may not count: it passes, and the flow gets a short timeout.
    DoubtfulReset,
    /// A new connection on the same tuple: forget this flow and judge the SYN as new.
    Reopen,
    /// A SYN-ACK answered a SYN that was let through in a live connection: both ends began anew.
    Restarted,
    /// Does not belong.
    Invalid(DropReason),
}

/// The tracker of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    state: TcpState,
    /// Its beginning was not seen: windows are taken for larger than they are, and what an end
    /// sent unseen may be acknowledged.
    is_picked_up: bool,
    /// How often in a row the same segment came.
    repeats: u8,
    /// The newest segment closed the sender's window.
    closed_window: bool,
    /// The newest segment without SYN or RST, mixed into one number; 0 if it carries nothing.
    newest: u32,
    peers: [Peer; 2],
    stray_syn: Option<StraySyn>,
}

/// A SYN that was let through in a live connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StraySyn {
    direction: Direction,
    end: u32,
    scale: u8,
    offered: Offered,
}

impl Tcp {
    /// The tracker after a connection's first SYN.
    ///
    /// # Errors
    ///
    /// A segment that begins nothing.
    pub fn begin(segment: &TcpSegment) -> Result<Tcp, DropReason> {
        let flags = segment.flags;
        if !flags.has(TcpFlags::SYN) || flags.has(TcpFlags::ACK) {
            return Err(DropReason::TcpNotSyn);
        }
        let mut tcp = Tcp::in_state(TcpState::SynSent);
        tcp.sender_receiver(Direction::Original).0.begin(segment);
        Ok(tcp)
    }

    /// The tracker of a connection whose beginning was not seen, from the first segment that was.
    /// What the windows are must be guessed: see [`Tcp::is_picked_up`].
    ///
    /// # Errors
    ///
    /// A segment that is not from the middle of a connection.
    pub fn pick_up(segment: &TcpSegment) -> Result<Tcp, DropReason> {
        let flags = segment.flags;
        if !flags.has(TcpFlags::ACK) || flags.has(TcpFlags::SYN | TcpFlags::RST | TcpFlags::FIN) {
            return Err(DropReason::TcpNotSyn);
        }
        let mut tcp = Tcp::in_state(TcpState::Established);
        tcp.is_picked_up = true;
        let (sender, receiver) = tcp.sender_receiver(Direction::Original);
        sender.meet(segment);
        sender.acknowledge(segment.ack);
        receiver.scale = MAX_WINDOW_SCALE;
        receiver.offered = Offered::UNSEEN;
        Ok(tcp)
    }

    fn in_state(state: TcpState) -> Tcp {
        Tcp {
            state,
            is_picked_up: false,
            repeats: 0,
            closed_window: false,
            newest: 0,
            peers: Default::default(),
            stray_syn: None,
        }
    }

    /// Whether the connection's beginning was not seen.
    #[must_use]
    pub fn is_picked_up(&self) -> bool {
        self.is_picked_up
    }

    /// How often in a row the same segment came again without any answer between.
    #[must_use]
    pub fn repeats(&self) -> u8 {
        self.repeats
    }

    /// Whether the newest segment said that its sender takes nothing more.
    #[must_use]
    pub fn closed_window(&self) -> bool {
        self.closed_window
    }

    /// Whether one end waits for something that it sent to be acknowledged.
    #[must_use]
    pub fn is_unacknowledged(&self) -> bool {
        let [a, b] = &self.peers;
        let waits = |sender: &Peer, receiver: &Peer| {
            receiver.acked_any && before(receiver.max_ack, sender.end)
        };
        waits(a, b) || waits(b, a)
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> TcpState {
        self.state
    }

    /// Both ends were told by a reset that the connection is over.
    pub fn close(&mut self) {
        self.state = TcpState::Close;
    }

    /// Highest sequence number sent in a direction, plus one: where its stream stands.
    #[must_use]
    pub fn end(&self, direction: Direction) -> u32 {
        let [original, reply] = &self.peers;
        match direction {
            Direction::Original => original.end,
            Direction::Reply => reply.end,
        }
    }

    /// Whether a sequence number quoted by an ICMP error can be in flight in this direction
    /// (RFC 5927 section 4.1).
    #[must_use]
    pub fn in_flight(&self, direction: Direction, seq: u32) -> bool {
        let [original, reply] = &self.peers;
        let (sender, receiver) = match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        };
        let oldest = if receiver.acked_any {
            receiver.max_ack.wrapping_sub(1)
        } else {
            sender
                .end
                .wrapping_sub(receiver.max_window.max(MIN_ACK_WINDOW_BYTES))
        };
        !before(seq, oldest) && !after(seq, sender.end)
    }

    /// Judges a segment and moves the state.
    #[inline]
    pub fn update(&mut self, direction: Direction, segment: &TcpSegment) -> Judgement {
        let flags = segment.flags;
        if flags.has(TcpFlags::RST) {
            return self.reset(direction, segment);
        }
        if flags.has(TcpFlags::SYN) {
            return if flags.has(TcpFlags::ACK) {
                self.syn_ack(direction, segment)
            } else {
                self.syn(direction, segment)
            };
        }
        self.data(direction, segment)
    }

    #[inline(never)]
    fn syn(&mut self, direction: Direction, segment: &TcpSegment) -> Judgement {
        use TcpState::{Close, SynSent, SynSent2, TimeWait};
        match (self.state, direction) {
            (SynSent | SynSent2, Direction::Original) => {
                let (sender, receiver) = self.sender_receiver(direction);
                // A retransmission renews nothing, else it would keep an entry alive for ever.
                // The same SYN without its payload (RFC 7413) takes nothing back. Another sequence
                // number is a client that began anew.
                let end = segment.seq.wrapping_add(segment.seq_len());
                if sender.syn_end == segment.seq.wrapping_add(1) {
                    sender.end = later(sender.end, end);
                    sender.max_end = later(sender.max_end, end);
                } else {
                    sender.begin(segment);
                    *receiver = Peer::default();
                    self.state = SynSent;
                }
                Judgement::ValidNoRenewal
            }
            (SynSent, Direction::Reply) => {
                self.sender_receiver(direction).0.begin(segment);
                self.state = SynSent2;
                Judgement::Valid
            }
            (SynSent2, Direction::Reply) => {
                let same = self.end(direction) == segment.seq.wrapping_add(segment.seq_len());
                if same {
                    Judgement::ValidNoRenewal
                } else {
                    Judgement::Ignored
                }
            }
            (TimeWait | Close, _) => Judgement::Reopen,
            // The connection's own SYN once more says nothing.
            _ if self.sender_receiver(direction).0.syn_end == segment.seq.wrapping_add(1) => {
                Judgement::Ignored
            }
            _ => {
                let end = segment.seq.wrapping_add(segment.seq_len());
                self.stray_syn = Some(StraySyn {
                    direction,
                    end,
                    scale: segment.window_scale.unwrap_or(0),
                    offered: Offered::by(segment),
                });
                Judgement::Ignored
            }
        }
    }

    #[inline(never)]
    fn syn_ack(&mut self, direction: Direction, segment: &TcpSegment) -> Judgement {
        use TcpState::{Close, SynRecv, SynSent, SynSent2};
        let answers = |peer: &Peer| peer.syn_is_acknowledged_by(segment.ack);
        let (stray, is_picked_up) = (self.stray_syn, self.is_picked_up);
        let state = self.state;
        let (sender, receiver) = self.sender_receiver(direction);
        match state {
            SynSent | SynSent2
                if (state == SynSent2 || direction == Direction::Reply) && answers(receiver) =>
            {
                self.received_syn_ack(direction, segment);
                Judgement::Valid
            }
            // A SYN-ACK that acknowledges something else makes the client reset it; the client
            // must see it, the flow must not believe it.
            SynSent if direction == Direction::Reply => Judgement::Ignored,
            SynRecv
                if sender.end == segment.seq.wrapping_add(segment.seq_len())
                    && answers(receiver) =>
            {
                Judgement::ValidNoRenewal
            }
            // The first answer was lost on its way to the client, and the server (or another one
            // behind a balancer) answers the next SYN with another number.
            SynRecv if answers(receiver) && !receiver.acked_any => {
                self.received_syn_ack(direction, segment);
                Judgement::Valid
            }
            SynSent | SynSent2 => Judgement::Invalid(DropReason::TcpState),
            // The client has reset what the server goes on with: it never got the reset, or did not
            // take it (RFC 9293 section 3.5.2).
            Close
                if direction == Direction::Reply
                    && !is_picked_up
                    && !sender.acked_any
                    && answers(receiver) =>
            {
                self.received_syn_ack(direction, segment);
                Judgement::Valid
            }
            _ => match stray {
                // The SYN that was let through began a new connection after all.
                Some(syn) if syn.direction != direction && segment.ack == syn.end => {
                    receiver.restart(syn);
                    self.stray_syn = None;
                    self.is_picked_up = false;
                    self.received_syn_ack(direction, segment);
                    Judgement::Restarted
                }
                _ => Judgement::Ignored,
            },
        }
    }

    fn received_syn_ack(&mut self, direction: Direction, segment: &TcpSegment) {
        let (sender, receiver) = self.sender_receiver(direction);
        sender.begin(segment);
        sender.acknowledge(segment.ack);
        receiver.offer(segment.ack, u32::from(segment.window));
        self.agree_on_scale();
        self.state = TcpState::SynRecv;
    }

    #[inline(never)]
    fn reset(&mut self, direction: Direction, segment: &TcpSegment) -> Judgement {
        let state = self.state;
        let (sender, receiver) = self.sender_receiver(direction);
        if matches!(state, TcpState::SynSent | TcpState::SynSent2) {
            let has_ack = segment.flags.has(TcpFlags::ACK);
            let acknowledges = receiver.syn_is_acknowledged_by(segment.ack);
            let exact = match direction {
                // Who gives up before the answer has nothing to acknowledge, and writes 0.
                Direction::Original if has_ack && !acknowledges && segment.ack != 0 => {
                    return Judgement::Invalid(DropReason::TcpRst);
                }
                Direction::Original => segment.seq == sender.end,
                Direction::Reply => has_ack && acknowledges,
            };
            if !exact {
                // A client that met a stale connection of the server's resets that one, with a
                // number that is none of this flow's (RFC 9293 section 3.5.1).
                return match direction {
                    Direction::Original => Judgement::DoubtfulReset,
                    Direction::Reply => Judgement::Invalid(DropReason::TcpRst),
                };
            }
            self.state = TcpState::Close;
            return Judgement::Valid;
        }
        // Exact: what the receiver expects next, be it acknowledged or still on its way.
        let expected = receiver.acked_any && segment.seq == receiver.max_ack;
        if expected || segment.seq == sender.end {
            self.state = TcpState::Close;
            return Judgement::Valid;
        }
        let oldest = if receiver.acked_any {
            receiver.max_ack
        } else {
            sender.end
        };
        if before(segment.seq, oldest) || after(segment.seq, sender.max_end) {
            return Judgement::Invalid(DropReason::TcpRst);
        }
        Judgement::DoubtfulReset
    }

    /// Linux's `IP_CT_TCP_MAX_RETRANS`: the same segment again, with no answer between. Here only what
    /// carries something counts: acknowledgments repeat for many reasons, and forged SYNs make an end
    /// send them (RFC 5961 section 4).
    #[inline]
    fn note_repeats(&mut self, direction: Direction, segment: &TcpSegment) {
        self.closed_window = segment.window == 0;
        if segment.seq_len() == 0 {
            (self.repeats, self.newest) = (0, 0);
            return;
        }
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let mix = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        // No segment is longer than half of that.
        let rest = pair(
            segment.seq_len() << 1 | direction as u32,
            segment.window.into(),
        );
        let newest = mix(mix(pair(segment.seq, segment.ack)) ^ rest) as u32;
        self.repeats = match newest == self.newest {
            true => self.repeats.saturating_add(1),
            false => 0,
        };
        self.newest = newest;
    }

    #[inline]
    fn data(&mut self, direction: Direction, segment: &TcpSegment) -> Judgement {
        if matches!(self.state, TcpState::SynSent | TcpState::SynSent2) {
            // A server with a stale connection answers the SYN with a challenge ACK.
            let challenge = direction == Direction::Reply && segment.seq_len() == 0;
            return if challenge {
                if self.state == TcpState::SynSent {
                    // A reset may acknowledge it.
                    let (sender, _) = self.sender_receiver(direction);
                    (sender.syn_end, sender.end) = (segment.seq, segment.seq);
                }
                Judgement::Ignored
            } else {
                Judgement::Invalid(DropReason::TcpState)
            };
        }
        let (state, is_picked_up) = (self.state, self.is_picked_up);
        let (sender, receiver) = self.sender_receiver(direction);
        if is_picked_up {
            sender.follow(receiver, segment);
        }
        let end = segment.seq.wrapping_add(segment.seq_len());
        let ack = segment.ack;
        // Of two answers to a SYN the newest is believed; what goes with another one is another stream.
        if state == TcpState::SynRecv
            && (before(segment.seq, sender.syn_end) || before(ack, receiver.syn_end))
        {
            return Judgement::Invalid(DropReason::TcpWindow);
        }
        let highest_ack = receiver.highest_ack(segment);
        let one = is_in_offer(segment.seq, sender);
        let two = is_recent(end, sender, receiver);
        if !is_sent(highest_ack, receiver) || !is_no_ancient_ack(highest_ack, sender, receiver) {
            return Judgement::Invalid(DropReason::TcpWindow);
        }
        if !(one && two) {
            // The ends know better than we do by less than a window: a keep-alive, a window probe,
            // a retransmission of what was acknowledged. It passes; all that it moves is how much
            // the other end may acknowledge.
            let early = segment.seq.wrapping_sub(sender.max_end);
            let late = sender
                .end
                .wrapping_sub(receiver.max_window)
                .wrapping_sub(end);
            let near = if one { late } else { early } <= receiver.max_window.max(1);
            return if near {
                if after(end, sender.end) {
                    sender.end = end;
                }
                Judgement::Ignored
            } else {
                Judgement::Invalid(DropReason::TcpWindow)
            };
        }
        let window = u32::from(segment.window) << sender.scale;
        sender.max_window = sender
            .max_window
            .max(window + highest_ack.wrapping_sub(ack));
        if receiver.max_window != 0 && after(end, sender.max_end) {
            let taken = receiver.max_window + end.wrapping_sub(sender.max_end);
            receiver.max_window = taken.min(MAX_WINDOW_BYTES);
        }
        if after(end, sender.end) {
            sender.end = end;
        }
        sender.acknowledge(ack);
        receiver.offer(highest_ack, window);
        if segment.flags.has(TcpFlags::FIN) {
            (sender.fin_end, sender.sent_fin) = (end, true);
        }
        self.state = self.state_from_fins();
        self.note_repeats(direction, segment);
        Judgement::Valid
    }

    #[inline]
    fn state_from_fins(&self) -> TcpState {
        let [a, b] = &self.peers;
        match self.state {
            TcpState::Close => return TcpState::Close,
            // Most segments are in the midst of a connection.
            TcpState::Established if !a.sent_fin && !b.sent_fin => return TcpState::Established,
            _ => {}
        }
        let acked = |sender: &Peer, receiver: &Peer| {
            sender
                .sent_fin
                .then(|| receiver.acked_any && !before(receiver.max_ack, sender.fin_end))
        };
        match (acked(a, b), acked(b, a)) {
            (None, None) => {
                // The handshake ends when both ends have acknowledged the other's SYN.
                let complete = a.acked_any && b.acked_any;
                if self.state == TcpState::SynRecv && !complete {
                    TcpState::SynRecv
                } else {
                    TcpState::Established
                }
            }
            (Some(false), None) | (None, Some(false)) => TcpState::FinWait,
            (Some(true), None) | (None, Some(true)) => TcpState::CloseWait,
            (Some(true), Some(true)) => TcpState::TimeWait,
            (Some(_), Some(_)) => TcpState::LastAck,
        }
    }

    fn agree_on_scale(&mut self) {
        if !self.peers.iter().all(|peer| peer.offered.scale()) {
            for peer in &mut self.peers {
                peer.scale = 0;
            }
        }
    }

    fn sender_receiver(&mut self, direction: Direction) -> (&mut Peer, &mut Peer) {
        let [original, reply] = &mut self.peers;
        match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        }
    }
}

/// `a` comes before `b` in sequence space (RFC 9293 section 3.4).
#[must_use]
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// `a` comes after `b` in sequence space.
#[must_use]
pub fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

#[cfg(test)]
mod tests;
