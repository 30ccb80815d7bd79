//! Flows that have to do with a helper's session: control and data connections.

use std::net::SocketAddr;

use super::{Engine, Passing, is_over};
use crate::conntrack::{
    Direction, ExpectedTuple, Flow, FlowKey, Judgement, Link, TcpState, TcpStep, Time, Tuple,
};
use crate::engine::shared::discard;
use crate::engine::{Kept, Origin, OutFrame, Verdict};
use crate::helper::ftp::{self, Control, Released, Step};
use crate::observe::DropReason;
use crate::wire::{Ip, L4, Packet, TcpFlags, TcpSegment, edit, reset};

impl Engine {
    /// A newer SYN took over what this flow had claimed and never got.
    pub(super) fn forget_unanswered(&self, key: &FlowKey, now: Time) {
        if let Some(removed) = self.shared.table.remove_if(key, Flow::is_half_open) {
            let why = "a newer connection took its place";
            self.shared.flow_gone(&removed, why, now, &self.counters);
        }
    }

    /// A segment of a control connection: its session, and the number of the helper's settings.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // all that is known of it
    pub(super) fn control(
        &mut self,
        (id, profile): (u64, u8),
        key: &FlowKey,
        direction: Direction,
        step: TcpStep,
        packet: &Packet,
        passing: &mut Passing<'_>,
    ) -> Verdict {
        let Some((ip, segment)) = tcp_of(packet) else {
            return Verdict::Forward;
        };
        let flags = segment.flags;
        let is_syn = flags.has(TcpFlags::SYN);
        if is_syn && segment.payload_bytes > 0 {
            return Verdict::Drop(DropReason::SynPayload);
        }
        if flags.has(TcpFlags::URG) && segment.payload_bytes == 0 {
            // A receiver would take the byte out of what comes later.
            edit::clear_urgent(passing.frame, ip, passing.meta.checksum());
        }
        let Some(session) = self.shared.sessions.find(id) else {
            return self.without_session((id, profile), direction, step, packet, passing);
        };
        let &mut Passing {
            side,
            ref mut frame,
            meta,
            is_assembled,
            now,
            ref mut out,
        } = passing;
        let cx = self.shared.context(now);
        let mut released = Released::default();
        let mut locked = ftp::lock(&session);
        let read = match step.judgement {
            Judgement::Ignored if segment.seq_len() > 0 && !is_syn => {
                return Verdict::Drop(DropReason::HelperInvalid);
            }
            // Nobody opens a control connection from the server's end.
            Judgement::Restarted if direction == Direction::Original => {
                return Verdict::Drop(DropReason::HelperInvalid);
            }
            Judgement::Restarted => {
                let client = segment.ack.wrapping_sub(1);
                released.discarded = locked.restart(client, segment.seq, &cx);
                Step::Forward
            }
            Judgement::Valid | Judgement::ValidNoRenewal => {
                if is_syn {
                    locked.syn(direction, segment.seq);
                }
                locked.segment(
                    direction,
                    frame,
                    ip,
                    meta,
                    !is_assembled,
                    &mut released,
                    &cx,
                )
            }
            _ => Step::Forward,
        };
        drop(locked);
        out.frames
            .extend(released.frames.into_iter().map(|frame| OutFrame {
                to: side.other(),
                origin: Origin::Released,
                frame,
            }));
        for frame in &released.discarded {
            discard(frame, DropReason::HelperRewrite, &self.counters);
        }
        if is_over(step.after) && !is_over(step.before) {
            let why = match step.after {
                TcpState::Close => "reset",
                _ => "both ends said goodbye",
            };
            self.shared.end_session(&session, why, now, &self.counters);
        }
        match read {
            Step::Forward => Verdict::Forward,
            Step::Drop(reason) => Verdict::Drop(reason),
            Step::Hold => Verdict::Held,
            Step::Reset(seq) => {
                let why = "lotus reset it, because a command was refused";
                self.shared.end_session(&session, why, now, &self.counters);
                let settings = &self.shared.settings.conntrack;
                self.shared
                    .table
                    .with(key, |flow| flow.reset(settings, now));
                let resets = [
                    (side.other(), reset::to_receiver(frame, packet, seq)),
                    (side, reset::to_sender(frame, packet)),
                ];
                out.frames
                    .extend(resets.into_iter().filter_map(|(to, frame)| {
                        let origin = Origin::Generated;
                        frame.map(|frame| OutFrame { to, origin, frame })
                    }));
                Verdict::Drop(DropReason::HelperReset)
            }
        }
    }

    /// A SYN that no rule accepted. If it is of a session that went TLS, it would have needed a
    /// range: the drop and an event say so, and the client learns at once by a reset.
    pub(super) fn missed_range(
        &self,
        verdict: Verdict,
        tuple: &Tuple,
        packet: &Packet,
        passing: &mut Passing<'_>,
    ) -> Verdict {
        let &mut Passing {
            side,
            ref frame,
            now,
            ref mut out,
            ..
        } = passing;
        let is_first = |segment: &TcpSegment| {
            segment.flags.has(TcpFlags::SYN) && !segment.flags.has(TcpFlags::ACK | TcpFlags::RST)
        };
        if verdict != Verdict::Drop(DropReason::PolicyDrop)
            || !tcp_of(packet).is_some_and(|(_, segment)| is_first(segment))
        {
            return verdict;
        }
        let missed = ExpectedTuple::of(tuple, side)
            .and_then(|tuple| self.shared.expectations.ranges().missed(&tuple, now));
        let Some(missed) = missed else { return verdict };
        if let Some(session) = self.shared.sessions.find(missed.session) {
            let from = SocketAddr::new(tuple.src, tuple.src_port);
            let to = SocketAddr::new(tuple.dst, tuple.dst_port);
            ftp::lock(&session).range_missed(from, to, &self.shared.context(now));
        }
        if missed.may_answer
            && let Some(frame) = reset::to_sender(frame, packet)
        {
            let origin = Origin::Generated;
            out.frames.push(OutFrame {
                to: side,
                origin,
                frame,
            });
        }
        Verdict::Drop(DropReason::TlsNoRange)
    }

    /// A control connection was taken up in the middle, with a segment of its client's.
    pub(super) fn begin_midstream(
        &self,
        (id, profile): (u64, u8),
        packet: &Packet,
        ip: &Ip,
        segment: &TcpSegment,
        passing: &Passing<'_>,
    ) {
        let control = Control {
            client: SocketAddr::new(ip.src, segment.src_port),
            server: SocketAddr::new(ip.dst, segment.dst_port),
            client_side: passing.side,
            vlan: packet.ether.vlan_ids(),
        };
        let cx = self.shared.context(passing.now);
        let settings = self.shared.profile(profile);
        self.shared
            .sessions
            .begin_midstream(id, control, settings, &cx);
    }

    /// A segment of a control connection that the server has not answered yet.
    fn without_session(
        &self,
        (id, profile): (u64, u8),
        direction: Direction,
        step: TcpStep,
        packet: &Packet,
        passing: &Passing<'_>,
    ) -> Verdict {
        let Some((ip, segment)) = tcp_of(packet) else {
            return Verdict::Forward;
        };
        let flags = segment.flags;
        let is_answer = flags.has(TcpFlags::SYN) && flags.has(TcpFlags::ACK);
        // The first one that passes need not be the first one: rules may have dropped that.
        let answers_the_syn = matches!(
            step.judgement,
            Judgement::Valid | Judgement::ValidNoRenewal | Judgement::Restarted
        );
        if is_answer && direction == Direction::Reply && answers_the_syn {
            let control = Control {
                client: SocketAddr::new(ip.dst, segment.dst_port),
                server: SocketAddr::new(ip.src, segment.src_port),
                client_side: passing.side.other(),
                vlan: packet.ether.vlan_ids(),
            };
            let cx = self.shared.context(passing.now);
            let session =
                self.shared
                    .sessions
                    .begin(id, control, self.shared.profile(profile), &cx);
            let mut session = ftp::lock(&session);
            // It acknowledges the client's SYN, which carried nothing.
            session.syn(Direction::Original, segment.ack.wrapping_sub(1));
            session.syn(Direction::Reply, segment.seq);
            return Verdict::Forward;
        }
        // Nobody opens a control connection from both ends, and nothing is said before it is open.
        let is_syn_of_server = flags.has(TcpFlags::SYN) && direction == Direction::Reply;
        let says_something = segment.payload_bytes > 0 || flags.has(TcpFlags::FIN);
        if says_something || (is_syn_of_server && !is_answer) {
            return Verdict::Drop(DropReason::HelperInvalid);
        }
        Verdict::Forward
    }

    /// A segment of a data connection of which nothing has passed but SYNs.
    #[inline(never)]
    pub(super) fn announced(
        &mut self,
        id: u64,
        key: &FlowKey,
        direction: Direction,
        step: TcpStep,
        passing: &Passing<'_>,
    ) -> Verdict {
        if matches!(step.after, TcpState::SynSent | TcpState::SynSent2) {
            return Verdict::Forward;
        }
        if is_over(step.before) && is_over(step.after) {
            // Reset before it was answered. If an end has not taken the reset, only the answer brings
            // the connection back, so that the port is used up.
            return Verdict::Drop(DropReason::ExpectationGone);
        }
        let shared = &self.shared;
        let about = |flow: &mut Flow<Kept>| {
            // Of two workers, one gets it.
            let is_mine = flow.link == Link::Announced(id);
            if is_mine && !is_over(step.after) {
                flow.link = Link::Data(id);
            }
            is_mine.then(|| (flow.ends(key), flow.expected(key)))
        };
        let Some(Some(((from, to), expected))) = shared.table.with(key, about) else {
            return self.data(id, key, step, passing);
        };
        if is_over(step.after) {
            // Its end may have ignored the reset, so it stays what it is: an answer is looked at.
            shared.expectations.ranges().release(&expected, *key);
            if direction == Direction::Reply {
                shared.expectations.free(&expected, *key);
            }
            return Verdict::Forward;
        }
        // Final at the SYN-ACK, or at what passes next if the rules dropped that.
        if !shared.expectations.confirm(&expected, *key) {
            let _ = shared.table.remove(key);
            return Verdict::Drop(DropReason::ExpectationGone);
        }
        if let Some(session) = shared.sessions.find(id) {
            ftp::lock(&session).data_begun(from, to, &shared.context(passing.now));
        }
        Verdict::Forward
    }

    /// A segment of a data connection.
    #[inline]
    pub(super) fn data(
        &mut self,
        id: u64,
        key: &FlowKey,
        step: TcpStep,
        passing: &Passing<'_>,
    ) -> Verdict {
        if !is_over(step.after) || is_over(step.before) {
            return Verdict::Forward;
        }
        let shared = &self.shared;
        let about = |flow: &mut Flow<Kept>| {
            // Another worker may have begun another connection in its place.
            let is_mine = flow.link == Link::Data(id);
            if is_mine {
                flow.link = Link::Ended(id);
            }
            is_mine.then(|| (flow.ends(key), flow.expected(key), flow.bytes))
        };
        if let Some(Some(((from, to), expected, bytes))) = shared.table.with(key, about) {
            shared.expectations.ranges().release(&expected, *key);
            if let Some(session) = shared.sessions.find(id) {
                let cx = shared.context(passing.now);
                ftp::lock(&session).data_ended(from, to, bytes, &cx);
            }
        }
        Verdict::Forward
    }
}

/// A segment of a data connection that is over. After a reset nothing more is said, whoever sent it.
#[cold]
pub(super) fn ended(step: TcpStep, ip: &Ip) -> Verdict {
    match &ip.l4 {
        L4::Tcp(segment) if step.after == TcpState::Close && segment.seq_len() > 0 => {
            Verdict::Drop(DropReason::TcpState)
        }
        _ => Verdict::Forward,
    }
}

fn tcp_of(packet: &Packet) -> Option<(&Ip, &TcpSegment)> {
    match packet.ip.as_ref() {
        Some(ip) => match &ip.l4 {
            L4::Tcp(segment) => Some((ip, segment)),
            _ => None,
        },
        None => None,
    }
}
