//! What becomes of the bytes of a control connection: put in order, held, overwritten, dropped.

use super::*;

#[test]
fn a_bounce_is_made_unreadable_and_stays_so_when_sent_again() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let line = b"PORT 10,0,0,1,195,80\r\n";
    let again = wire.segment(Client, 0, line);
    let expected = b"XXXXXXXXXXXXXXXXXXXX\r\n".to_vec();
    assert_eq!(wire.say(&mut lab, Client, line).bytes(), expected);
    assert_eq!(lab.pass(Side::Outside, again.frame()).bytes(), expected);
    // Cut otherwise, too.
    let mut part = again.clone();
    part.seq += 3;
    part.payload = line[3..9].to_vec();
    assert_eq!(lab.pass(Side::Outside, part.frame()).bytes(), b"XXXXXX");
    wire.dialogue(
        &mut lab,
        &[(Server, "500 what?"), (Client, "NOOP"), (Server, "200 ok")],
    );
    assert_eq!(lab.shared.totals().refused, 1);
    assert!(!connects(
        &mut lab,
        "192.0.2.20:20",
        "10.0.0.1:50000",
        Side::Inside
    ));
}

#[test]
fn a_session_that_opens_nothing_still_refuses_a_bounce() {
    let bounce = b"PORT 10,0,0,1,0,22\r\n";
    let is_refused = |lab: &mut Lab, wire: &mut Wire| {
        let arrived = wire.say(lab, Client, bounce).bytes();
        assert!(
            arrived.starts_with(b"XXXX") && arrived.ends_with(b"\r\n"),
            "{arrived:?}"
        );
    };
    // Too many commands in flight.
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    assert!(
        wire.say(&mut lab, Client, &b"NOOP\r\n".repeat(70))
            .is_forward()
    );
    is_refused(&mut lab, &mut wire);
    wire.dialogue(
        &mut lab,
        &[(Client, "PORT 192,0,2,10,195,80"), (Server, "200 ok")],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    // An odd first line; a client that speaks before the greeting.
    for (greeting, first) in [(true, "FOO"), (false, "USER joe")] {
        let mut lab = Lab::new();
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        if greeting {
            wire.dialogue(&mut lab, &[(Server, "220 ready")]);
        }
        wire.dialogue(&mut lab, &[(Client, first)]);
        is_refused(&mut lab, &mut wire);
    }
    // A server that speaks something else is left alone.
    let mut lab = Lab::new();
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.dialogue(
        &mut lab,
        &[(Server, "SSH-2.0-x"), (Client, "PORT 10,0,0,1,0,22")],
    );
}

#[test]
fn every_cut_of_a_line_is_the_same_line() {
    let line = b"PORT 192,0,2,10,195,80\r\n";
    for cut in 1..line.len() {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        wire.say(&mut lab, Client, &line[..cut]);
        assert_eq!(lab.shared.totals().expectations, 0);
        wire.say(&mut lab, Client, &line[cut..]);
        assert!(calls_back(&mut lab, 50_000), "{cut}");
    }
    let bounce = b"PORT 192,0,2,11,195,80\r\n";
    for cut in 1..bounce.len() {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        let mut arrived = wire.say(&mut lab, Client, &bounce[..cut]).bytes();
        arrived.extend(wire.say(&mut lab, Client, &bounce[cut..]).bytes());
        assert!(
            !arrived.windows(3).any(|w| w == b",11"),
            "{cut}: {arrived:?}"
        );
        assert!(arrived.ends_with(b"XXXX\r\n"), "{cut}: {arrived:?}");
        assert_eq!(lab.shared.totals().expectations, 0);
    }
}

#[test]
fn what_is_past_a_gap_is_held_and_leaves_in_order() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let first = wire.segment(Client, 0, b"PORT 192,0,2,").frame();
    *wire.next(Client) += 13;
    let second = wire.segment(Client, 0, b"10,195,80\r\n").frame();
    assert_eq!(
        lab.pass(Side::Outside, second.clone()).verdict,
        Verdict::Held
    );
    assert_eq!(lab.counts().held.frames, 1);
    assert!(
        matches!(lab.pass(Side::Outside, second).verdict, Verdict::Drop(_)),
        "held already"
    );
    let passed = lab.pass(Side::Outside, first);
    assert_eq!(passed.bytes(), b"PORT 192,0,2,10,195,80\r\n");
    assert_eq!((passed.frames.len(), lab.counts().held.frames), (2, 0));
    assert_eq!(lab.shared.totals().expectations, 1);
}

#[test]
fn what_is_held_at_the_end_is_dropped_and_counted() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    *wire.next(Client) += 5;
    let ahead = wire.segment(Client, 0, b"x\r\n").frame();
    assert_eq!(lab.pass(Side::Outside, ahead).verdict, Verdict::Held);
    wire.next[0] -= 5;
    assert!(
        lab.pass(Side::Inside, wire.segment(Server, RST, b"").frame())
            .is_forward()
    );
    assert_eq!(lab.counts().held.frames, 0);
    assert_eq!(lab.dropped(DropReason::HelperHeld), 1);
}

#[test]
fn what_all_sessions_hold_is_bounded() {
    let mut lab = Lab::new();
    let mut held = 0;
    'fill: for client in 0..4000 {
        let host = format!("10.{}.{}.1", client / 256, client % 256);
        let mut wire = control([&host, V4[1]], Side::Outside);
        wire.login(&mut lab);
        for ahead in 1..=32 {
            let mut segment = wire.segment(Client, 0, &[b'x'; 900]);
            segment.seq += ahead * 900;
            match lab.pass(Side::Outside, segment.frame()).verdict {
                Verdict::Held => held += 1,
                _ => break 'fill,
            }
        }
    }
    assert!(held * 900 <= 64 << 20, "{held}");
    assert!(held * 954 >= 60 << 20, "{held}");
    let before = lab
        .shared
        .sessions
        .held_bytes()
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(lab.counts().held.bytes, before as u64);
}

#[test]
fn a_changed_retransmission_is_dropped() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let mut other = wire.segment(Client, 0, b"PORT 192,0,2,10,195,81\r\n");
    wire.say(&mut lab, Client, b"PORT 192,0,2,10,195,80\r\n");
    let verdict = lab.pass(Side::Outside, other.frame()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::HelperRewrite));
    // Also when it brings something new behind.
    other.payload = b"PORT 192,0,2,10,195,81\r\nNOOP\r\n".to_vec();
    let verdict = lab.pass(Side::Outside, other.frame()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::HelperRewrite));
}

#[test]
fn a_wrong_checksum_moves_nothing() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let mut frame = wire
        .segment(Client, 0, b"PORT 192,0,2,10,195,80\r\n")
        .frame();
    let last = frame.len() - 5;
    frame[last] ^= 1;
    let verdict = lab.pass(Side::Outside, frame).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::ChecksumBad));
    wire.dialogue(&mut lab, &[(Client, "PORT 192,0,2,10,195,80")]);
}

#[test]
fn an_urgent_byte_that_is_no_telnet_command_is_made_ordinary() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let mut abor = wire.segment(Client, 0, b"\xff\xf4\xff\xf2ABOR\r\n");
    (abor.flags, abor.urgent) = (abor.flags | TcpFlags::URG, 4);
    let passed = lab.pass(Side::Outside, abor.frame());
    assert_eq!(
        passed.frames,
        [abor.frame()],
        "TELNET interrupt and synch pass as they are"
    );
    *wire.next(Client) += 10;
    let mut hidden = wire.segment(Client, 0, b"NOxOP\r\n");
    (hidden.flags, hidden.urgent) = (hidden.flags | TcpFlags::URG, 3);
    let passed = lab.pass(Side::Outside, hidden.frame());
    let (_, ip) = parsed(&passed.frames[0]);
    assert!(matches!(ip.l4, L4::Tcp(s) if !s.flags.has(TcpFlags::URG) && s.urgent == 0));
}

#[test]
fn an_urgent_pointer_without_payload_reaches_nobody() {
    let mut lab = Lab::new();
    let wire = session(&mut lab);
    let mut ack = wire.segment(Client, ACK | TcpFlags::URG, b"");
    ack.urgent = 1;
    let passed = lab.pass(Side::Outside, ack.frame());
    let (_, ip) = parsed(&passed.frames[0]);
    assert!(matches!(ip.l4, L4::Tcp(s) if !s.flags.has(TcpFlags::URG)));
}

#[test]
fn a_fragmented_command_is_read_but_never_changed() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    let good = wire
        .segment(Client, 0, b"PORT 192,0,2,10,195,80\r\n")
        .frame();
    let pieces = fragments(&good, 24);
    assert_eq!(
        lab.pass(Side::Outside, pieces[0].clone()).verdict,
        Verdict::Held
    );
    assert_eq!(lab.pass(Side::Outside, pieces[1].clone()).frames, pieces);
    assert_eq!(lab.shared.totals().expectations, 1);
    *wire.next(Client) += 24;
    let bounce = wire
        .segment(Client, 0, b"PORT 192,0,2,11,195,80\r\n")
        .frame();
    for piece in fragments(&bounce, 24) {
        assert!(lab.pass(Side::Outside, piece).frames.is_empty());
    }
    // It can't be made unreadable: both ends learn by a reset.
    assert_eq!(lab.dropped(DropReason::HelperReset), 2);
}
