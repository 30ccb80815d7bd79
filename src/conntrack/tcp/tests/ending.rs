//! FINs and resets, and what may come behind them.

use super::*;

#[test]
fn a_retransmitted_fin_is_no_second_one() {
    established().sees(&[
        client(FIN, c(1), s(1), 0).is(Valid, FinWait),
        client(FIN, c(1), s(1), 0).is(Valid, FinWait),
        server(FIN, s(1), c(1), 0).is(Valid, LastAck),
        server(ACK, s(2), c(2), 0).is(Valid, LastAck),
        client(ACK, c(2), s(2), 0).is(Valid, TimeWait),
    ]);
}

#[test]
fn resets() {
    established().sees(&[
        server(ACK, s(1), c(1), 100).is(Valid, Established),
        client(ACK, c(1), s(101), 0).is(Valid, Established),
        // Outside the window: forged. Inside, but not exact: maybe.
        server(RST, s(50), 0, 0).is(BAD_RESET, Established),
        server(RST, s(5000), 0, 0).is(BAD_RESET, Established),
        server(RST, s(500), 0, 0).is(DoubtfulReset, Established),
        server(RST, s(101), 0, 0).is(Valid, Close),
        client(SYN, c(70_000), 0, 0).is(Reopen, Close),
    ]);
}

#[test]
fn a_reset_of_the_client_acknowledges_nothing_that_was_never_sent() {
    let reset = |seq, ack| segment(RST | ACK, seq, ack, 0);
    // Nobody has sent anything yet, whatever the sign of the difference.
    for ack in [1, s(1), 0x9000_0000] {
        for seq in [c(1), 0, c(500)] {
            begun().sees(&[client(RST | ACK, seq, ack, 0).is(BAD_RESET, SynSent)]);
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
        (reset(c(1), s(71)), BAD_RESET),
    ] {
        let mut tcp = begun();
        tcp.sees(&[server(ACK, s(70), 88_000, 0).is(Ignored, SynSent)]);
        assert_eq!(tcp.update(Original, &answer), judgement);
    }
    // Or a SYN (simultaneous open).
    for (ack, judgement) in [(s(1), Valid), (s(3), BAD_RESET)] {
        let mut tcp = begun();
        tcp.sees(&[server(SYN, S, 0, 0).is(Valid, SynSent2)]);
        assert_eq!(tcp.update(Original, &reset(c(1), ack)), judgement);
    }
}

#[test]
fn a_server_may_answer_what_the_client_has_reset() {
    for simultaneous in [false, true] {
        let mut tcp = begun();
        if simultaneous {
            tcp.sees(&[server(SYN, S, 0, 0).is(Valid, SynSent2)]);
        }
        tcp.sees(&[
            client(RST, c(1), 0, 0).is(Valid, Close),
            server(SYN | ACK, S, c(2), 0).is(Ignored, Close),
            server(SYN | ACK, S, c(1), 0).is(Valid, SynRecv),
        ]);
    }
    // What was answered and then reset is over.
    established().sees(&[
        client(RST, c(1), 0, 0).is(Valid, Close),
        server(SYN | ACK, S, c(1), 0).is(Ignored, Close),
    ]);
}

#[test]
fn a_challenge_ack_passes_and_the_reset_that_answers_it_closes() {
    // RFC 5961 section 4: a SYN in a live connection, from a client that has forgotten it.
    established().sees(&[
        server(ACK, s(1), c(1), 70).is(Valid, Established),
        client(SYN, 500_000, 0, 0).is(Ignored, Established),
        server(ACK, s(71), c(1), 0).is(Valid, Established),
        client(RST, c(1), 0, 0).is(Valid, Close),
    ]);
    // RFC 5961 section 3: a reset that is not exact is answered so, too, and the connection lives.
    established().sees(&[
        client(RST, c(500), 0, 0).is(DoubtfulReset, Established),
        server(ACK, s(1), c(1), 0).is(Valid, Established),
        client(RST, c(1), 0, 0).is(Valid, Close),
    ]);
}

#[test]
fn ports_may_be_used_again_at_once() {
    for from in [client, server] {
        established().sees(&[
            client(FIN, c(1), s(1), 0).is(Valid, FinWait),
            server(FIN, s(1), c(2), 0).is(Valid, LastAck),
            client(ACK, c(2), s(2), 0).is(Valid, TimeWait),
            // The last acknowledgment was lost: the FIN comes again.
            server(FIN, s(1), c(2), 0).is(Valid, TimeWait),
            from(SYN, 900_000, 0, 0).is(Reopen, TimeWait),
        ]);
    }
    // Not before both ends said goodbye.
    established().sees(&[
        client(FIN, c(1), s(1), 0).is(Valid, FinWait),
        client(SYN, 900_000, 0, 0).is(Ignored, FinWait),
    ]);
}
