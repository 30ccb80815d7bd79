//! SYNs and their answers.

use super::*;

#[test]
fn a_retransmitted_syn_renews_nothing() {
    begun().sees(&[
        client(SYN, C, 0, 0).is(ValidNoRenewal, SynSent),
        client(SYN, C ^ 0xff00, 0, 0).is(ValidNoRenewal, SynSent),
        // The answer must acknowledge the newest one.
        server(SYN | ACK, S, c(1), 0).is(Ignored, SynSent),
        server(SYN | ACK, S, (C ^ 0xff00) + 1, 0).is(Valid, SynRecv),
        server(SYN | ACK, S, (C ^ 0xff00) + 1, 0).is(ValidNoRenewal, SynRecv),
        server(SYN | ACK, S, c(1), 0).is(Ignored, SynRecv),
    ]);
}

#[test]
fn simultaneous_open() {
    begun().sees(&[
        server(SYN, S, 0, 0).is(Valid, SynSent2),
        client(SYN | ACK, C, s(1), 0).is(Valid, SynRecv),
        server(SYN | ACK, S, c(1), 0).is(ValidNoRenewal, SynRecv),
        server(ACK, s(1), c(1), 5).is(Valid, Established),
        client(ACK, c(1), s(6), 5).is(Valid, Established),
    ]);
}

#[test]
fn data_before_the_answer_is_invalid() {
    begun().sees(&[
        client(ACK, c(1), s(1), 5).is(OUT_OF_STATE, SynSent),
        server(ACK, s(1), c(1), 5).is(OUT_OF_STATE, SynSent),
    ]);
}

#[test]
fn a_server_need_not_take_the_data_of_a_syn() {
    for taken in [0, 100] {
        let mut tcp = Tcp::begin(&segment(SYN, C, 0, 100)).unwrap();
        let mut refused = tcp;
        tcp.sees(&[
            server(SYN | ACK, S, c(1 + taken), 0).is(Valid, SynRecv),
            client(ACK, c(1), s(1), 100).is(Valid, Established),
            server(ACK, s(1), c(101), 0).is(Valid, Established),
        ]);
        refused.sees(&[server(RST | ACK, 0, c(1 + taken), 0).is(Valid, Close)]);
    }
}

#[test]
fn a_syn_that_is_sent_again_without_its_data_takes_nothing_back() {
    let mut tcp = Tcp::begin(&segment(SYN, C, 0, 100)).unwrap();
    tcp.sees(&[
        client(SYN, C, 0, 0).is(ValidNoRenewal, SynSent),
        server(SYN | ACK, S, c(101), 0).is(Valid, SynRecv),
        client(ACK, c(101), s(1), 0).is(Valid, Established),
    ]);
}

#[test]
fn another_answer_to_the_next_syn_counts_if_the_first_one_was_lost() {
    begun().sees(&[
        server(SYN | ACK, S, c(1), 0).is(Valid, SynRecv),
        client(SYN, C, 0, 0).is(Ignored, SynRecv),
        server(SYN | ACK, s(777_000), c(1), 0).is(Valid, SynRecv),
        client(ACK, c(1), s(777_001), 0).is(Valid, Established),
        // From now on it does not.
        server(SYN | ACK, S, c(1), 0).is(Ignored, Established),
    ]);
}

#[test]
fn a_reset_answers_a_syn_only_if_it_acknowledges_it() {
    begun().sees(&[
        server(RST, 0, 0, 0).is(BAD_RESET, SynSent),
        server(RST | ACK, 0, c(2), 0).is(BAD_RESET, SynSent),
        server(RST | ACK, 0, c(1), 0).is(Valid, Close),
    ]);
}

#[test]
fn a_stale_connection_of_the_servers_can_be_cleared() {
    // RFC 9293 section 3.5.1: SYN, challenge ACK, RST with its number, SYN again.
    begun().sees(&[
        server(ACK, 77_000, 88_000, 0).is(Ignored, SynSent),
        client(RST, 88_000, 0, 0).is(DoubtfulReset, SynSent),
        client(SYN, C, 0, 0).is(ValidNoRenewal, SynSent),
        server(SYN | ACK, S, c(1), 0).is(Valid, SynRecv),
    ]);
}

#[test]
fn a_syn_in_a_live_connection_passes_and_moves_nothing() {
    established().sees(&[
        client(SYN, 500_000, 0, 0).is(Ignored, Established),
        // A challenge ACK, and the old connection goes on.
        server(ACK, s(1), c(1), 0).is(Valid, Established),
        client(ACK, c(1), s(1), 10).is(Valid, Established),
    ]);
}

#[test]
fn a_client_that_began_anew_is_followed() {
    established().sees(&[
        client(SYN, 500_000, 0, 0).is(Ignored, Established),
        server(SYN | ACK, 900_000, 500_001, 0).is(Restarted, SynRecv),
        client(ACK, 500_001, 900_001, 10).is(Valid, Established),
        server(ACK, 900_001, 500_011, 10).is(Valid, Established),
    ]);
}

#[test]
fn of_two_answers_only_the_one_that_is_believed_goes_on() {
    // Whoever reads the stream begins at the second one.
    let mut tcp = begun();
    tcp.sees(&[
        server(SYN | ACK, S, c(1), 0).is(Valid, SynRecv),
        server(SYN | ACK, s(500), c(1), 0).is(Valid, SynRecv),
        client(ACK, c(1), s(1), 0).is(OUT_OF_WINDOW, SynRecv),
        server(ACK, s(1), c(1), 10).is(OUT_OF_WINDOW, SynRecv),
        client(ACK, c(1), s(501), 0).is(Valid, Established),
    ]);
}
