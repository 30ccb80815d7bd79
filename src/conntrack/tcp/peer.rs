//! One end of a connection, and the four inequalities that a segment must fulfil (Guido van Rooij,
//! "Real Stateful TCP Packet Filtering in IP Filter").

use super::{MAX_WINDOW_SCALE, MIN_ACK_WINDOW_BYTES, StraySyn, after, before};
use crate::wire::TcpSegment;

/// What was seen of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    /// Right behind the SYN.
    pub(super) syn_end: u32,
    /// Highest sequence number sent, plus one.
    pub(super) end: u32,
    /// Highest sequence number that the other end offered to take.
    pub(super) max_end: u32,
    /// Largest window offered, scaled; 0 while nothing was seen of this end.
    pub(super) max_window: u32,
    /// Highest acknowledgment sent.
    pub(super) max_ack: u32,
    /// End of the FIN, if `sent_fin`.
    pub(super) fin_end: u32,
    /// Window scale; counts once both ends offered it.
    pub(super) scale: u8,
    pub(super) offered: Offered,
    pub(super) acked_any: bool,
    pub(super) sent_fin: bool,
}

/// What a SYN offered. Two bits in a byte, as each flow pays for it twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offered(u8);

impl Offered {
    /// What is assumed of a connection whose SYNs nobody saw, as in Linux.
    pub(super) const UNSEEN: Offered = Offered(Offered::SACK);
    const SCALE: u8 = 1;
    const SACK: u8 = 2;

    pub(super) fn by(syn: &TcpSegment) -> Offered {
        let scale = u8::from(syn.window_scale.is_some()) * Offered::SCALE;
        let sack = u8::from(syn.sack_permitted) * Offered::SACK;
        Offered(scale | sack)
    }

    pub(super) fn scale(self) -> bool {
        self.0 & Offered::SCALE != 0
    }

    fn sack(self) -> bool {
        self.0 & Offered::SACK != 0
    }
}

/// Inequality (I): nothing past what the receiver offered to take.
pub(super) fn is_in_offer(seq: u32, sender: &Peer) -> bool {
    !after(seq, sender.max_end)
}

/// Inequality (II): nothing older than a window.
pub(super) fn is_recent(end: u32, sender: &Peer, receiver: &Peer) -> bool {
    receiver.max_window == 0 || !before(end, sender.end.wrapping_sub(receiver.max_window))
}

/// Inequality (III): nothing acknowledged that was not sent.
pub(super) fn is_sent(ack: u32, receiver: &Peer) -> bool {
    !after(ack, receiver.end)
}

/// Inequality (IV): no ancient acknowledgment.
pub(super) fn is_no_ancient_ack(ack: u32, sender: &Peer, receiver: &Peer) -> bool {
    let reach = sender.max_window.max(MIN_ACK_WINDOW_BYTES);
    !before(ack, receiver.end.wrapping_sub(reach))
}

impl Peer {
    /// From a segment in the middle of a connection.
    pub(super) fn meet(&mut self, segment: &TcpSegment) {
        let end = segment.seq.wrapping_add(segment.seq_len());
        let max_window = (u32::from(segment.window) << MAX_WINDOW_SCALE).max(1);
        *self = Peer {
            syn_end: segment.seq,
            end,
            // What the other end takes is taken to be what this one does, until it says so.
            max_end: end.wrapping_add(max_window),
            max_window,
            max_ack: self.max_ack,
            acked_any: self.acked_any,
            scale: MAX_WINDOW_SCALE,
            offered: Offered::UNSEEN,
            ..Peer::default()
        };
    }

    /// From a segment of a connection whose beginning was not seen: its sender may be new, and what
    /// it acknowledges may have passed before anybody looked.
    pub(super) fn follow(&mut self, receiver: &mut Peer, segment: &TcpSegment) {
        if self.max_window == 0 {
            self.meet(segment);
            // What the other end has offered it, it has offered here.
            let offered = receiver.max_ack.wrapping_add(receiver.max_window);
            self.max_end = later(self.max_end, offered);
        }
        let highest = receiver.highest_ack(segment);
        let unseen = highest.wrapping_sub(receiver.end);
        if receiver.max_window == 0 || (unseen as i32 > 0 && unseen <= self.max_window) {
            receiver.end = highest;
            receiver.max_end = later(receiver.max_end, highest);
        }
    }

    /// From a SYN or SYN-ACK; its window is never scaled (RFC 7323 section 2.2).
    pub(super) fn begin(&mut self, segment: &TcpSegment) {
        let end = segment.seq.wrapping_add(segment.seq_len());
        *self = Peer {
            syn_end: segment.seq.wrapping_add(1),
            end,
            max_end: end,
            max_window: u32::from(segment.window).max(1),
            scale: segment.window_scale.unwrap_or(0),
            offered: Offered::by(segment),
            ..Peer::default()
        };
    }

    /// From a SYN that was let through and is answered only now.
    pub(super) fn restart(&mut self, syn: StraySyn) {
        *self = Peer {
            syn_end: syn.end,
            end: syn.end,
            max_end: syn.end,
            max_window: self.max_window,
            scale: syn.scale,
            offered: syn.offered,
            ..Peer::default()
        };
    }

    /// Whether that acknowledges this end's SYN. The other end may take its data or not (RFC 7413).
    pub(super) fn syn_is_acknowledged_by(&self, ack: u32) -> bool {
        !before(ack, self.syn_end) && !after(ack, self.end)
    }

    /// What a segment to this end acknowledges at most. A SACK block tells of bytes beyond the
    /// acknowledgment, if this end has said that it reads them (RFC 2018 section 4; so does Linux).
    pub(super) fn highest_ack(&self, segment: &TcpSegment) -> u32 {
        match segment.sack_end {
            Some(sack) if self.offered.sack() => later(sack, segment.ack),
            _ => segment.ack,
        }
    }

    /// The other end acknowledged up to `ack` and takes `window` more.
    pub(super) fn offer(&mut self, ack: u32, window: u32) {
        let edge = ack.wrapping_add(window.max(1));
        if after(edge, self.max_end) {
            self.max_end = edge;
        }
    }

    pub(super) fn acknowledge(&mut self, ack: u32) {
        if !self.acked_any || after(ack, self.max_ack) {
            self.max_ack = ack;
            self.acked_any = true;
        }
    }
}

pub(super) fn later(a: u32, b: u32) -> u32 {
    if after(a, b) { a } else { b }
}
