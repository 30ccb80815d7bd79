//! The bounds of the TCP tracker, to the byte: data outside them is no data to anybody.

use lotus::conntrack::Direction::{Original, Reply};
use lotus::conntrack::{Judgement, Tcp, TcpState};
use lotus::observe::DropReason;
use lotus::wire::{TcpFlags, TcpSegment};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const WINDOW: u16 = 1_000;

/// Initial sequence numbers around which arithmetic goes wrong first.
const FIRST: [u32; 5] = [0, 1_000, i32::MAX as u32 - 3, 2_900_000_000, u32::MAX - 3];

fn segment(flags: u8, seq: u32, ack: u32, payload_bytes: u32) -> TcpSegment {
    TcpSegment {
        src_port: 1,
        dst_port: 2,
        seq,
        ack,
        flags: TcpFlags(flags),
        window: WINDOW,
        payload_bytes,
        ..TcpSegment::default()
    }
}

/// A connection after its handshake. Both ends' first bytes have these numbers.
fn established(client: u32, server: u32) -> Tcp {
    let (c, s) = (client.wrapping_sub(1), server.wrapping_sub(1));
    let mut tcp = Tcp::begin(&segment(SYN, c, 0, 0)).expect("a SYN");
    for (direction, segment) in [
        (Reply, segment(SYN | ACK, s, client, 0)),
        (Original, segment(ACK, client, server, 0)),
    ] {
        assert_eq!(tcp.update(direction, &segment), Judgement::Valid);
    }
    tcp
}

#[test]
fn evasion_window_ends_at_its_byte_whatever_the_numbers() {
    for client in FIRST {
        for server in FIRST {
            for (direction, own, other) in [(Original, client, server), (Reply, server, client)] {
                // Each on a connection of its own: (seq, bytes, judgement).
                for (by, bytes, expected) in [
                    (0, 1, Judgement::Valid),
                    (1_000, 1, Judgement::Valid), // a window probe
                    (1_001, 1, Judgement::Ignored),
                    (2_000, 1, Judgement::Ignored),
                    (2_001, 1, Judgement::Invalid(DropReason::TcpWindow)),
                    (50_000, 1, Judgement::Invalid(DropReason::TcpWindow)),
                    (-1_001, 1, Judgement::Valid), // ends a window before
                    (-1_002, 1, Judgement::Ignored),
                    (-2_001, 1, Judgement::Ignored),
                    (-2_002, 1, Judgement::Invalid(DropReason::TcpWindow)),
                ] {
                    let mut tcp = established(client, server);
                    let seq = own.wrapping_add_signed(by);
                    let judgement = tcp.update(direction, &segment(ACK, seq, other, bytes));
                    assert_eq!(judgement, expected, "{direction:?} {own} {by:+}");
                }
            }
        }
    }
}

#[test]
fn evasion_acknowledgment_of_what_was_not_sent_is_nobodys() {
    for client in FIRST {
        for server in FIRST {
            for (direction, own, other) in [(Original, client, server), (Reply, server, client)] {
                for (by, expected) in [
                    (0, Judgement::Valid),
                    (1, Judgement::Invalid(DropReason::TcpWindow)),
                    (-66_000, Judgement::Valid),
                    (-66_001, Judgement::Invalid(DropReason::TcpWindow)),
                ] {
                    let mut tcp = established(client, server);
                    let ack = other.wrapping_add_signed(by);
                    let judgement = tcp.update(direction, &segment(ACK, own, ack, 1));
                    assert_eq!(judgement, expected, "{direction:?} {other} {by:+}");
                }
            }
        }
    }
}

#[test]
fn evasion_what_a_probe_overshoots_widens_the_window_by_no_more() {
    let (client, server) = (10_000, 20_000);
    for (by, expected) in [(-1_010, Judgement::Valid), (-1_011, Judgement::Ignored)] {
        let mut tcp = established(client, server);
        for (seq, bytes) in [(client, 1_000), (client + 1_000, 10)] {
            let judgement = tcp.update(Original, &segment(ACK, seq, server, bytes));
            assert_eq!(judgement, Judgement::Valid);
        }
        // What ends so far behind the end of all that was sent.
        let end = (client + 1_010).wrapping_add_signed(by);
        let judgement = tcp.update(Original, &segment(ACK, end - 5, server, 5));
        assert_eq!(judgement, expected, "{by}");
    }
}

#[test]
fn evasion_handshake_is_over_when_both_ends_have_acknowledged() {
    let mut tcp = Tcp::begin(&segment(SYN, 100, 0, 0)).expect("a SYN");
    for (direction, segment, state) in [
        (Reply, segment(SYN | ACK, 200, 101, 0), TcpState::SynRecv),
        // The server alone, be it with an acknowledgment or with bytes, is not both.
        (Reply, segment(ACK, 201, 101, 0), TcpState::SynRecv),
        (Reply, segment(ACK, 201, 101, 10), TcpState::SynRecv),
        (Original, segment(ACK, 101, 201, 0), TcpState::Established),
    ] {
        assert_eq!(tcp.update(direction, &segment), Judgement::Valid);
        assert_eq!(tcp.state(), state);
    }
}
