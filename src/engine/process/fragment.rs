//! Fragments: judged as the datagram that they make, and forwarded as they came.

use super::{Engine, Passing, header_is_right};
use crate::conntrack::Fragmented;
use crate::engine::shared::discard;
use crate::engine::{Origin, OutFrame, Verdict};
use crate::observe::DropReason;
use crate::wire::{Ip, Meta, Packet};

impl Engine {
    /// Holds a fragment, or judges the datagram that it completes.
    #[inline(never)]
    pub(super) fn fragment(
        &mut self,
        packet: &Packet,
        ip: &Ip,
        passing: &mut Passing<'_>,
    ) -> Verdict {
        let &mut Passing {
            side,
            ref mut frame,
            meta,
            now,
            ref mut out,
            ..
        } = passing;
        // Each fragment's own: of two with the same place, the receiver takes the good one.
        if !header_is_right(frame, packet, ip) {
            return Verdict::Drop(DropReason::IpChecksumBad);
        }
        let settings = &self.shared.settings.conntrack;
        let pushed = self
            .shared
            .fragments
            .push(frame, meta, packet, side, settings, now);
        let (outcome, evicted) = pushed;
        for frame in &evicted {
            discard(frame, DropReason::FragmentLimit, &self.counters);
        }
        let (mut fragments, mut datagram) = match outcome {
            Fragmented::Held => return Verdict::Held,
            Fragmented::Dropped { reason, held } => {
                held.iter()
                    .for_each(|frame| discard(frame, reason, &self.counters));
                return Verdict::Drop(reason);
            }
            Fragmented::Whole {
                fragments,
                datagram,
            } => (fragments, datagram),
        };
        let before = datagram.clone();
        let verdict = match crate::wire::parse(&datagram) {
            Ok(packet) => match &packet.ip {
                Some(ip) => {
                    let mut whole = Passing {
                        side,
                        frame: &mut datagram,
                        meta: &Meta::default(),
                        is_assembled: true,
                        now,
                        out,
                    };
                    self.ip(&packet, ip, self.key(&packet).as_ref(), &mut whole)
                }
                None => Verdict::Drop(DropReason::FragmentBad),
            },
            Err(reason) => Verdict::Drop(reason),
        };
        let verdict = match verdict {
            Verdict::Forward if datagram != before => Verdict::Drop(DropReason::HelperFragment),
            other => other,
        };
        match verdict {
            Verdict::Forward => {
                // All of them leave through `out`; the present one counts as held until then.
                let released = fragments.into_iter().map(|frame| OutFrame {
                    to: side.other(),
                    origin: Origin::Released,
                    frame,
                });
                // What the helper let go comes behind the datagram that filled its gap.
                out.frames.splice(0..0, released);
                Verdict::Held
            }
            Verdict::Drop(reason) => {
                fragments.pop(); // the present one: our caller counts it
                fragments
                    .iter()
                    .for_each(|frame| discard(frame, reason, &self.counters));
                Verdict::Drop(reason)
            }
            Verdict::Held => Verdict::Held,
        }
    }
}
