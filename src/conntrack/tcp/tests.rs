use super::Judgement::{self, *};
use super::*;
use crate::conntrack::Direction::{Original, Reply};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN | TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;

/// Initial sequence numbers close to the wrap, so that every test crosses it.
const C: u32 = u32::MAX - 5;
const S: u32 = u32::MAX - 1;
const WINDOW: u16 = 1000;

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
    assert_eq!(tcp.update(Reply, &segment(SYN | ACK, S, c(1), 0)), Valid);
    assert_eq!(tcp.state(), TcpState::SynRecv);
    assert_eq!(tcp.update(Original, &segment(ACK, c(1), s(1), 0)), Valid);
    assert_eq!(tcp.state(), TcpState::Established);
    tcp
}

#[track_caller]
fn expect(tcp: &mut Tcp, steps: &[(Direction, TcpSegment, Judgement, TcpState)]) {
    for (at, (direction, segment, judgement, state)) in steps.iter().enumerate() {
        assert_eq!(
            tcp.update(*direction, segment),
            *judgement,
            "step {at}: {segment:?}"
        );
        assert_eq!(tcp.state(), *state, "step {at}: {segment:?}");
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
    let mut tcp = established();
    expect(
        &mut tcp,
        &[
            (
                Original,
                segment(ACK, c(1), s(1), 100),
                Valid,
                TcpState::Established,
            ),
            (
                Reply,
                segment(ACK, s(1), c(101), 50),
                Valid,
                TcpState::Established,
            ),
            (
                Original,
                segment(FIN, c(101), s(51), 0),
                Valid,
                TcpState::FinWait,
            ),
            (
                Reply,
                segment(ACK, s(51), c(102), 0),
                Valid,
                TcpState::CloseWait,
            ),
            (
                Reply,
                segment(ACK, s(51), c(102), 10),
                Valid,
                TcpState::CloseWait,
            ),
            (
                Reply,
                segment(FIN, s(61), c(102), 0),
                Valid,
                TcpState::LastAck,
            ),
            (
                Original,
                segment(ACK, c(102), s(62), 0),
                Valid,
                TcpState::TimeWait,
            ),
        ],
    );
}

#[test]
fn a_retransmitted_fin_is_no_second_one() {
    let mut tcp = established();
    expect(
        &mut tcp,
        &[
            (
                Original,
                segment(FIN, c(1), s(1), 0),
                Valid,
                TcpState::FinWait,
            ),
            (
                Original,
                segment(FIN, c(1), s(1), 0),
                Valid,
                TcpState::FinWait,
            ),
            (Reply, segment(FIN, s(1), c(1), 0), Valid, TcpState::LastAck),
            (Reply, segment(ACK, s(2), c(2), 0), Valid, TcpState::LastAck),
            (
                Original,
                segment(ACK, c(2), s(2), 0),
                Valid,
                TcpState::TimeWait,
            ),
        ],
    );
}

#[test]
fn a_retransmitted_syn_renews_nothing() {
    let mut tcp = begun();
    expect(
        &mut tcp,
        &[
            (
                Original,
                segment(SYN, C, 0, 0),
                ValidNoRenewal,
                TcpState::SynSent,
            ),
            (
                Original,
                segment(SYN, C ^ 0xff00, 0, 0),
                ValidNoRenewal,
                TcpState::SynSent,
            ),
            // The answer must acknowledge the newest one.
            (
                Reply,
                segment(SYN | ACK, S, c(1), 0),
                Ignored,
                TcpState::SynSent,
            ),
            (
                Reply,
                segment(SYN | ACK, S, (C ^ 0xff00) + 1, 0),
                Valid,
                TcpState::SynRecv,
            ),
            (
                Reply,
                segment(SYN | ACK, S, (C ^ 0xff00) + 1, 0),
                ValidNoRenewal,
                TcpState::SynRecv,
            ),
            (
                Reply,
                segment(SYN | ACK, S, c(1), 0),
                Ignored,
                TcpState::SynRecv,
            ),
        ],
    );
}

#[test]
fn simultaneous_open() {
    let mut tcp = begun();
    expect(
        &mut tcp,
        &[
            (Reply, segment(SYN, S, 0, 0), Valid, TcpState::SynSent2),
            (
                Original,
                segment(SYN | ACK, C, s(1), 0),
                Valid,
                TcpState::SynRecv,
            ),
            (
                Reply,
                segment(SYN | ACK, S, c(1), 0),
                ValidNoRenewal,
                TcpState::SynRecv,
            ),
            (
                Reply,
                segment(ACK, s(1), c(1), 5),
                Valid,
                TcpState::Established,
            ),
            (
                Original,
                segment(ACK, c(1), s(6), 5),
                Valid,
                TcpState::Established,
            ),
        ],
    );
}

#[test]
fn data_before_the_answer_is_invalid() {
    let mut tcp = begun();
    expect(
        &mut tcp,
        &[
            (
                Original,
                segment(ACK, c(1), s(1), 5),
                Invalid(DropReason::TcpState),
                TcpState::SynSent,
            ),
            (
                Reply,
                segment(ACK, s(1), c(1), 5),
                Invalid(DropReason::TcpState),
                TcpState::SynSent,
            ),
        ],
    );
}

#[test]
fn inequality_one_nothing_past_the_offered_window() {
    let mut tcp = established();
    let past = u32::from(WINDOW) + 1;
    let far = segment(ACK, c(1 + past + 2000), s(1), 10);
    assert_eq!(tcp.update(Original, &far), Invalid(DropReason::TcpWindow));
    // By less than a window, the ends may know better: it passes and moves nothing.
    assert_eq!(
        tcp.update(Original, &segment(ACK, c(1 + past), s(1), 10)),
        Ignored
    );
    // The receiver may have taken it.
    assert_eq!(
        tcp.update(Reply, &segment(ACK, s(1), c(1 + past + 10), 0)),
        Valid
    );
    let edge = segment(ACK, c(1), s(1), u32::from(WINDOW));
    assert_eq!(tcp.update(Original, &edge), Valid);
}

#[test]
fn inequality_two_nothing_older_than_a_window() {
    let mut tcp = established();
    for step in 0..10 {
        let (seq, ack) = (c(1 + step * 1000), s(1));
        assert_eq!(tcp.update(Original, &segment(ACK, seq, ack, 1000)), Valid);
        let seen = segment(ACK, s(1), c(1 + (step + 1) * 1000), 0);
        assert_eq!(tcp.update(Reply, &seen), Valid);
    }
    assert_eq!(
        tcp.update(Original, &segment(ACK, c(9001), s(1), 1000)),
        Valid
    );
    assert_eq!(
        tcp.update(Original, &segment(ACK, c(8000), s(1), 900)),
        Ignored
    );
    let old = segment(ACK, c(1), s(1), 1000);
    assert_eq!(tcp.update(Original, &old), Invalid(DropReason::TcpWindow));
}

#[test]
fn inequality_three_nothing_acknowledged_that_was_not_sent() {
    let mut tcp = established();
    let lie = segment(ACK, c(1), s(2), 10);
    assert_eq!(tcp.update(Original, &lie), Invalid(DropReason::TcpWindow));
}

/// A connection whose SYN and SYN-ACK permit SACK, or not.
fn with_sack(client: bool, server: bool) -> Tcp {
    let permits = |sack_permitted, segment| TcpSegment {
        sack_permitted,
        ..segment
    };
    let mut tcp = Tcp::begin(&permits(client, segment(SYN, C, 0, 0))).unwrap();
    let answer = permits(server, segment(SYN | ACK, S, c(1), 0));
    assert_eq!(tcp.update(Reply, &answer), Valid);
    assert_eq!(tcp.update(Original, &segment(ACK, c(1), s(1), 0)), Valid);
    tcp
}

fn sack(edge: u32) -> TcpSegment {
    TcpSegment {
        sack_end: Some(edge),
        ..segment(ACK, c(1), s(1), 0)
    }
}

#[test]
fn inequality_three_is_about_sack_if_its_receiver_has_permitted_it() {
    for client in [false, true] {
        let mut tcp = with_sack(client, true);
        let lie = Invalid(DropReason::TcpWindow);
        assert_eq!(tcp.update(Original, &sack(s(100))), lie);
        assert_eq!(tcp.update(Reply, &segment(ACK, s(1), c(1), 100)), Valid);
        assert_eq!(tcp.update(Original, &sack(s(100))), Valid);

        // Whoever has not permitted it does not read it.
        let mut tcp = with_sack(client, false);
        let offered = tcp.peers[1].max_end;
        assert_eq!(tcp.update(Original, &sack(s(100))), Valid);
        assert_eq!(tcp.peers[1].max_end, offered);
    }
}

#[test]
fn a_connection_that_was_picked_up_is_taken_to_permit_sack() {
    let mut tcp = picked_up();
    assert_eq!(tcp.update(Original, &sack(s(100))), Valid);
    assert_eq!(tcp.end(Reply), s(100));
    assert_eq!(tcp.update(Reply, &segment(ACK, s(100), c(101), 0)), Valid);
    assert_eq!(tcp.update(Original, &sack(s(200))), Valid);
    assert_eq!(tcp.end(Reply), s(200));
}

#[test]
fn a_connection_that_begins_anew_has_what_its_own_syns_permit() {
    for permitted in [false, true] {
        let mut tcp = with_sack(!permitted, !permitted);
        let again = TcpSegment {
            sack_permitted: permitted,
            ..segment(SYN, 500_000, 0, 0)
        };
        assert_eq!(tcp.update(Original, &again), Ignored);
        let answer = segment(SYN | ACK, 900_000, 500_001, 0);
        assert_eq!(tcp.update(Reply, &answer), Restarted);
        let lie = TcpSegment {
            sack_end: Some(500_100),
            ..segment(ACK, 900_001, 500_001, 0)
        };
        let judgement = tcp.update(Reply, &lie);
        assert_eq!(judgement != Valid, permitted);
    }
}

#[test]
fn inequality_four_no_ancient_acknowledgment() {
    let mut tcp = established();
    let ancient = segment(ACK, c(1), s(1).wrapping_sub(MIN_ACK_WINDOW_BYTES + 1), 10);
    assert_eq!(
        tcp.update(Original, &ancient),
        Invalid(DropReason::TcpWindow)
    );
    let old = segment(ACK, c(1), s(1).wrapping_sub(MIN_ACK_WINDOW_BYTES - 1), 10);
    assert_eq!(tcp.update(Original, &old), Valid);
}

#[test]
fn windows_are_scaled_when_both_ends_offer_it() {
    let scaled = |flags, seq, ack, scale| TcpSegment {
        window_scale: scale,
        ..segment(flags, seq, ack, 0)
    };
    let reach = |client, server| {
        let mut tcp = Tcp::begin(&scaled(SYN, C, 0, client)).unwrap();
        assert_eq!(
            tcp.update(Reply, &scaled(SYN | ACK, S, c(1), server)),
            Valid
        );
        assert_eq!(tcp.update(Original, &segment(ACK, c(1), s(1), 0)), Valid);
        // How far may the server go?
        let mut far = 1;
        while tcp
            .clone()
            .update(Reply, &segment(ACK, s(1 + far), c(1), 1))
            == Valid
        {
            far *= 2;
        }
        far
    };
    assert_eq!(reach(None, None), 1024);
    assert_eq!(reach(Some(5), None), 1024);
    assert_eq!(reach(Some(5), Some(0)), 32_768);
}

#[test]
fn resets() {
    let mut tcp = established();
    expect(
        &mut tcp,
        &[
            (
                Reply,
                segment(ACK, s(1), c(1), 100),
                Valid,
                TcpState::Established,
            ),
            (
                Original,
                segment(ACK, c(1), s(101), 0),
                Valid,
                TcpState::Established,
            ),
            // Outside the window: forged. Inside, but not exact: maybe.
            (
                Reply,
                segment(RST, s(50), 0, 0),
                Invalid(DropReason::TcpRst),
                TcpState::Established,
            ),
            (
                Reply,
                segment(RST, s(5000), 0, 0),
                Invalid(DropReason::TcpRst),
                TcpState::Established,
            ),
            (
                Reply,
                segment(RST, s(500), 0, 0),
                DoubtfulReset,
                TcpState::Established,
            ),
            (Reply, segment(RST, s(101), 0, 0), Valid, TcpState::Close),
            (
                Original,
                segment(SYN, c(70_000), 0, 0),
                Reopen,
                TcpState::Close,
            ),
        ],
    );
}

#[test]
fn a_reset_answers_a_syn_only_if_it_acknowledges_it() {
    let mut tcp = begun();
    expect(
        &mut tcp,
        &[
            (
                Reply,
                segment(RST, 0, 0, 0),
                Invalid(DropReason::TcpRst),
                TcpState::SynSent,
            ),
            (
                Reply,
                segment(RST | ACK, 0, c(2), 0),
                Invalid(DropReason::TcpRst),
                TcpState::SynSent,
            ),
            (
                Reply,
                segment(RST | ACK, 0, c(1), 0),
                Valid,
                TcpState::Close,
            ),
        ],
    );
}

#[test]
fn a_stale_connection_of_the_servers_can_be_cleared() {
    // RFC 9293 section 3.5.1: SYN, challenge ACK, RST with its number, SYN again.
    let mut tcp = begun();
    expect(
        &mut tcp,
        &[
            (
                Reply,
                segment(ACK, 77_000, 88_000, 0),
                Ignored,
                TcpState::SynSent,
            ),
            (
                Original,
                segment(RST, 88_000, 0, 0),
                DoubtfulReset,
                TcpState::SynSent,
            ),
            (
                Original,
                segment(SYN, C, 0, 0),
                ValidNoRenewal,
                TcpState::SynSent,
            ),
            (
                Reply,
                segment(SYN | ACK, S, c(1), 0),
                Valid,
                TcpState::SynRecv,
            ),
        ],
    );
}

#[test]
fn a_syn_in_a_live_connection_passes_and_moves_nothing() {
    let mut tcp = established();
    expect(
        &mut tcp,
        &[
            (
                Original,
                segment(SYN, 500_000, 0, 0),
                Ignored,
                TcpState::Established,
            ),
            // A challenge ACK, and the old connection goes on.
            (
                Reply,
                segment(ACK, s(1), c(1), 0),
                Valid,
                TcpState::Established,
            ),
            (
                Original,
                segment(ACK, c(1), s(1), 10),
                Valid,
                TcpState::Established,
            ),
        ],
    );
}

#[test]
fn a_client_that_began_anew_is_followed() {
    let mut tcp = established();
    expect(
        &mut tcp,
        &[
            (
                Original,
                segment(SYN, 500_000, 0, 0),
                Ignored,
                TcpState::Established,
            ),
            (
                Reply,
                segment(SYN | ACK, 900_000, 500_001, 0),
                Restarted,
                TcpState::SynRecv,
            ),
            (
                Original,
                segment(ACK, 500_001, 900_001, 10),
                Valid,
                TcpState::Established,
            ),
            (
                Reply,
                segment(ACK, 900_001, 500_011, 10),
                Valid,
                TcpState::Established,
            ),
        ],
    );
}

#[test]
fn quoted_numbers_must_be_in_flight() {
    let mut tcp = established();
    assert_eq!(tcp.update(Original, &segment(ACK, c(1), s(1), 100)), Valid);
    assert!(tcp.in_flight(Original, c(1)));
    assert!(tcp.in_flight(Original, c(100)));
    assert!(!tcp.in_flight(Original, c(5000)));
    assert_eq!(tcp.update(Reply, &segment(ACK, s(1), c(101), 0)), Valid);
    assert!(!tcp.in_flight(Original, c(1)));
}

#[test]
fn a_server_need_not_take_the_data_of_a_syn() {
    for taken in [0, 100] {
        let mut tcp = Tcp::begin(&segment(SYN, C, 0, 100)).unwrap();
        let mut refused = tcp;
        expect(
            &mut tcp,
            &[
                (
                    Reply,
                    segment(SYN | ACK, S, c(1 + taken), 0),
                    Valid,
                    TcpState::SynRecv,
                ),
                (
                    Original,
                    segment(ACK, c(1), s(1), 100),
                    Valid,
                    TcpState::Established,
                ),
                (
                    Reply,
                    segment(ACK, s(1), c(101), 0),
                    Valid,
                    TcpState::Established,
                ),
            ],
        );
        expect(
            &mut refused,
            &[(
                Reply,
                segment(RST | ACK, 0, c(1 + taken), 0),
                Valid,
                TcpState::Close,
            )],
        );
    }
}

#[test]
fn a_syn_that_is_sent_again_without_its_data_takes_nothing_back() {
    let mut tcp = Tcp::begin(&segment(SYN, C, 0, 100)).unwrap();
    expect(
        &mut tcp,
        &[
            (
                Original,
                segment(SYN, C, 0, 0),
                ValidNoRenewal,
                TcpState::SynSent,
            ),
            (
                Reply,
                segment(SYN | ACK, S, c(101), 0),
                Valid,
                TcpState::SynRecv,
            ),
            (
                Original,
                segment(ACK, c(101), s(1), 0),
                Valid,
                TcpState::Established,
            ),
        ],
    );
}

#[test]
fn another_answer_to_the_next_syn_counts_if_the_first_one_was_lost() {
    let mut tcp = begun();
    expect(
        &mut tcp,
        &[
            (
                Reply,
                segment(SYN | ACK, S, c(1), 0),
                Valid,
                TcpState::SynRecv,
            ),
            (Original, segment(SYN, C, 0, 0), Ignored, TcpState::SynRecv),
            (
                Reply,
                segment(SYN | ACK, s(777_000), c(1), 0),
                Valid,
                TcpState::SynRecv,
            ),
            (
                Original,
                segment(ACK, c(1), s(777_001), 0),
                Valid,
                TcpState::Established,
            ),
            // From now on it does not.
            (
                Reply,
                segment(SYN | ACK, S, c(1), 0),
                Ignored,
                TcpState::Established,
            ),
        ],
    );
}

#[test]
fn keep_alives_pass_and_move_nothing() {
    let mut tcp = established();
    assert_eq!(tcp.update(Original, &segment(ACK, c(1), s(1), 100)), Valid);
    assert_eq!(tcp.update(Reply, &segment(ACK, s(1), c(101), 50)), Valid);
    assert_eq!(tcp.update(Original, &segment(ACK, c(101), s(51), 0)), Valid);
    for bytes in [0, 1] {
        // RFC 9293 section 3.8.4: one number before the next one, with or without a byte.
        let alive = segment(ACK, c(100), s(51), bytes);
        assert_eq!(tcp.update(Original, &alive), Valid);
        assert_eq!(tcp.end(Original), c(101));
        assert_eq!(tcp.update(Reply, &segment(ACK, s(51), c(101), 0)), Valid);
    }
}

#[test]
fn a_closed_window_may_be_probed() {
    let mut tcp = established();
    let full = TcpSegment {
        window: 0,
        ..segment(ACK, s(1), c(1 + 1000), 0)
    };
    let offered = segment(ACK, c(1), s(1), u32::from(WINDOW));
    assert_eq!(tcp.update(Original, &offered), Valid);
    assert_eq!(tcp.update(Reply, &full), Valid);
    assert!(tcp.closed_window());
    let probe = segment(ACK, c(1001), s(1), 1);
    assert_eq!(tcp.update(Original, &probe), Valid);
    assert_eq!(tcp.update(Reply, &full), Valid);
    // The probe's byte was taken.
    assert_eq!(tcp.update(Reply, &segment(ACK, s(1), c(1002), 0)), Valid);
}

#[test]
fn a_reset_of_the_client_acknowledges_nothing_that_was_never_sent() {
    let reset = |seq, ack| segment(RST | ACK, seq, ack, 0);
    // Nobody has sent anything yet, whatever the sign of the difference.
    for ack in [1, s(1), 0x9000_0000] {
        for seq in [c(1), 0, c(500)] {
            let mut tcp = begun();
            let judgement = tcp.update(Original, &reset(seq, ack));
            assert_eq!(judgement, Invalid(DropReason::TcpRst));
            assert_eq!(tcp.state(), TcpState::SynSent);
        }
    }
    // Some write 0 there. Without an acknowledgment the number alone counts.
    for (reset, judgement) in [
        (reset(c(1), 0), Valid),
        (reset(c(2), 0), DoubtfulReset),
        (segment(RST, c(1), 0, 0), Valid),
    ] {
        assert_eq!(begun().update(Original, &reset), judgement);
    }

    // A challenge ACK was sent.
    for (answer, judgement) in [
        (reset(c(1), s(70)), Valid),
        (reset(88_000, s(70)), DoubtfulReset),
        (reset(c(1), s(71)), Invalid(DropReason::TcpRst)),
    ] {
        let mut tcp = begun();
        let challenge = segment(ACK, s(70), 88_000, 0);
        assert_eq!(tcp.update(Reply, &challenge), Ignored);
        assert_eq!(tcp.update(Original, &answer), judgement);
    }
    // Or a SYN (simultaneous open).
    for (ack, judgement) in [(s(1), Valid), (s(3), Invalid(DropReason::TcpRst))] {
        let mut tcp = begun();
        assert_eq!(tcp.update(Reply, &segment(SYN, S, 0, 0)), Valid);
        assert_eq!(tcp.update(Original, &reset(c(1), ack)), judgement);
    }
}

#[test]
fn a_server_may_answer_what_the_client_has_reset() {
    for simultaneous in [false, true] {
        let mut tcp = begun();
        if simultaneous {
            assert_eq!(tcp.update(Reply, &segment(SYN, S, 0, 0)), Valid);
        }
        expect(
            &mut tcp,
            &[
                (Original, segment(RST, c(1), 0, 0), Valid, TcpState::Close),
                (
                    Reply,
                    segment(SYN | ACK, S, c(2), 0),
                    Ignored,
                    TcpState::Close,
                ),
                (
                    Reply,
                    segment(SYN | ACK, S, c(1), 0),
                    Valid,
                    TcpState::SynRecv,
                ),
            ],
        );
    }
    // What was answered and then reset is over.
    let mut tcp = established();
    assert_eq!(tcp.update(Original, &segment(RST, c(1), 0, 0)), Valid);
    assert_eq!(tcp.update(Reply, &segment(SYN | ACK, S, c(1), 0)), Ignored);
    assert_eq!(tcp.state(), TcpState::Close);
}

#[test]
fn a_challenge_ack_passes_and_the_reset_that_answers_it_closes() {
    // RFC 5961 section 4: a SYN in a live connection, from a client that has forgotten it.
    let mut tcp = established();
    expect(
        &mut tcp,
        &[
            (
                Reply,
                segment(ACK, s(1), c(1), 70),
                Valid,
                TcpState::Established,
            ),
            (
                Original,
                segment(SYN, 500_000, 0, 0),
                Ignored,
                TcpState::Established,
            ),
            (
                Reply,
                segment(ACK, s(71), c(1), 0),
                Valid,
                TcpState::Established,
            ),
            (Original, segment(RST, c(1), 0, 0), Valid, TcpState::Close),
        ],
    );
    // RFC 5961 section 3: a reset that is not exact is answered so, too, and the connection lives.
    let mut tcp = established();
    expect(
        &mut tcp,
        &[
            (
                Original,
                segment(RST, c(500), 0, 0),
                DoubtfulReset,
                TcpState::Established,
            ),
            (
                Reply,
                segment(ACK, s(1), c(1), 0),
                Valid,
                TcpState::Established,
            ),
            (Original, segment(RST, c(1), 0, 0), Valid, TcpState::Close),
        ],
    );
}

#[test]
fn ports_may_be_used_again_at_once() {
    for from in [Original, Reply] {
        let mut tcp = established();
        for (direction, fin) in [
            (Original, segment(FIN, c(1), s(1), 0)),
            (Reply, segment(FIN, s(1), c(2), 0)),
            (Original, segment(ACK, c(2), s(2), 0)),
        ] {
            assert_eq!(tcp.update(direction, &fin), Valid);
        }
        assert_eq!(tcp.state(), TcpState::TimeWait);
        // The last acknowledgment was lost: the FIN comes again.
        assert_eq!(tcp.update(Reply, &segment(FIN, s(1), c(2), 0)), Valid);
        assert_eq!(tcp.state(), TcpState::TimeWait);
        assert_eq!(tcp.update(from, &segment(SYN, 900_000, 0, 0)), Reopen);
    }
    // Not before both ends said goodbye.
    let mut tcp = established();
    assert_eq!(tcp.update(Original, &segment(FIN, c(1), s(1), 0)), Valid);
    assert_eq!(tcp.update(Original, &segment(SYN, 900_000, 0, 0)), Ignored);
}

#[test]
fn a_window_never_grows_beyond_what_tcp_has() {
    let scaled = |flags, seq, ack, payload_bytes| TcpSegment {
        window: u16::MAX,
        window_scale: (flags & SYN != 0).then_some(10),
        ..segment(flags, seq, ack, payload_bytes)
    };
    let mut tcp = Tcp::begin(&scaled(SYN, C, 0, 0)).unwrap();
    assert_eq!(tcp.update(Reply, &scaled(SYN | ACK, S, c(1), 0)), Valid);
    assert_eq!(tcp.update(Original, &scaled(ACK, c(1), s(1), 0)), Valid);
    assert_eq!(tcp.update(Reply, &scaled(ACK, s(1), c(1), 0)), Valid);
    // Each of these ends past what was offered.
    let edge = c(1).wrapping_add(u32::from(u16::MAX) << 10);
    for _ in 0..100_000 {
        let past = scaled(ACK, edge, s(1), 65_000);
        assert_eq!(tcp.update(Original, &past), Valid);
    }
    assert!(
        tcp.peers
            .iter()
            .all(|peer| peer.max_window <= MAX_WINDOW_BYTES)
    );
}

/// A connection that was met with a segment of its client's in the middle.
fn picked_up() -> Tcp {
    Tcp::pick_up(&segment(ACK, c(1), s(1), 100)).unwrap()
}

#[test]
fn only_a_segment_from_the_middle_is_picked_up() {
    for flags in [SYN, SYN | ACK, FIN, RST, RST | ACK] {
        assert_eq!(
            Tcp::pick_up(&segment(flags, 1, 1, 0)),
            Err(DropReason::TcpNotSyn)
        );
    }
    assert!(picked_up().is_picked_up());
    assert_eq!(picked_up().state(), TcpState::Established);
}

#[test]
fn what_was_sent_unseen_may_be_acknowledged_and_scales_are_not_known() {
    let mut tcp = picked_up();
    expect(
        &mut tcp,
        &[
            // More from the client before the server says anything.
            (
                Original,
                segment(ACK, c(101), s(1), 900),
                Valid,
                TcpState::Established,
            ),
            // It acknowledges what nobody saw.
            (
                Original,
                segment(ACK, c(1001), s(5001), 0),
                Valid,
                TcpState::Established,
            ),
            // The server's window is scaled, nobody knows how: 1,000 may be many more.
            (
                Reply,
                segment(ACK, s(5001), c(1001), 1400),
                Valid,
                TcpState::Established,
            ),
            (
                Original,
                segment(ACK, c(60_000), s(6401), 1400),
                Valid,
                TcpState::Established,
            ),
            (
                Reply,
                segment(ACK, s(60_000), c(61_400), 10),
                Valid,
                TcpState::Established,
            ),
            (
                Original,
                segment(ACK, c(61_400), s(60_010), 0),
                Valid,
                TcpState::Established,
            ),
            // Half the sequence space away is no part of it, whatever the scale.
            (
                Original,
                segment(ACK, c(61_400).wrapping_add(1 << 31), s(60_010), 10),
                Invalid(DropReason::TcpWindow),
                TcpState::Established,
            ),
            (
                Original,
                segment(FIN, c(61_400), s(60_010), 0),
                Valid,
                TcpState::FinWait,
            ),
            (
                Reply,
                segment(FIN, s(60_010), c(61_401), 0),
                Valid,
                TcpState::LastAck,
            ),
            (
                Original,
                segment(ACK, c(61_401), s(60_011), 0),
                Valid,
                TcpState::TimeWait,
            ),
        ],
    );
    let mut tcp = picked_up();
    assert_eq!(tcp.update(Reply, &segment(RST, s(1), 0, 0)), Valid);
    assert_eq!(tcp.state(), TcpState::Close);
}

#[test]
fn a_picked_up_connection_that_begins_anew_is_known() {
    let mut tcp = picked_up();
    assert_eq!(tcp.update(Reply, &segment(ACK, s(1), c(101), 0)), Valid);
    assert_eq!(tcp.update(Original, &segment(SYN, 500_000, 0, 0)), Ignored);
    let answer = segment(SYN | ACK, 900_000, 500_001, 0);
    assert_eq!(tcp.update(Reply, &answer), Restarted);
    assert!(!tcp.is_picked_up());
    assert_eq!(
        tcp.update(Original, &segment(ACK, 500_001, 900_001, 0)),
        Valid
    );
    // Its windows are not scaled, as nobody offered that.
    assert_eq!(
        tcp.update(Original, &segment(ACK, 520_001, 900_001, 10)),
        Invalid(DropReason::TcpWindow)
    );
}
