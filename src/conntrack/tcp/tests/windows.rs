//! The four inequalities, and the windows that they look at.

use super::*;

#[test]
fn inequality_one_nothing_past_the_offered_window() {
    established().sees(&[
        client(ACK, c(WINDOW + 2002), s(1), 10).is(OUT_OF_WINDOW, Established),
        // By less than a window, the ends may know better: it passes and moves nothing.
        client(ACK, c(WINDOW + 2), s(1), 10).is(Ignored, Established),
        // The receiver may have taken it.
        server(ACK, s(1), c(WINDOW + 12), 0).is(Valid, Established),
        client(ACK, c(1), s(1), WINDOW).is(Valid, Established),
    ]);
}

#[test]
fn inequality_two_nothing_older_than_a_window() {
    let mut tcp = established();
    for begin in (1..10_001).step_by(1000) {
        tcp.sees(&[
            client(ACK, c(begin), s(1), 1000).is(Valid, Established),
            server(ACK, s(1), c(begin + 1000), 0).is(Valid, Established),
        ]);
    }
    tcp.sees(&[
        client(ACK, c(9001), s(1), 1000).is(Valid, Established),
        client(ACK, c(8000), s(1), 900).is(Ignored, Established),
        client(ACK, c(1), s(1), 1000).is(OUT_OF_WINDOW, Established),
    ]);
}

#[test]
fn inequality_three_nothing_acknowledged_that_was_not_sent() {
    established().sees(&[client(ACK, c(1), s(2), 10).is(OUT_OF_WINDOW, Established)]);
}

/// A connection whose SYN and SYN-ACK permit SACK, or not.
fn with_sack(of_client: bool, of_server: bool) -> Tcp {
    let syn = client(SYN, C, 0, 0).permitting_sack(of_client);
    let answer = server(SYN | ACK, S, c(1), 0).permitting_sack(of_server);
    let mut tcp = Tcp::begin(&syn.segment).unwrap();
    tcp.sees(&[
        answer.is(Valid, SynRecv),
        client(ACK, c(1), s(1), 0).is(Valid, Established),
    ]);
    tcp
}

#[test]
fn inequality_three_is_about_sack_if_its_receiver_has_permitted_it() {
    let sack = client(ACK, c(1), s(1), 0).sack(s(100));
    for of_client in [false, true] {
        with_sack(of_client, true).sees(&[
            sack.is(OUT_OF_WINDOW, Established),
            server(ACK, s(1), c(1), 100).is(Valid, Established),
            sack.is(Valid, Established),
        ]);
        // Whoever has not permitted it does not read it.
        let mut tcp = with_sack(of_client, false);
        let offered = tcp.peers[1].max_end;
        tcp.sees(&[sack.is(Valid, Established)]);
        assert_eq!(tcp.peers[1].max_end, offered);
    }
}

#[test]
fn a_connection_that_begins_anew_has_what_its_own_syns_permit() {
    for (permitted, judgement) in [(false, Valid), (true, OUT_OF_WINDOW)] {
        let again = client(SYN, 500_000, 0, 0).permitting_sack(permitted);
        let lie = server(ACK, 900_001, 500_001, 0).sack(500_100);
        with_sack(!permitted, !permitted).sees(&[
            again.is(Ignored, Established),
            server(SYN | ACK, 900_000, 500_001, 0).is(Restarted, SynRecv),
            lie.is(judgement, SynRecv),
        ]);
    }
}

#[test]
fn inequality_four_no_ancient_acknowledgment() {
    let before = |bytes| s(1).wrapping_sub(bytes);
    let (ancient, old) = (MIN_ACK_WINDOW_BYTES + 1, MIN_ACK_WINDOW_BYTES - 1);
    established().sees(&[
        client(ACK, c(1), before(ancient), 10).is(OUT_OF_WINDOW, Established),
        client(ACK, c(1), before(old), 10).is(Valid, Established),
    ]);
}

#[test]
fn windows_are_scaled_when_both_ends_offer_it() {
    let reach = |of_client, of_server| {
        let mut tcp = Tcp::begin(&client(SYN, C, 0, 0).scaled(of_client).segment).unwrap();
        let answer = server(SYN | ACK, S, c(1), 0).scaled(of_server);
        tcp.sees(&[
            answer.is(Valid, SynRecv),
            client(ACK, c(1), s(1), 0).is(Valid, Established),
        ]);
        // How far may the server go?
        let is_valid = |far: u32| {
            let mut tcp = tcp;
            tcp.update(Reply, &segment(ACK, s(1 + far), c(1), 1)) == Valid
        };
        let mut far = 1;
        while is_valid(far) {
            far *= 2;
        }
        far
    };
    assert_eq!(reach(None, None), 1024);
    assert_eq!(reach(Some(5), None), 1024);
    assert_eq!(reach(Some(5), Some(0)), 32_768);
}

#[test]
fn a_window_never_grows_beyond_what_tcp_has() {
    let wide = |mut sent: Sent| {
        sent.segment.window = u16::MAX;
        sent
    };
    let syn = wide(client(SYN, C, 0, 0)).scaled(Some(10));
    let mut tcp = Tcp::begin(&syn.segment).unwrap();
    let answer = wide(server(SYN | ACK, S, c(1), 0)).scaled(Some(10));
    tcp.sees(&[
        answer.is(Valid, SynRecv),
        wide(client(ACK, c(1), s(1), 0)).is(Valid, Established),
        wide(server(ACK, s(1), c(1), 0)).is(Valid, Established),
    ]);
    // Each of these ends past what was offered.
    let edge = c(1).wrapping_add(u32::from(u16::MAX) << 10);
    for _ in 0..100_000 {
        tcp.sees(&[wide(client(ACK, edge, s(1), 65_000)).is(Valid, Established)]);
    }
    assert!(
        tcp.peers
            .iter()
            .all(|peer| peer.max_window <= MAX_WINDOW_BYTES)
    );
}

#[test]
fn keep_alives_pass_and_move_nothing() {
    let mut tcp = established();
    tcp.sees(&[
        client(ACK, c(1), s(1), 100).is(Valid, Established),
        server(ACK, s(1), c(101), 50).is(Valid, Established),
        client(ACK, c(101), s(51), 0).is(Valid, Established),
    ]);
    for bytes in [0, 1] {
        // RFC 9293 section 3.8.4: one number before the next one, with or without a byte.
        tcp.sees(&[client(ACK, c(100), s(51), bytes).is(Valid, Established)]);
        assert_eq!(tcp.end(Original), c(101));
        tcp.sees(&[server(ACK, s(51), c(101), 0).is(Valid, Established)]);
    }
}

#[test]
fn a_closed_window_may_be_probed() {
    let mut tcp = established();
    let mut full = server(ACK, s(1), c(1 + WINDOW), 0);
    full.segment.window = 0;
    tcp.sees(&[
        client(ACK, c(1), s(1), WINDOW).is(Valid, Established),
        full.is(Valid, Established),
    ]);
    assert!(tcp.closed_window());
    tcp.sees(&[
        client(ACK, c(1 + WINDOW), s(1), 1).is(Valid, Established),
        full.is(Valid, Established),
        // The probe's byte was taken.
        server(ACK, s(1), c(2 + WINDOW), 0).is(Valid, Established),
    ]);
}

#[test]
fn quoted_numbers_must_be_in_flight() {
    let mut tcp = established();
    tcp.sees(&[client(ACK, c(1), s(1), 100).is(Valid, Established)]);
    assert!(tcp.in_flight(Original, c(1)));
    assert!(tcp.in_flight(Original, c(100)));
    assert!(!tcp.in_flight(Original, c(5000)));
    tcp.sees(&[server(ACK, s(1), c(101), 0).is(Valid, Established)]);
    assert!(!tcp.in_flight(Original, c(1)));
}
