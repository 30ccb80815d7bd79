//! Who is refused a data connection learns it at once.

use super::*;

#[test]
fn without_a_range_the_client_learns_at_once_and_the_event_names_the_setting() {
    let mut lab = lab(None);
    let _wire = tls_session(&mut lab);
    let refused = to_port(40_001, 50_000);
    let passed = refused.begin(&mut lab);
    assert_eq!(passed.verdict, Verdict::Drop(DropReason::TlsNoRange));
    let [(side, frame)] = passed.made.as_slice() else {
        panic!("{passed:?}");
    };
    assert_eq!(*side, Side::Outside);
    let (_, ip) = parsed(frame);
    let L4::Tcp(rst) = &ip.l4 else { panic!() };
    assert_eq!(rst.flags.0, RST | ACK);
    assert_eq!(SocketAddr::new(ip.src, rst.src_port), refused.server);
    assert_eq!(SocketAddr::new(ip.dst, rst.dst_port), refused.client);
    assert_eq!((rst.seq, rst.ack), (0, refused.next[0] + 1));
    let told = lab.told();
    let named = told.iter().filter(|line| {
        line.contains("set ftp.tls_ports=A-B (the server's passive range) or --ftp-server ADDR,")
    });
    assert_eq!(named.count(), 2, "{told:#?}");
    assert!(told.iter().any(|line| line.contains(
        "refused data connection 192.0.2.10:40001 to 192.0.2.20:50000: the session is TLS"
    )));
    // Told once; answered a few times a second.
    let answered = (0..50).filter(|n| !to_port(41_000 + n, 50_000).begin(&mut lab).made.is_empty());
    assert_eq!(answered.count(), 3);
    assert!(lab.events().is_empty());
    assert_eq!(lab.dropped(DropReason::TlsNoRange), 51);
}

#[test]
fn only_a_syn_of_a_tls_session_to_a_high_port_is_answered() {
    let mut lab = lab(None);
    let mut clear = control(V4, Side::Outside);
    clear.login(&mut lab);
    let is_answered = |lab: &mut Lab| !to_port(40_001, 50_000).begin(lab).made.is_empty();
    assert!(!is_answered(&mut lab), "in clear");
    clear.close(&mut lab);
    let wire = tls_session(&mut lab);
    let client = at(V4[0], 40_001);
    let server = at(V4[1], 50_000);
    for (from, to, side) in [
        (client.as_str(), "192.0.2.20:22", Side::Outside),
        ("192.0.2.11:40001", &server, Side::Outside),
        (&client, &server, Side::Inside),
        ("192.0.2.20:20", "192.0.2.10:50000", Side::Inside),
    ] {
        let syn = Wire::new(from, to, side);
        assert!(syn.begin(&mut lab).made.is_empty(), "{from} to {to}");
    }
    for flags in [ACK, FIN, RST, SYN | ACK] {
        let segment = to_port(40_001, 50_000).segment(Client, flags, b"").frame();
        assert!(lab.pass(Side::Outside, segment).made.is_empty(), "{flags}");
    }
    assert!(is_answered(&mut lab));
    let fin = wire.segment(Client, FIN, b"").frame();
    assert!(lab.pass(Side::Outside, fin).is_forward());
    assert!(!is_answered(&mut lab));
}

#[test]
fn a_port_outside_the_range_is_refused_at_once_too() {
    let mut lab = lab(Some(RANGE));
    let _wire = tls_session(&mut lab);
    let passed = to_port(40_001, 50_010).begin(&mut lab);
    assert_eq!(passed.verdict, Verdict::Drop(DropReason::TlsNoRange));
    assert_eq!(passed.made.len(), 1);
    assert!(lab.is_told("the port is outside ftp.tls_ports"));
}
