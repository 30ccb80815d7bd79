//! Tables of segments: what each is judged to be, and the state behind it.

mod ending;
mod opening;
mod picked_up;
mod windows;

use super::Judgement::{self, *};
use super::TcpState::*;
use super::*;
use crate::conntrack::Direction::{Original, Reply};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN | TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;

/// Initial sequence numbers close to the wrap, so that every test crosses it.
const C: u32 = u32::MAX - 5;
const S: u32 = u32::MAX - 1;
const WINDOW: u32 = 1000;

const OUT_OF_WINDOW: Judgement = Invalid(DropReason::TcpWindow);
const OUT_OF_STATE: Judgement = Invalid(DropReason::TcpState);
const BAD_RESET: Judgement = Invalid(DropReason::TcpRst);

fn segment(flags: u8, seq: u32, ack: u32, payload_bytes: u32) -> TcpSegment {
    TcpSegment {
        src_port: 1,
        dst_port: 2,
        seq,
        ack,
        flags: TcpFlags(flags),
        window: WINDOW as u16,
        payload_bytes,
        ..TcpSegment::default()
    }
}

fn c(offset: u32) -> u32 {
    C.wrapping_add(offset)
}

fn s(offset: u32) -> u32 {
    S.wrapping_add(offset)
}

fn begun() -> Tcp {
    Tcp::begin(&segment(SYN, C, 0, 0)).unwrap()
}

fn established() -> Tcp {
    let mut tcp = begun();
    tcp.sees(&[
        server(SYN | ACK, S, c(1), 0).is(Valid, SynRecv),
        client(ACK, c(1), s(1), 0).is(Valid, Established),
    ]);
    tcp
}

/// A segment and who sends it.
struct Sent {
    direction: Direction,
    segment: TcpSegment,
}

fn client(flags: u8, seq: u32, ack: u32, payload_bytes: u32) -> Sent {
    Sent {
        direction: Original,
        segment: segment(flags, seq, ack, payload_bytes),
    }
}

fn server(flags: u8, seq: u32, ack: u32, payload_bytes: u32) -> Sent {
    Sent {
        direction: Reply,
        segment: segment(flags, seq, ack, payload_bytes),
    }
}

impl Sent {
    fn scaled(mut self, scale: Option<u8>) -> Sent {
        self.segment.window_scale = scale;
        self
    }

    fn permitting_sack(mut self, permitted: bool) -> Sent {
        self.segment.sack_permitted = permitted;
        self
    }

    fn sack(mut self, end: u32) -> Sent {
        self.segment.sack_end = Some(end);
        self
    }

    /// A line of a table.
    fn is(&self, judgement: Judgement, state: TcpState) -> Step {
        (self.direction, self.segment.clone(), judgement, state)
    }
}

/// What the segment is judged to be, and the state behind it.
type Step = (Direction, TcpSegment, Judgement, TcpState);

impl Tcp {
    #[track_caller]
    fn sees(&mut self, steps: &[Step]) {
        for (at, (direction, segment, judgement, state)) in steps.iter().enumerate() {
            let got = (self.update(*direction, segment), self.state());
            assert_eq!(got, (*judgement, *state), "step {at}: {segment:?}");
        }
    }
}

#[test]
fn only_a_syn_begins_a_connection() {
    for flags in [ACK, SYN | ACK, FIN, RST, RST | ACK] {
        assert_eq!(
            Tcp::begin(&segment(flags, 1, 1, 0)),
            Err(DropReason::TcpNotSyn)
        );
    }
}

#[test]
fn a_connection_lives_and_ends() {
    established().sees(&[
        client(ACK, c(1), s(1), 100).is(Valid, Established),
        server(ACK, s(1), c(101), 50).is(Valid, Established),
        client(FIN, c(101), s(51), 0).is(Valid, FinWait),
        server(ACK, s(51), c(102), 0).is(Valid, CloseWait),
        server(ACK, s(51), c(102), 10).is(Valid, CloseWait),
        server(FIN, s(61), c(102), 0).is(Valid, LastAck),
        client(ACK, c(102), s(62), 0).is(Valid, TimeWait),
    ]);
}
