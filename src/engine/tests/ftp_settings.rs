//! Each of the helper's settings: what it lets through, and what it does not.

use super::*;

/// A session with these settings, logged in.
fn with(settings: &[(&str, &str)]) -> (Lab, Wire) {
    let mut lab = Lab::set(settings);
    let wire = session(&mut lab);
    (lab, wire)
}

/// What of a line arrives.
fn arrives(lab: &mut Lab, wire: &mut Wire, line: &str) -> String {
    let bytes = wire
        .say(lab, Client, format!("{line}\r\n").as_bytes())
        .bytes();
    String::from_utf8(bytes).unwrap().trim_end().to_owned()
}

fn server_connects(lab: &mut Lab, from_port: u16, to: &str) -> bool {
    connects(lab, &at(V4[1], from_port), to, Side::Inside)
}

#[test]
fn demand_login() {
    for (value, opened) in [("yes", 0), ("no", 1)] {
        let mut lab = Lab::set(&[("ftp.demand_login", value)]);
        let mut wire = control(V4, Side::Outside);
        assert!(wire.connect(&mut lab));
        wire.dialogue(
            &mut lab,
            &[
                (Server, "220 hi"),
                (Client, "PASV"),
                (Server, "227 ok (192,0,2,20,195,80)"),
            ],
        );
        assert_eq!(lab.shared.totals().ports_opened, opened);
        let open = reaches(&mut lab, 40_001, 50_000);
        assert_eq!(open, opened == 1);
    }
}

#[test]
fn active_mode_off() {
    for line in [
        "PORT 192,0,2,10,195,80",
        "EPRT |1|192.0.2.10|50000|",
        "LPRT 4,4,192,0,2,10,2,195,80",
    ] {
        let (mut lab, mut wire) = with(&[("ftp.active", "no")]);
        assert_eq!(arrives(&mut lab, &mut wire, line), "X".repeat(line.len()));
        assert!(!server_connects(&mut lab, 20, "192.0.2.10:50000"));
        let told = lab.told().join("\n");
        assert!(told.contains("active mode is switched off"), "{told}");
        // The client falls back at once.
        wire.dialogue(
            &mut lab,
            &[
                (Server, "500 what?"),
                (Client, "PASV"),
                (Server, "227 ok (192,0,2,20,195,80)"),
            ],
        );
        assert!(reaches(&mut lab, 40_001, 50_000));
    }
}

#[test]
fn active_ports() {
    let setting = [("ftp.active_ports", "50000-50010")];
    for (line, open) in [
        ("PORT 192,0,2,10,195,80", true),
        ("PORT 192,0,2,10,195,90", true),
        ("PORT 192,0,2,10,195,91", false),
        ("PORT 192,0,2,10,195,79", false),
        ("EPRT |1|192.0.2.10|50010|", true),
        ("EPRT |1|192.0.2.10|50011|", false),
        ("LPRT 4,4,192,0,2,10,2,196,80", false),
    ] {
        let (mut lab, mut wire) = with(&setting);
        let arrived = arrives(&mut lab, &mut wire, line);
        assert_eq!(arrived == line, open, "{arrived}");
        assert_eq!(lab.shared.totals().expectations, u64::from(open));
        for port in [49_999, 50_011, 50_256] {
            assert!(!server_connects(&mut lab, 20, &at(V4[0], port)), "{line}");
        }
        if !open {
            let told = lab.told().join("\n");
            assert!(told.contains("ftp.active_ports"), "{told}");
        }
    }
}

#[test]
fn source_port_20() {
    let (mut lab, mut wire) = with(&[("ftp.source_port_20", "yes")]);
    wire.dialogue(
        &mut lab,
        &[(Client, "PORT 192,0,2,10,195,80"), (Server, "200 ok")],
    );
    assert!(!server_connects(&mut lab, 21_000, "192.0.2.10:50000"));
    assert_eq!(lab.dropped(DropReason::ExpectationSourcePort), 1);
    assert!(server_connects(&mut lab, 20, "192.0.2.10:50000"));
    assert!(
        !server_connects(&mut lab, 21_000, "192.0.2.10:50000"),
        "used up"
    );
    assert_eq!(lab.dropped(DropReason::ExpectationSourcePort), 1);
    // It is about active mode.
    wire.dialogue(&mut lab, OPEN);
    assert!(reaches(&mut lab, 40_001, 50_000));
    // Without the setting any port does.
    let (mut lab, mut wire) = with(&[]);
    wire.dialogue(&mut lab, &[(Client, "PORT 192,0,2,10,195,80")]);
    assert!(server_connects(&mut lab, 21_000, "192.0.2.10:50000"));
}

#[test]
fn foreign_addresses() {
    const OWN: &str = "192.0.2.20:50000";
    const LISTED: &str = "198.51.100.9:50000";
    for (ask, answer) in [
        ("PASV", "227 ok (198,51,100,9,195,80)"),
        ("LPSV", "228 ok (4,4,198,51,100,9,2,195,80)"),
    ] {
        for (prefixes, own, listed) in [
            ("none", true, false),
            ("198.51.100.0/24", false, true),
            ("203.0.113.0/24,2001:db8::/32", true, false),
        ] {
            let (mut lab, mut wire) = with(&[("ftp.foreign", prefixes)]);
            wire.dialogue(&mut lab, &[(Client, ask), (Server, answer)]);
            let from = "192.0.2.10:40001";
            assert_eq!(
                connects(&mut lab, from, LISTED, Side::Outside),
                listed,
                "{prefixes}"
            );
            assert_eq!(
                connects(&mut lab, from, OWN, Side::Outside),
                own,
                "{prefixes}"
            );
        }
    }
    // The server's own address stays what it is.
    let (mut lab, mut wire) = with(&[("ftp.foreign", "198.51.100.0/24")]);
    wire.dialogue(&mut lab, OPEN);
    assert!(connects(&mut lab, "192.0.2.10:40001", OWN, Side::Outside));
}

#[test]
fn fxp_active() {
    for line in [
        "PORT 198,51,100,9,195,80",
        "EPRT |1|198.51.100.9|50000|",
        "LPRT 4,4,198,51,100,9,2,195,80",
    ] {
        let (mut lab, mut wire) = with(&[("ftp.fxp", "198.51.100.8/29")]);
        assert_eq!(arrives(&mut lab, &mut wire, line), line);
        assert!(!server_connects(&mut lab, 20, "192.0.2.10:50000"));
        assert!(!server_connects(&mut lab, 20, "198.51.100.10:50000"));
        assert!(server_connects(&mut lab, 20, "198.51.100.9:50000"));
        assert!(!server_connects(&mut lab, 21, "198.51.100.9:50000"), "once");
        let (mut lab, mut wire) = with(&[("ftp.fxp", "198.51.100.16/29")]);
        assert_ne!(arrives(&mut lab, &mut wire, line), line);
        assert!(!server_connects(&mut lab, 20, "198.51.100.9:50000"));
    }
    // Low ports stay refused.
    let (mut lab, mut wire) = with(&[("ftp.fxp", "198.51.100.8/29")]);
    let line = "PORT 198,51,100,9,0,25";
    assert_ne!(arrives(&mut lab, &mut wire, line), line);
}

#[test]
fn fxp_passive() {
    let listed = [("ftp.fxp", "198.51.100.8/29")];
    for (from, settings, open) in [
        ("192.0.2.10:40001", &listed[..], true),
        ("198.51.100.9:40001", &listed, true),
        ("198.51.100.16:40001", &listed, false),
        ("198.51.100.9:40001", &[], false),
    ] {
        let (mut lab, mut wire) = with(settings);
        wire.dialogue(&mut lab, OPEN);
        let to = "192.0.2.20:50000";
        assert!(
            !connects(&mut lab, from, to, Side::Inside),
            "the other side"
        );
        assert_eq!(connects(&mut lab, from, to, Side::Outside), open, "{from}");
        let again = connects(&mut lab, "192.0.2.10:40009", to, Side::Outside);
        assert_eq!(again, !open, "one connection in all");
    }
    // The session's end shuts it, too.
    let (mut lab, mut wire) = with(&listed);
    wire.dialogue(&mut lab, OPEN);
    let told = lab.told().join("\n");
    assert!(
        told.contains("192.0.2.10 or a host of ftp.fxp may connect"),
        "{told}"
    );
    wire.close(&mut lab);
    assert_eq!(lab.shared.totals().expectations, 0);
    assert!(!connects(
        &mut lab,
        "198.51.100.9:40001",
        "192.0.2.20:50000",
        Side::Outside
    ));
}

#[test]
fn command_policy() {
    let (mut lab, mut wire) = with(&[("ftp.commands", "deny:DELE,SITE,PASV")]);
    for line in ["DELE x", "dele x", "SITE CHMOD 777 x", "PASV"] {
        assert_eq!(arrives(&mut lab, &mut wire, line), "X".repeat(line.len()));
        wire.dialogue(&mut lab, &[(Server, "500 what?")]);
    }
    assert_eq!(lab.shared.totals().refused, 4);
    let told = lab.told().join("\n");
    assert!(told.contains("refused DELE: ftp.commands"), "{told}");
    for line in ["RETR DELE", "XYZZY", "RMD x"] {
        assert_eq!(arrives(&mut lab, &mut wire, line), line);
        wire.dialogue(&mut lab, &[(Server, "502 no")]);
    }
    // What was refused had its answer: the session is in step.
    wire.dialogue(
        &mut lab,
        &[(Client, "EPSV"), (Server, "229 ok (|||50000|)")],
    );
    assert!(reaches(&mut lab, 40_001, 50_000));

    let (mut lab, mut wire) = with(&[("ftp.commands", "allow:USER,PASS,RETR,PASV")]);
    for line in ["STOR x", "XYZZY", "SIZE", "AUTH TLS"] {
        assert_eq!(arrives(&mut lab, &mut wire, line), "X".repeat(line.len()));
    }
    assert_eq!(arrives(&mut lab, &mut wire, "RETR x"), "RETR x");
}

#[test]
fn a_forbidden_command_that_comes_byte_by_byte_or_again() {
    let line = b"DELE file\r\n";
    let (mut lab, mut wire) = with(&[("ftp.commands", "read-only")]);
    let again = wire.segment(Client, 0, line);
    let mut arrived = Vec::new();
    for byte in line {
        arrived.extend(wire.say(&mut lab, Client, &[*byte]).bytes());
    }
    assert_eq!(arrived, b"DELEXXXXX\r\n");
    assert_eq!(lab.pass(Side::Outside, again.frame()).bytes(), arrived);
    let mut bare = Vec::new();
    for byte in b"NOOP\r\nDELE\r\n" {
        bare.extend(wire.say(&mut lab, Client, &[*byte]).bytes());
    }
    assert_eq!(
        bare, b"NOOP\r\nDELEX\n",
        "its end is what is left to change"
    );
}

#[test]
fn expect_timeout() {
    for (wait, open) in [(4, true), (5, false)] {
        let (mut lab, mut wire) = with(&[("ftp.expect_timeout", "5")]);
        wire.dialogue(&mut lab, OPEN);
        let told = lab.told().join("\n");
        assert!(told.contains("once within 5 s"), "{told}");
        lab.later(wait);
        assert_eq!(reaches(&mut lab, 40_001, 50_000), open);
    }
}

#[test]
fn a_session_has_the_settings_of_its_helper_object() {
    const TWO: &str = r#"
table bridge test {
  ct helper plain { type "ftp" protocol tcp; }
  ct helper quiet { type "ftp" protocol tcp; comment "lotus:quiet"; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    tcp dport 21 ct state new ct helper set "plain" accept
    tcp dport 2121 ct state new ct helper set "quiet" accept
  }
}
"#;
    let mut settings = Settings::default();
    settings.set("ftp.quiet.active", "no").unwrap();
    settings.set("ftp.quiet.commands", "deny:DELE").unwrap();
    let names = PortNames {
        inside: "in".into(),
        outside: "out".into(),
    };
    let rules = Ruleset::parse("two.nft", TWO, &names).unwrap();
    let shared = Shared::new(rules, settings);
    let counters = Arc::new(Counters::default());
    let mut lab = Lab {
        engine: Engine::new(Arc::clone(&shared), Arc::clone(&counters)),
        shared,
        counters,
        now: Time::from_nanos(1),
    };
    for (port, passes) in [(21, true), (2121, false)] {
        let mut wire = Wire::new(&at(V4[0], 40_000), &at(V4[1], port), Side::Outside);
        wire.login(&mut lab);
        for line in ["PORT 192,0,2,10,195,80", "DELE x"] {
            assert_eq!(
                arrives(&mut lab, &mut wire, line) == line,
                passes,
                "{port}: {line}"
            );
        }
    }
}
