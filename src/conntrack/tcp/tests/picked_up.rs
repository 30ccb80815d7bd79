//! Connections whose beginning was not seen.

use super::*;

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
    assert_eq!(picked_up().state(), Established);
}

#[test]
fn what_was_sent_unseen_may_be_acknowledged_and_scales_are_not_known() {
    picked_up().sees(&[
        // More from the client before the server says anything.
        client(ACK, c(101), s(1), 900).is(Valid, Established),
        // It acknowledges what nobody saw.
        client(ACK, c(1001), s(5001), 0).is(Valid, Established),
        // The server's window is scaled, nobody knows how: 1,000 may be many more.
        server(ACK, s(5001), c(1001), 1400).is(Valid, Established),
        client(ACK, c(60_000), s(6401), 1400).is(Valid, Established),
        server(ACK, s(60_000), c(61_400), 10).is(Valid, Established),
        client(ACK, c(61_400), s(60_010), 0).is(Valid, Established),
        // Half the sequence space away is no part of it, whatever the scale.
        client(ACK, c(61_400 + (1 << 31)), s(60_010), 10).is(OUT_OF_WINDOW, Established),
        client(FIN, c(61_400), s(60_010), 0).is(Valid, FinWait),
        server(FIN, s(60_010), c(61_401), 0).is(Valid, LastAck),
        client(ACK, c(61_401), s(60_011), 0).is(Valid, TimeWait),
    ]);
    picked_up().sees(&[server(RST, s(1), 0, 0).is(Valid, Close)]);
}

#[test]
fn a_picked_up_connection_that_begins_anew_is_known() {
    let mut tcp = picked_up();
    tcp.sees(&[
        server(ACK, s(1), c(101), 0).is(Valid, Established),
        client(SYN, 500_000, 0, 0).is(Ignored, Established),
        server(SYN | ACK, 900_000, 500_001, 0).is(Restarted, SynRecv),
    ]);
    assert!(!tcp.is_picked_up());
    tcp.sees(&[
        client(ACK, 500_001, 900_001, 0).is(Valid, Established),
        // Its windows are not scaled, as nobody offered that.
        client(ACK, 520_001, 900_001, 10).is(OUT_OF_WINDOW, Established),
    ]);
}

#[test]
fn a_connection_that_was_picked_up_is_taken_to_permit_sack() {
    let sack = |end| client(ACK, c(1), s(1), 0).sack(end);
    let mut tcp = picked_up();
    tcp.sees(&[sack(s(100)).is(Valid, Established)]);
    assert_eq!(tcp.end(Reply), s(100));
    tcp.sees(&[
        server(ACK, s(100), c(101), 0).is(Valid, Established),
        sack(s(200)).is(Valid, Established),
    ]);
    assert_eq!(tcp.end(Reply), s(200));
}
