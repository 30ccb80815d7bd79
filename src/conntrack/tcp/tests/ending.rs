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
