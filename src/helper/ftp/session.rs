mod audit;
mod dialogue;
mod opening;
mod order;
mod reading;
mod tls;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::audit::Audit;
use self::opening::Active;
use self::order::{Pending, Queue};
use self::tls::Tls;
use super::command::{CommandReader, FIRST_TELNET_COMMAND, IAC};
use super::reply::ReplyReader;
use super::stream::{Arrival, Stream};
use super::transcript::Transcript;
use super::{Context, Settings};
use crate::conntrack::{Direction, ExpectedTuple, Time};
use crate::observe::{DropReason, Escaped, EventKind};
use crate::wire::{
    ChecksumState, Ip, L4, MAX_VLAN_TAGS, Meta, OwnedFrame, Side, TcpFlags, TcpSegment, edit,
};

/// How long live data connections keep a silent control connection alive.
const MAX_SILENCE: Duration = Duration::from_secs(24 * 3600);

/// Bytes that all sessions may hold together. Holding saves a retransmission; without room for it
/// a segment past a gap is dropped and TCP sends it again.
const MAX_HELD_BYTES_IN_ALL: usize = 64 << 20;

/// What refused bytes become.
const FILL: u8 = b'X';

/// A control connection's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Who opened it.
    pub client: SocketAddr,
    /// Whom to.
    pub server: SocketAddr,
    /// The client's side.
    pub client_side: Side,
    /// The VLAN it runs in.
    pub vlan: [u16; MAX_VLAN_TAGS],
}

/// What becomes of a control segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on its way (possibly changed).
    Forward,
    /// It is dropped; TCP may send it again.
    Drop(DropReason),
    /// A copy is kept until what is missing before it has come.
    Hold,
    /// It is dropped, and both ends get a reset: the next byte that they expect in the segment's
    /// direction has this number.
    Reset(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the server's 220.
    Banner,
    /// Reading.
    Reading,
    /// Nothing can be read (TLS, or the server speaks something else); bytes pass as they come.
    Blind,
    /// A command was refused by a reset: nothing passes any more.
    Reset,
}

/// One FTP session.
#[derive(Debug)]
pub struct Session {
    id: u64,
    control: Control,
    settings: Arc<Settings>,
    phase: Phase,
    /// Nothing was seen that makes it doubtful that both ends speak FTP as the helper reads it.
    /// Without it the helper reads on, to refuse, but opens nothing.
    may_open: bool,
    /// The client asked for TLS.
    wants_tls: bool,
    /// It is TLS, in one direction at least.
    tls: Option<Box<Tls>>,
    /// The passive range is open, or it is known that none was named.
    has_range: bool,
    /// What came from the client, what came from the server.
    streams: [Stream; 2],
    /// By direction: it was met in the middle, and its first line end is still to come.
    out_of_step: [bool; 2],
    commands: CommandReader,
    replies: ReplyReader,
    /// What is shown of the dialogue, to those who asked.
    transcript: Transcript,
    pending: Queue,
    first_command_seen: bool,
    logged_in: bool,
    /// The login happened behind TLS, if it did: only the server's answers show it.
    login_unseen: bool,
    epsv_all: bool,
    user: Escaped,
    active: Option<Active>,
    audit: Audit,
    last_seen: Time,
    live_data: u32,
    opened: u32,
    used: u32,
    refused: u32,
    ended: bool,
}

/// Held segments that a segment let go.
#[derive(Debug, Default)]
pub struct Released {
    /// They leave after it, in this order.
    pub frames: Vec<OwnedFrame>,
    /// They contradict what was read meanwhile; TCP sends their bytes again.
    pub discarded: Vec<OwnedFrame>,
}

/// What is known of a frame's segment.
#[derive(Clone, Copy)]
struct Known<'a> {
    ip: &'a Ip,
    segment: &'a TcpSegment,
    checksum: ChecksumState,
    /// It did not come in fragments: it can be changed.
    is_whole: bool,
}

/// Bytes of a segment's payload that must be overwritten, as ranges of the payload.
type Overwrites = Vec<Range<usize>>;

impl Session {
    pub(super) fn begin(
        id: u64,
        control: Control,
        settings: Arc<Settings>,
        cx: &Context<'_>,
    ) -> Session {
        let server_side = match control.client_side {
            Side::Inside => "server outside",
            Side::Outside => "server inside",
        };
        let Control { client, server, .. } = control;
        cx.tell(
            id,
            EventKind::SessionOpened {
                client,
                server,
                server_side,
            },
        );
        let is_tls = settings.implicit_tls;
        Session {
            id,
            control,
            commands: CommandReader::new(client.ip(), Arc::clone(&settings)),
            settings,
            phase: if is_tls {
                Phase::Reading
            } else {
                Phase::Banner
            },
            may_open: true,
            wants_tls: false,
            tls: is_tls.then(Box::default),
            has_range: false,
            streams: Default::default(),
            out_of_step: [false; 2],
            replies: ReplyReader::default(),
            transcript: Transcript::default(),
            pending: Queue::default(),
            first_command_seen: false,
            logged_in: false,
            login_unseen: false,
            epsv_all: false,
            user: Escaped::default(),
            active: None,
            audit: Audit::default(),
            last_seen: cx.now,
            live_data: 0,
            opened: 0,
            used: 0,
            refused: 0,
            ended: false,
        }
    }

    /// A session whose beginning was not seen. Each direction begins with the first segment that
    /// is, and is read from its first line on. The session opens nothing before both are, and, if a
    /// login is demanded, before there is a new one.
    pub(super) fn begin_midstream(
        id: u64,
        control: Control,
        settings: Arc<Settings>,
        cx: &Context<'_>,
    ) -> Session {
        Session {
            phase: Phase::Reading,
            out_of_step: [true; 2],
            ..Session::begin(id, control, settings, cx)
        }
    }

    /// A SYN of this direction passed: its stream begins.
    pub fn syn(&mut self, direction: Direction, seq: u32) {
        of(&mut self.streams, direction).begin(seq);
    }

    /// Both ends began a new connection inside the old one, with these initial sequence numbers:
    /// a new session. Returns what was held of the old one.
    pub fn restart(&mut self, client: u32, server: u32, cx: &Context<'_>) -> Vec<OwnedFrame> {
        let held = self.end("the client began a new connection on the same ports", cx);
        let live_data = self.live_data;
        *self = Session::begin(self.id, self.control, Arc::clone(&self.settings), cx);
        self.live_data = live_data;
        self.syn(Direction::Original, client);
        self.syn(Direction::Reply, server);
        held
    }

    /// Reads a segment that fits the connection's windows. It may change the frame. Segments that
    /// had been held and can go now are put into `released`. `can_hold` is false for a segment
    /// that came in fragments.
    #[allow(clippy::too_many_arguments)] // a frame and what is known of it
    pub fn segment(
        &mut self,
        direction: Direction,
        frame: &mut [u8],
        ip: &Ip,
        meta: &Meta,
        can_hold: bool,
        released: &mut Released,
        cx: &Context<'_>,
    ) -> Step {
        let L4::Tcp(segment) = &ip.l4 else {
            return Step::Forward;
        };
        self.last_seen = cx.now;
        if self.is_out_of_step() {
            of(&mut self.streams, direction).begin_midstream(segment.seq);
        }
        if segment.flags.has(TcpFlags::ACK) {
            let is_out_of_step = *of(&mut self.out_of_step, direction.other());
            let other = of(&mut self.streams, direction.other());
            if is_out_of_step {
                other.catch_up(segment.ack);
            }
            other.acknowledged(segment.ack);
        }
        let carries_nothing = segment.payload_bytes == 0 && !segment.flags.has(TcpFlags::FIN);
        if carries_nothing || segment.flags.has(TcpFlags::SYN | TcpFlags::RST) {
            return Step::Forward;
        }
        let held_before = self.held_bytes();
        let known = Known {
            ip,
            segment,
            checksum: meta.checksum(),
            is_whole: can_hold,
        };
        let step = match self.in_order(direction, frame, &known, cx) {
            Step::Forward => {
                self.release(direction, released, cx);
                Step::Forward
            }
            Step::Hold if !can_hold => Step::Drop(DropReason::HelperFragment),
            Step::Hold => self.hold(direction, segment.seq, OwnedFrame::copy_of(frame, meta), cx),
            step @ (Step::Drop(_) | Step::Reset(_)) => step,
        };
        self.account_held(held_before, cx);
        step
    }

    /// The data connection that a claim of this session's expectation began was answered.
    pub fn data_begun(&mut self, from: SocketAddr, to: SocketAddr, cx: &Context<'_>) {
        self.live_data += 1;
        self.used += 1;
        let active = self.active.take_if(|active| active.tuple.port == to.port());
        self.audit_begun(from, to, active.as_ref().map(|active| active.mode));
        if let Some(active) = active {
            cx.tell(
                self.id,
                EventKind::PortUsed {
                    mode: active.mode,
                    from,
                    to,
                },
            );
        } else {
            self.range_used(from, to, cx);
        }
    }

    /// A data connection of this session ended.
    pub fn data_ended(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: [u64; 2],
        cx: &Context<'_>,
    ) {
        self.live_data = self.live_data.saturating_sub(1);
        let [bytes_sent, bytes_received] = bytes;
        cx.tell(
            self.id,
            EventKind::DataClosed {
                from,
                to,
                bytes_sent,
                bytes_received,
            },
        );
        self.audit_ended(from, to, bytes, cx);
    }

    /// Nobody used the port in time.
    pub fn expired(&mut self, tuple: &ExpectedTuple, cx: &Context<'_>) {
        if let Some(active) = self.active.take_if(|active| active.tuple == *tuple) {
            self.tell_closed(&active, "nobody used it in time", cx);
        }
    }

    /// Whether data connections live that need this session, though nothing was said on it: large
    /// files take long. At most a day after the last word.
    #[must_use]
    pub fn is_needed(&self, now: Time) -> bool {
        self.live_data > 0 && now.since(self.last_seen) < MAX_SILENCE
    }

    /// Commands refused so far.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.refused
    }

    /// Whether [`Session::end`] was called.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// The control connection is over: nothing it announced stays open. Returns what was held.
    pub fn end(&mut self, why: &'static str, cx: &Context<'_>) -> Vec<OwnedFrame> {
        self.shut("the control connection ended", cx);
        self.may_open = false;
        self.audit_over(cx);
        if !std::mem::replace(&mut self.ended, true) {
            let (ports_opened, ports_used, refused) = (self.opened, self.used, self.refused);
            cx.tell(
                self.id,
                EventKind::SessionClosed {
                    why,
                    ports_opened,
                    ports_used,
                    refused,
                },
            );
        }
        let held_before = self.held_bytes();
        let held = self
            .streams
            .iter_mut()
            .flat_map(Stream::drain_held)
            .collect();
        self.account_held(held_before, cx);
        held
    }

    fn hold(
        &mut self,
        direction: Direction,
        seq: u32,
        frame: OwnedFrame,
        cx: &Context<'_>,
    ) -> Step {
        if self.ended {
            return Step::Drop(DropReason::HelperHeld);
        }
        let has_room = cx.held_bytes.load(Relaxed) < MAX_HELD_BYTES_IN_ALL;
        if has_room && of(&mut self.streams, direction).hold(seq, frame) {
            Step::Hold
        } else {
            Step::Drop(DropReason::HelperGap)
        }
    }

    fn held_bytes(&self) -> usize {
        self.streams.iter().map(Stream::held_bytes).sum()
    }

    fn account_held(&self, before: usize, cx: &Context<'_>) {
        let now = self.held_bytes();
        if now >= before {
            cx.held_bytes.fetch_add(now - before, Relaxed);
        } else {
            cx.held_bytes.fetch_sub(before - now, Relaxed);
        }
    }

    fn in_order(
        &mut self,
        direction: Direction,
        frame: &mut [u8],
        known: &Known<'_>,
        cx: &Context<'_>,
    ) -> Step {
        let Known {
            ip,
            segment,
            checksum,
            is_whole,
        } = *known;
        let range = ip.payload();
        let payload = frame.get(range.clone()).unwrap_or_default();
        let mut overwrites;
        let mut clear_urgent = false;
        if self.phase == Phase::Reset {
            return Step::Reset(segment.seq);
        }
        if self.phase == Phase::Blind {
            // Bytes refused before still must not arrive when TCP sends them again.
            let seq = segment.seq;
            overwrites = of(&mut self.streams, direction).to_overwrite(seq, payload.len());
        } else {
            let own = of(&mut self.streams, direction);
            let new_from = match own.arrival(segment.seq, payload) {
                Arrival::New(from) => from,
                Arrival::Gap => return Step::Hold,
                Arrival::Changed => return Step::Drop(DropReason::HelperRewrite),
                Arrival::Full => return Step::Drop(DropReason::HelperGap),
            };
            overwrites = own.to_overwrite(segment.seq, new_from);
            // In TLS nobody takes a byte out of the stream, and servers send none that way.
            let is_read = direction == Direction::Original && self.tls.is_none();
            let urgent = Urgent {
                segment,
                payload,
                compared_from: own.acknowledged_from(segment.seq),
                new_from,
                is_behind_iac: self.commands.is_behind_iac(),
            };
            clear_urgent = segment.flags.has(TcpFlags::URG) && !(is_read && urgent.is_telnet());
            let new = payload.get(new_from..).unwrap_or_default();
            let refused = match direction {
                Direction::Original => self.client_bytes(new, cx),
                Direction::Reply => {
                    self.server_bytes(new, cx);
                    Overwrites::new()
                }
            };
            let new_seq = segment.seq.wrapping_add(new_from as u32);
            if self.phase == Phase::Reset {
                return Step::Reset(new_seq);
            }
            if !is_whole && !refused.is_empty() {
                self.reset(cx);
                return Step::Reset(new_seq);
            }
            let own = of(&mut self.streams, direction);
            for range in refused {
                let seq = |at: usize| new_seq.wrapping_add(at as u32);
                own.overwrote(seq(range.start)..seq(range.end));
                overwrites.push(range.start + new_from..range.end + new_from);
            }
            let end = segment.seq.wrapping_add(segment.payload_bytes);
            let fin = segment.flags.has(TcpFlags::FIN) && own.is_next(end, new.len());
            own.advance(new, fin);
            if fin {
                self.shut("the control connection ended", cx);
                self.may_open = false;
            }
        }
        for part in overwrites {
            edit::overwrite(
                frame,
                ip,
                checksum,
                range.start + part.start..range.start + part.end,
                FILL,
            );
        }
        if clear_urgent {
            edit::clear_urgent(frame, ip, checksum);
        }
        Step::Forward
    }

    /// Lets go of held segments that now continue the stream.
    fn release(&mut self, direction: Direction, released: &mut Released, cx: &Context<'_>) {
        loop {
            if self.phase == Phase::Blind {
                released
                    .frames
                    .extend(of(&mut self.streams, direction).drain_held());
                return;
            }
            let Some(mut held) = of(&mut self.streams, direction).next_held() else {
                return;
            };
            let meta = held.meta();
            let Ok(packet) = crate::wire::parse(held.frame()) else {
                continue;
            };
            let Some(ip) = packet.ip else { continue };
            let L4::Tcp(segment) = &ip.l4 else { continue };
            let known = Known {
                ip: &ip,
                segment,
                checksum: meta.checksum(),
                is_whole: true,
            };
            let step = self.in_order(direction, held.frame_mut(), &known, cx);
            if step == Step::Forward {
                released.frames.push(held);
            } else {
                released.discarded.push(held);
            }
        }
    }

    pub(super) fn is_out_of_step(&self) -> bool {
        self.out_of_step.contains(&true)
    }
}

/// What belongs to a direction: the client's comes first.
fn of<T>(both: &mut [T; 2], direction: Direction) -> &mut T {
    let [client, server] = both;
    match direction {
        Direction::Original => client,
        Direction::Reply => server,
    }
}

/// An urgent byte, which a receiver may take out of the stream, so that it would read other lines
/// than the helper (RFC 6093).
struct Urgent<'a> {
    segment: &'a TcpSegment,
    payload: &'a [u8],
    /// What lies before was acknowledged, and may be anything.
    compared_from: usize,
    /// What lies before was read already.
    new_from: usize,
    /// What lies right before the new bytes is an IAC.
    is_behind_iac: bool,
}

impl Urgent<'_> {
    /// It is an IAC or the command behind one: what FTP sends urgently (RFC 959 section 4.1.3), and
    /// the helper takes out, too.
    fn is_telnet(&self) -> bool {
        let at = usize::from(self.segment.urgent).checked_sub(1);
        let Some(at) = at.filter(|&at| at >= self.compared_from) else {
            return false;
        };
        let before = self.payload.get(..at).unwrap_or_default();
        let iacs = before.iter().rev().take_while(|&&b| b == IAC).count();
        let is_first = iacs == before.len() && self.new_from == 0 && self.is_behind_iac;
        let is_behind_iac = (iacs + usize::from(is_first)) % 2 == 1;
        match self.payload.get(at) {
            Some(&IAC) => true,
            Some(&byte) => byte >= FIRST_TELNET_COMMAND && is_behind_iac,
            None => false,
        }
    }
}
