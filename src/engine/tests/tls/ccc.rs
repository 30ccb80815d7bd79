//! Back in clear text (CCC).

use super::*;

#[test]
fn after_ccc_ports_are_read_again_and_the_range_is_shut() {
    for version in [Tls12, Tls13] {
        let mut lab = lab(Some(RANGE));
        let mut wire = control(V4, Side::Outside);
        wire.goes_tls(&mut lab, version);
        wire.leaves_tls(&mut lab, version);
        wire.dialogue(&mut lab, &[(Client, "PASV")]);
        assert!(!reaches(&mut lab, 40_001, 50_001), "the range");
        wire.dialogue(&mut lab, &[(Server, "227 ok (192,0,2,20,195,80)")]);
        assert!(reaches(&mut lab, 40_001, 50_000), "{version:?}");
        assert!(!reaches(&mut lab, 40_001, 50_001), "the range");
        assert!(lab.is_told("back in clear text (CCC)"));
        // Active mode, at the server's answer: the login was not seen.
        wire.dialogue(&mut lab, &[(Client, "PORT 192,0,2,10,195,81")]);
        let (from, to) = ("192.0.2.20:20", "192.0.2.10:50001");
        assert!(
            !connects(&mut lab, from, to, Side::Inside),
            "not accepted yet"
        );
        wire.dialogue(&mut lab, &[(Server, "200 fine")]);
        assert!(connects(&mut lab, from, to, Side::Inside));
        // Bounces are refused again.
        let arrived = wire
            .say(&mut lab, Client, b"PORT 10,0,0,1,195,80\r\n")
            .bytes();
        assert!(arrived.starts_with(b"XXXX"), "{arrived:?}");
        // And it may go TLS again.
        wire.dialogue(&mut lab, &[(Server, "500 what?")]);
        wire.auth(&mut lab, version);
        assert!(reaches(&mut lab, 40_009, 50_005), "TLS again");
    }
}

#[test]
fn one_byte_in_each_segment_is_the_same_session() {
    for version in [Tls12, Tls13] {
        let mut lab = lab(Some(RANGE));
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        let slowly = |wire: &mut Wire, lab: &mut Lab, from, bytes: &[u8]| {
            for byte in bytes {
                wire.tell(lab, from, &[*byte]);
            }
        };
        let line = b"227 Entering Passive Mode (192,0,2,20,195,90).\r\n";
        slowly(&mut wire, &mut lab, Server, b"220 ready\r\n");
        slowly(&mut wire, &mut lab, Client, b"AUTH TLS\r\n");
        slowly(&mut wire, &mut lab, Server, b"234 go on\r\n");
        slowly(&mut wire, &mut lab, Client, &client_hello());
        slowly(&mut wire, &mut lab, Server, &server_hello(version));
        assert!(reaches(&mut lab, 40_001, 50_000), "{version:?}");
        slowly(&mut wire, &mut lab, Client, &data(b"PASV\r\n"));
        slowly(&mut wire, &mut lab, Server, &data(line));
        assert!(!reaches(&mut lab, 40_001, 50_010), "{version:?}");
        slowly(&mut wire, &mut lab, Server, &close_notify(version));
        slowly(&mut wire, &mut lab, Client, &close_notify(version));
        slowly(&mut wire, &mut lab, Client, b"PASV\r\n");
        slowly(&mut wire, &mut lab, Server, line);
        assert!(reaches(&mut lab, 40_002, 50_010), "{version:?}");
    }
}

#[test]
fn text_right_behind_the_last_record_is_read_from_its_first_byte() {
    let mut lab = lab(None);
    let mut wire = control(V4, Side::Outside);
    wire.goes_tls(&mut lab, Tls12);
    wire.tell(&mut lab, Server, &close_notify(Tls12));
    let joined = [
        close_notify(Tls12).as_slice(),
        b"PORT 10,0,0,1,195,80\r\nPASV\r\n",
    ]
    .concat();
    let arrived = wire.say(&mut lab, Client, &joined).bytes();
    assert_eq!(arrived[..29], close_notify(Tls12));
    assert_eq!(&arrived[29..], b"XXXXXXXXXXXXXXXXXXXX\r\nPASV\r\n");
    wire.dialogue(
        &mut lab,
        &[
            (Server, "500 what?"),
            (Server, "227 ok (192,0,2,20,195,80)"),
        ],
    );
    assert!(reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn a_227_inside_tls_opens_nothing() {
    let line = b"227 Entering Passive Mode (192,0,2,20,195,80).\r\n";
    for version in [Tls12, Tls13] {
        let mut lab = lab(None);
        let mut wire = control(V4, Side::Outside);
        wire.goes_tls(&mut lab, version);
        wire.tell(&mut lab, Client, &data(b"PASV\r\n"));
        wire.tell(&mut lab, Server, &data(line));
        // Alone in a segment, but in the middle of a record.
        let mut long = data(&[b'\n'; 100]);
        long.truncate(50);
        wire.tell(&mut lab, Server, &long);
        wire.tell(&mut lab, Server, line);
        wire.tell(&mut lab, Client, &data(b"PASV\r\n"));
        assert_eq!(lab.shared.totals().ports_opened, 0);
        assert!(!reaches(&mut lab, 40_001, 50_000));
    }
}

#[test]
fn clear_text_that_is_not_ccc_opens_nothing() {
    let pasv = b"PASV\r\n".as_slice();
    let reply = b"227 ok (192,0,2,20,195,80)\r\n".as_slice();
    let notify = close_notify(Tls12);
    let more = data(&[b'x'; 100]);
    let half = &more[..6];
    let stories: &[&[(Speaker, &[u8])]] = &[
        // TLS 1.2 without any close_notify.
        &[(Client, pasv), (Server, reply)],
        // Inside a record; bytes that begin neither a record nor a line.
        &[
            (Server, &notify),
            (Client, half),
            (Client, pasv),
            (Server, reply),
        ],
        &[
            (Server, &notify),
            (Client, b"\r\nPASV\r\n"),
            (Server, reply),
        ],
        &[
            (Server, &notify),
            (Client, b"\xff\xf4PASV\r\n"),
            (Server, reply),
        ],
        &[
            (Server, &notify),
            (Client, pasv),
            (Server, b" 227 x\r\n"),
            (Server, reply),
        ],
        // One end goes on in TLS.
        &[
            (Server, &notify),
            (Client, pasv),
            (Server, &more),
            (Server, &more),
            (Server, reply),
        ],
        &[
            (Server, &notify),
            (Client, pasv),
            (Server, half),
            (Server, reply),
        ],
        &[
            (Client, &notify),
            (Server, reply),
            (Client, &more),
            (Client, &more),
            (Client, pasv),
        ],
    ];
    for (n, story) in stories.iter().enumerate() {
        let mut lab = lab(None);
        let mut wire = control(V4, Side::Outside);
        wire.goes_tls(&mut lab, Tls12);
        for (from, bytes) in *story {
            wire.tell(&mut lab, *from, bytes);
        }
        wire.say(&mut lab, Server, reply);
        assert_eq!(lab.shared.totals().ports_opened, 0, "{n}");
        assert!(!reaches(&mut lab, 40_001, 50_000), "{n}");
    }
}

#[test]
fn a_client_that_does_not_answer_close_notify_is_read() {
    let mut lab = lab(None);
    let mut wire = control(V4, Side::Outside);
    wire.goes_tls(&mut lab, Tls12);
    wire.tell(&mut lab, Server, &close_notify(Tls12));
    wire.dialogue(
        &mut lab,
        &[(Client, "EPSV"), (Server, "229 ok (|||50000|)")],
    );
    assert!(reaches(&mut lab, 40_001, 50_000));
}

#[test]
fn a_close_notify_on_its_way_is_no_contradiction() {
    let mut lab = lab(None);
    let mut wire = control(V4, Side::Outside);
    wire.goes_tls(&mut lab, Tls12);
    wire.tell(&mut lab, Client, &close_notify(Tls12));
    wire.tell(&mut lab, Client, b"PASV\r\n");
    wire.tell(&mut lab, Server, &close_notify(Tls12));
    wire.dialogue(&mut lab, &[(Server, "227 ok (192,0,2,20,195,80)")]);
    assert!(reaches(&mut lab, 40_001, 50_000));
}
