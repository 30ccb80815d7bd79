//! How a session begins, what is told of it, and how long it is kept.

use super::*;

#[test]
fn a_session_tells_what_happened() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let mut data = to_port(40_001, 50_000);
    assert!(data.connect(&mut lab));
    assert!(data.say(&mut lab, Server, b"a file").is_forward());
    data.close(&mut lab);
    wire.dialogue(
        &mut lab,
        &[(Client, "PASV"), (Server, "227 ok (192,0,2,20,195,81)")],
    );
    wire.close(&mut lab);
    assert_eq!(
        lab.told(),
        [
            "ftp[1] session: client 192.0.2.10:40000 to server 192.0.2.20:21 (server inside)",
            "ftp[1] logged in as 'joe'",
            "ftp[1] opened port 50000: 192.0.2.10 may connect to 192.0.2.20:50000 once within 60 s \
         (PASV)",
            "ftp[1] used port 50000: 192.0.2.10:40001 connected to 192.0.2.20:50000 (PASV)",
            "ftp[1] data connection 192.0.2.10:40001 to 192.0.2.20:50000 ended: 0 bytes sent, \
         6 bytes received by 192.0.2.10",
            "ftp[1] opened port 50001: 192.0.2.10 may connect to 192.0.2.20:50001 once within 60 s \
         (PASV)",
            "ftp[1] closed port 50001 of 192.0.2.20 unused: the control connection ended (PASV)",
            "ftp[1] closed: both ends said goodbye; ports opened 2, used 1; commands refused 0",
        ]
    );
}

#[test]
fn a_spoofed_syn_makes_no_session() {
    let mut lab = Lab::new();
    let wire = control(V4, Side::Outside);
    assert!(wire.begin(&mut lab).is_forward());
    assert_eq!(lab.shared.totals().sessions_begun, 0);
    assert!(lab.events().is_empty());
}

#[test]
fn a_syn_with_payload_towards_ftp_is_dropped() {
    let mut lab = Lab::new();
    let wire = control(V4, Side::Outside);
    let mut syn = wire.segment(Client, SYN, b"USER x\r\n");
    syn.flags = SYN;
    let verdict = lab.pass(Side::Outside, syn.frame()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::SynPayload));
}

#[test]
fn a_client_that_reconnects_on_the_same_ports_has_a_new_session() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.next = [500_000, 900_000];
    assert!(wire.connect(&mut lab));
    // The login was the old one's.
    wire.dialogue(
        &mut lab,
        &[
            (Server, "220 ready"),
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "USER joe"),
            (Server, "230 welcome"),
            (Client, "PASV"),
            (Server, "227 ok (192,0,2,20,195,80)"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 1);
}

#[test]
fn a_long_transfer_keeps_the_control_connection() {
    let mut lab = Lab::set(&[("conntrack.tcp_timeout_established", "100")]);
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let mut data = to_port(40_001, 50_000);
    assert!(data.connect(&mut lab));
    for _ in 0..20 {
        lab.later(50);
        lab.tick();
        assert!(data.say(&mut lab, Server, b"more of it").is_forward());
    }
    data.close(&mut lab);
    wire.dialogue(&mut lab, &[(Server, "226 done")]);
    // With nobody who needs it, it ends.
    lab.later(1000);
    lab.tick();
    lab.later(1000);
    lab.tick();
    assert_eq!(
        (lab.shared.totals().sessions, lab.shared.totals().flows),
        (0, 0)
    );
}

#[test]
fn a_needed_control_connection_is_not_forgotten_before_the_sweep_either() {
    let mut lab = Lab::set(&[("conntrack.tcp_timeout_established", "100")]);
    let mut wire = session(&mut lab);
    wire.dialogue(&mut lab, OPEN);
    let mut data = to_port(40_001, 50_000);
    assert!(data.connect(&mut lab));
    lab.later(60);
    assert!(data.say(&mut lab, Server, b"slow").is_forward());
    lab.later(60);
    wire.dialogue(&mut lab, &[(Server, "226 done")]);
}

#[test]
fn a_server_does_not_begin_a_control_connection_anew() {
    let mut lab = Lab::new();
    let wire = session(&mut lab);
    let mut syn = wire.segment(Server, SYN, b"");
    (syn.seq, syn.ack) = (700_000, 0);
    assert!(lab.pass(wire.side(Server), syn.frame()).is_forward());
    let mut answer = wire.segment(Client, SYN | ACK, b"");
    answer.ack = 700_001;
    let verdict = lab.pass(wire.side(Client), answer.frame()).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::HelperInvalid));
}
