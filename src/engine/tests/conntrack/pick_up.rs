//! Connections whose beginning was not seen.

use super::*;

#[test]
fn a_connection_in_the_middle_is_refused_unless_pick_up_is_on() {
    let wire = || control(V4, Side::Outside);
    let not_syn = Verdict::Drop(DropReason::TcpNotSyn);
    let mut lab = Lab::new();
    assert_eq!(wire().say(&mut lab, Client, b"NOOP\r\n").verdict, not_syn);

    let mut lab = Lab::set(&[("conntrack.pickup", "60s")]);
    lab.tick();
    lab.later(59);
    let mut old = wire();
    assert!(old.say(&mut lab, Client, b"NOOP\r\n").is_forward());
    assert!(old.say(&mut lab, Server, b"200 yes\r\n").is_forward());
    // What is no beginning of a part of a connection is not taken up.
    for flags in [SYN | ACK, RST, RST | ACK, FIN] {
        let other = Wire::new(&at(V4[0], 41_000), &at(V4[1], 21), Side::Outside);
        let frame = other.segment(Client, flags, b"").frame();
        assert_eq!(lab.pass(Side::Outside, frame).verdict, not_syn, "{flags}");
    }
    // The rules decide, as of any new connection.
    let mut other = Wire::new(&at(V4[0], 42_000), &at(V4[1], 22), Side::Outside);
    assert_eq!(other.say(&mut lab, Client, b"ssh").verdict, POLICY_DROP);
    lab.later(1);
    let mut late = Wire::new(&at(V4[0], 43_000), &at(V4[1], 21), Side::Outside);
    assert_eq!(late.say(&mut lab, Client, b"NOOP\r\n").verdict, not_syn);
    // Those that were taken up go on.
    assert!(old.say(&mut lab, Client, b"NOOP\r\n").is_forward());
    old.close(&mut lab);
}

const ASK: &[u8] = b"PASV\r\n";

const ANSWER: &[u8] = b"227 Entering (192,0,2,20,195,80)\r\n";

/// Says a login and asks for a port; returns how many ports are open.
fn asks_for_a_port(lab: &mut Lab, wire: &mut Wire) -> u64 {
    assert!(wire.say(lab, Client, ASK).is_forward());
    assert!(wire.say(lab, Server, ANSWER).is_forward());
    lab.shared.totals().expectations
}

#[test]
fn a_session_taken_up_in_the_middle_opens_nothing_until_it_is_in_step() {
    let mut lab = Lab::set(&[("conntrack.pickup", "60"), ("ftp.demand_login", "no")]);
    let mut wire = control(V4, Side::Outside);
    // The rest of a command, with more behind it that looks like one.
    assert!(
        wire.say(&mut lab, Client, b"R /tmp PORT 192,0,2,10,195,80")
            .is_forward()
    );
    assert_eq!(lab.shared.totals().sessions, 1);
    // The server is in the middle of something: a 227 that answers nobody knows what.
    assert!(
        wire.say(&mut lab, Client, b" and more\r\nPASV\r\n")
            .is_forward()
    );
    let middle = b"227 Entering (192,0,2,20,195,80)";
    assert!(wire.say(&mut lab, Server, middle).is_forward());
    assert_eq!(
        lab.shared.totals().expectations,
        0,
        "its beginning was not seen"
    );
    assert!(wire.say(&mut lab, Server, b"\r\n").is_forward());
    assert_eq!(lab.shared.totals().expectations, 0);
    // The client's PORT while the server's side is not known would open at once.
    let mut lab = Lab::set(&[("conntrack.pickup", "60"), ("ftp.demand_login", "no")]);
    let mut wire = control(V4, Side::Outside);
    for line in ["NOOP\r\n", "NOOP\r\n", "PORT 192,0,2,10,195,80\r\n"] {
        assert!(wire.say(&mut lab, Client, line.as_bytes()).is_forward());
    }
    assert_eq!(lab.shared.totals().expectations, 0);
    // When both sides are known, it opens.
    assert!(wire.say(&mut lab, Server, b"200 yes\r\n").is_forward());
    for reply in ["200 yes\r\n", "200 PORT\r\n"] {
        assert!(wire.say(&mut lab, Server, reply.as_bytes()).is_forward());
    }
    assert!(wire.say(&mut lab, Client, b"NOOP\r\n").is_forward());
    assert!(wire.say(&mut lab, Server, b"200 yes\r\n").is_forward());
    assert_eq!(asks_for_a_port(&mut lab, &mut wire), 1);
}

#[test]
fn a_session_taken_up_in_the_middle_needs_a_new_login() {
    let mut lab = Lab::set(&[("conntrack.pickup", "60")]);
    let mut wire = control(V4, Side::Outside);
    for _ in 0..2 {
        wire.dialogue(&mut lab, &[(Client, "NOOP"), (Server, "200 yes")]);
    }
    assert_eq!(asks_for_a_port(&mut lab, &mut wire), 0);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "USER joe"),
            (Server, "331 password?"),
            (Client, "PASS secret"),
            (Server, "230 welcome"),
        ],
    );
    assert_eq!(asks_for_a_port(&mut lab, &mut wire), 1);
    // A bounce is refused as ever.
    let refused = wire.say(&mut lab, Client, b"PORT 192,0,2,11,195,80\r\n");
    assert_eq!(&refused.bytes()[..4], b"XXXX");
}

#[test]
fn a_session_taken_up_behind_tls_opens_nothing() {
    let mut lab = Lab::set(&[("conntrack.pickup", "60"), ("ftp.demand_login", "no")]);
    let mut wire = control(V4, Side::Outside);
    let record = [&[23, 3, 3, 0, 4, 1, 2, b'\n', 9][..], b"\r\n"].concat();
    for _ in 0..3 {
        assert!(wire.say(&mut lab, Client, &record).is_forward());
        assert!(wire.say(&mut lab, Server, &record).is_forward());
    }
    assert_eq!(asks_for_a_port(&mut lab, &mut wire), 0);
}
