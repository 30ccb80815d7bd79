//! Replies and commands as servers and clients write them: what opens a port, and what never does.
//! All answers name port 40000; `opens` is whether its client can connect there then.

use super::*;

const DATA: &str = "192.0.2.20:40000";
const EVIL: &str = "227 Entering Passive Mode (192,0,2,20,156,64)\r\n";

fn say(lab: &mut Lab, wire: &mut Wire, from: Speaker, text: &str) {
    let passed = wire.say(lab, from, text.as_bytes());
    assert_eq!(passed.bytes(), text.as_bytes(), "{:?}", passed.verdict);
}

fn is_open(lab: &mut Lab) -> bool {
    connects(lab, "192.0.2.10:41000", DATA, Side::Outside)
}

fn opens(command: &str, answer: &str) -> bool {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(&mut lab, &mut wire, Client, &format!("{command}\r\n"));
    assert!(!is_open(&mut lab), "before the answer");
    say(&mut lab, &mut wire, Server, answer);
    is_open(&mut lab)
}

macro_rules! replies {
    ($($name:ident: $command:literal $answer:literal $opens:literal;)*) => {
        $(#[test] fn $name() { assert_eq!(opens($command, $answer), $opens); })*
    };
}

replies! {
    vsftpd_227: "PASV" "227 Entering Passive Mode (192,0,2,20,156,64).\r\n" true;
    pure_ftpd_227_without_dot: "PASV" "227 Entering Passive Mode (192,0,2,20,156,64)\r\n" true;
    a_command_in_lower_case: "pasv" "227 entering passive mode (192,0,2,20,156,64)\r\n" true;
    vsftpd_229_with_final_dot: "EPSV" "229 Entering Extended Passive Mode (|||40000|).\r\n" true;
    pure_ftpd_229: "EPSV" "229 Extended Passive mode OK (|||40000|)\r\n" true;
    pyftpdlib_229_in_lower_case: "EPSV" "229 Entering extended passive mode (|||40000|).\r\n" true;
    epsv_with_a_family: "EPSV 1" "229 ok (|||40000|)\r\n" true;
    sys_ftpd_227_with_numbers_only: "PASV" "227 192,0,2,20,156,64\r\n" true;
    freebox_227_without_text: "PASV" "227 (192,0,2,20,156,64)\r\n" true;
    a_227_without_parentheses: "PASV" "227 Entering passive mode. 192,0,2,20,156,64\r\n" true;
    a_227_that_listens: "PASV"
        "227 Data transfer will passively listen to 192,0,2,20,156,64\r\n" true;
    fluentftp_227_with_spaces: "PASV"
        "227 Entering Passive Mode( 192, 0, 2, 20, 156,64).\r\n" true;
    ffftp_227_with_dots: "PASV" "227 Entering Passive Mode 192.0.2.20.156.64\r\n" true;
    publicfile_227_with_equals: "PASV" "227 =192,0,2,20,156,64\r\n" true;
    aioftp_227_of_many_lines: "PASV"
        "227-listen socket created\r\n227 (192,0,2,20,156,64)\r\n" true;
    basic_ftp_227_as_answer_to_epsv: "EPSV"
        "227 Entering Passive Mode (192,0,2,20,156,64).\r\n" true;
    cpython_229_as_answer_to_pasv: "PASV"
        "229 Entering Extended Passive Mode (|||40000|)\r\n" true;
    basic_ftp_250_before_the_227: "PASV"
        "250 Directory changed.\r\n227 Entering Passive Mode (192,0,2,20,156,64)\r\n" true;
    vsftpd_227_with_no_address: "PASV" "227 Entering Passive Mode (0,0,0,0,156,64).\r\n" true;
    a_227_with_anothers_address: "PASV" "227 Passive (198,51,100,9,156,64)\r\n" true;
    wget_228_as_answer_to_lpsv: "LPSV"
        "228 Entering Long Passive Mode (4,4,192,0,2,20,2,156,64)\r\n" true;
    a_preliminary_reply_before_it: "PASV" "120 wait\r\n227 ok (192,0,2,20,156,64)\r\n" true;

    // The last line of a block counts: that is what curl reads.
    a_227_whose_numbers_are_on_an_inner_line: "PASV"
        "227-Entering (192,0,2,20,156,64)\r\n192,0,2,20,156,64\r\n227 End\r\n" false;
    a_228_answers_lpsv_only: "PASV" "228 Long (4,4,192,0,2,20,2,156,64)\r\n" false;
    a_228_does_not_answer_epsv: "EPSV" "228 Long (4,4,192,0,2,20,2,156,64)\r\n" false;
    a_227_does_not_answer_lpsv: "LPSV" "227 ok (192,0,2,20,156,64)\r\n" false;
    a_229_does_not_answer_lpsv: "LPSV" "229 ok (|||40000|)\r\n" false;
    a_227_does_not_answer_epsv_all: "EPSV ALL" "227 ok (192,0,2,20,156,64)\r\n" false;
    a_refused_pasv: "PASV" "500 no (192,0,2,20,156,64)\r\n" false;
    an_unasked_227: "NOOP" "227 ok (192,0,2,20,156,64)\r\n" false;
    a_bare_lf_before_the_227: "PASV" "250 a\n227 ok (192,0,2,20,156,64)\r\n" false;
    a_bare_lf_behind_the_227: "PASV" "227 ok (192,0,2,20,156,64)\n" false;
    a_nul_in_the_227: "PASV" "227 ok (192,0,2\u{0},20,156,64)\r\n" false;
    numbers_that_overflow: "PASV" "227 ok (192,0,2,20,412,64)\r\n" false;
    a_seventh_number: "PASV" "227 ok (192,0,2,20,156,64,7)\r\n" false;
    nested_in_another_reply: "PASV" "211-x\r\n227 ok (192,0,2,20,156,64)\r\n211 end\r\n" false;
}

#[test]
fn lightftp_a_reply_split_anywhere() {
    let answer = b"227-one\r\n227 Entering Passive Mode (192,0,2,20,156,64)\r\n";
    for cut in 1..answer.len() {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        say(&mut lab, &mut wire, Client, "PASV\r\n");
        wire.say(&mut lab, Server, &answer[..cut]);
        assert!(!is_open(&mut lab), "{cut}");
        wire.say(&mut lab, Server, &answer[cut..]);
        assert!(is_open(&mut lab), "{cut}");
    }
}

#[test]
fn zeek_a_block_that_is_never_closed_opens_nothing() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(&mut lab, &mut wire, Client, "NOOP\r\n");
    say(&mut lab, &mut wire, Server, "230-hello\r\n");
    say(&mut lab, &mut wire, Client, "PASV\r\n");
    say(&mut lab, &mut wire, Server, EVIL);
    assert!(!is_open(&mut lab));
    let told = lab.told().join("\n");
    assert!(told.contains("inside a reply that has not ended"), "{told}");
    // Closed at last: the next one counts.
    say(&mut lab, &mut wire, Server, "230 end\r\n");
    say(&mut lab, &mut wire, Client, "PASV\r\n");
    say(&mut lab, &mut wire, Server, EVIL);
    assert!(is_open(&mut lab));
}

#[test]
fn a_server_that_never_writes_a_cr_has_one_reading() {
    let mut lab = Lab::new();
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    for (from, text) in [
        (Server, "220-hello\n220 there\n"),
        (Client, "USER joe\r\n"),
        (Server, "230 in\n"),
        (Client, "PASV\r\n"),
        (Server, "227 Entering Passive Mode (192,0,2,20,156,64).\n"),
    ] {
        say(&mut lab, &mut wire, from, text);
    }
    assert!(is_open(&mut lab));
}

#[test]
fn a_name_with_a_line_feed_sent_back_is_no_reply() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(&mut lab, &mut wire, Client, "PWD\r\nPASV\r\n");
    let echo = "257 \"/a\n227 Entering Passive Mode (192,0,2,20,156,64)\" is current\r\n";
    say(&mut lab, &mut wire, Server, echo);
    assert!(!is_open(&mut lab));
}

#[test]
fn after_a_reply_too_many_the_session_is_in_step_again() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "CWD a"),
            (Server, "200 OK"),
            (Client, "CWD b"),
            (Server, "250 Directory changed."),
            (Server, "250 Directory changed."), // nobody waits
            (Client, "PASV"),
            (Server, "250 Directory changed."), // not an answer to PASV
            (Client, "TYPE I"),                 // but the client took it for one
            (Server, "227 late (192,0,2,20,156,65)"),
            (Server, "200 binary"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0, "it went on without");
    wire.dialogue(&mut lab, &[(Client, "PASV")]);
    say(&mut lab, &mut wire, Server, EVIL);
    assert!(is_open(&mut lab));
}

#[test]
fn commands_that_are_answered_during_a_transfer() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "REST 100"),
            (Server, "350 go on"),
            (Client, "RETR x"),
            (Server, "150 here it comes"),
            (Client, "NOOP"),
            (Server, "200 alive"),
            (Client, "STAT"),
            (Server, "213-so far"),
            (Server, "227 (192,0,2,20,156,64)"),
            (Server, "213 end"),
            (Server, "226 done"),
            (Client, "RNFR a"),
            (Server, "350 and?"),
            (Client, "RNTO b"),
            (Server, "250 done"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
    wire.dialogue(&mut lab, &[(Client, "PASV")]);
    say(&mut lab, &mut wire, Server, EVIL);
    assert!(is_open(&mut lab));
}

#[test]
fn a_421_shuts_the_port_and_ends_the_session() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(&mut lab, &mut wire, Client, "PASV\r\n");
    say(&mut lab, &mut wire, Server, EVIL);
    say(&mut lab, &mut wire, Server, "421 Timeout.\r\n");
    assert_eq!(lab.shared.totals().expectations, 0);
    assert!(!is_open(&mut lab));
    say(&mut lab, &mut wire, Client, "PASV\r\n");
    say(&mut lab, &mut wire, Server, EVIL);
    assert!(!is_open(&mut lab));
}

/// A session up to its greeting, and these lines.
fn begun(lab: &mut Lab, lines: &[(Speaker, &str)]) -> Wire {
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(lab));
    wire.dialogue(lab, &[(Server, "220 ready")]);
    wire.dialogue(lab, lines);
    wire.dialogue(lab, &[(Client, "PASV")]);
    say(lab, &mut wire, Server, EVIL);
    wire
}

#[test]
fn the_ways_to_log_in() {
    for (lines, logged_in) in [
        (&[(Client, "USER joe"), (Server, "230 in")][..], true),
        (
            &[
                (Client, "HOST x.example"),
                (Server, "220 x"),
                (Client, "USER joe"),
                (Server, "230 in"),
            ],
            true,
        ),
        (
            &[
                (Client, "USER joe"),
                (Server, "331 pass?"),
                (Client, "PASS x"),
                (Server, "332 acct?"),
            ],
            false,
        ),
        (
            &[
                (Client, "USER joe"),
                (Server, "331 pass?"),
                (Client, "PASS x"),
                (Server, "332 acct?"),
                (Client, "ACCT y"),
                (Server, "230 in"),
            ],
            true,
        ),
        (
            &[
                (Client, "USER joe"),
                (Server, "331 pass?"),
                (Client, "PASS x"),
                (Server, "530 no"),
            ],
            false,
        ),
        (
            &[
                (Client, "USER joe"),
                (Server, "230 in"),
                (Client, "USER ann"),
                (Server, "331 pass?"),
            ],
            false,
        ),
        (
            &[
                (Client, "USER joe"),
                (Server, "230 in"),
                (Client, "REIN"),
                (Server, "220 again"),
            ],
            false,
        ),
        (&[(Client, "NOOP"), (Server, "230 in")], false),
        (&[(Server, "230 in")], false),
    ] {
        let mut lab = Lab::new();
        begun(&mut lab, lines);
        assert_eq!(
            is_open(&mut lab),
            logged_in,
            "{lines:?}",
            lines = lines.iter().map(|l| l.1).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_greeting_may_be_slow_and_say_anything() {
    let mut lab = Lab::new();
    let mut wire = control(V4, Side::Outside);
    assert!(wire.connect(&mut lab));
    wire.dialogue(
        &mut lab,
        &[
            (Server, "120 in two minutes"),
            (Server, "220-hello"),
            (Server, "227 Entering Passive Mode (192,0,2,20,156,64)"),
            (Server, "220 there"),
        ],
    );
    assert!(!is_open(&mut lab));
    wire.dialogue(
        &mut lab,
        &[(Client, "USER joe"), (Server, "230 in"), (Client, "PASV")],
    );
    say(&mut lab, &mut wire, Server, EVIL);
    assert!(is_open(&mut lab));
}

#[test]
fn rein_shuts_the_port() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(&mut lab, &mut wire, Client, "PASV\r\n");
    say(&mut lab, &mut wire, Server, EVIL);
    wire.dialogue(&mut lab, &[(Client, "REIN"), (Server, "220 ready")]);
    assert!(!is_open(&mut lab));
}

#[test]
fn lprt_and_lpsv_in_both_families() {
    for (hosts, lprt, answer) in [
        (
            V4,
            "LPRT 4,4,192,0,2,10,2,156,64",
            "228 Long (4,4,192,0,2,20,2,156,64)",
        ),
        (
            V6,
            "LPRT 6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,16,2,156,64",
            "228 Long (6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,32,2,156,64)",
        ),
    ] {
        let mut lab = Lab::new();
        let mut wire = control(hosts, Side::Outside);
        wire.login(&mut lab);
        let [client, server] = hosts;
        wire.dialogue(&mut lab, &[(Client, lprt)]);
        let told = lab.told().join("\n");
        assert!(told.contains("(LPRT)"), "{told}");
        assert!(connects(
            &mut lab,
            &at(server, 20),
            &at(client, 40_000),
            Side::Inside
        ));
        wire.dialogue(
            &mut lab,
            &[(Server, "200 ok"), (Client, "LPSV"), (Server, answer)],
        );
        let told = lab.told().join("\n");
        assert!(told.contains("(LPSV)"), "{told}");
        assert!(connects(
            &mut lab,
            &at(client, 41_000),
            &at(server, 40_000),
            Side::Outside
        ));
        assert!(!connects(
            &mut lab,
            &at(client, 41_001),
            &at(server, 40_000),
            Side::Outside
        ));
    }
}

#[test]
fn an_lprt_bounce_is_made_unreadable_however_it_is_cut() {
    for line in [
        &b"LPRT 4,4,192,0,2,11,2,156,64\r\n"[..],
        b"LPRT 4,4,192,0,2,10,2,0,22\r\n",
        b"LPRT 6,16,192,0,2,10,2,156,64\r\n",
        b"LPRT 4,4,192,0,2,10,2,156\r\n",
    ] {
        for cut in 1..line.len() {
            let mut lab = Lab::new();
            let mut wire = session(&mut lab);
            let mut arrived = wire.say(&mut lab, Client, &line[..cut]).bytes();
            arrived.extend(wire.say(&mut lab, Client, &line[cut..]).bytes());
            assert_eq!(arrived.len(), line.len());
            assert_ne!(arrived, line, "{cut}");
            assert_eq!(lab.shared.totals().refused, 1);
            assert_eq!(lab.shared.totals().expectations, 0);
        }
    }
}

#[test]
fn after_epsv_all_the_long_commands_count_neither() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "epsv all"),
            (Server, "200 ok"),
            (Client, "LPSV"),
            (Server, "228 Long (4,4,192,0,2,20,2,156,64)"),
            (Client, "LPRT 4,4,192,0,2,10,2,156,64"),
            (Server, "200 ok"),
            (Client, "EPRT |1|192.0.2.10|40000|"),
            (Server, "200 ok"),
        ],
    );
    assert_eq!(lab.shared.totals().ports_opened, 0);
}

#[test]
fn an_ambiguous_lprt_opens_at_its_answer() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(
        &mut lab,
        &mut wire,
        Client,
        "LPRT 4,4,192,0,2,10,2,156,64\n",
    );
    assert_eq!(lab.shared.totals().expectations, 0);
    say(&mut lab, &mut wire, Server, "200 ok\r\n");
    assert!(connects(
        &mut lab,
        "192.0.2.20:20",
        "192.0.2.10:40000",
        Side::Inside
    ));
}

#[test]
fn a_port_command_beyond_the_length_bound_opens_at_its_answer() {
    for (blanks, at_once) in [(10, true), (4090, false)] {
        let mut lab = Lab::new();
        let mut wire = session(&mut lab);
        let line = format!("PORT{}192,0,2,10,156,64\r\n", " ".repeat(blanks));
        for part in line.as_bytes().chunks(1000) {
            assert!(wire.say(&mut lab, Client, part).is_forward());
        }
        assert_eq!(lab.shared.totals().expectations == 1, at_once);
        wire.dialogue(&mut lab, &[(Server, "200 ok")]);
        assert_eq!(lab.shared.totals().expectations, 1);
    }
}

#[test]
fn the_next_port_replaces_the_one_before() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(&mut lab, &mut wire, Client, "PASV\r\n");
    say(&mut lab, &mut wire, Server, EVIL);
    wire.dialogue(
        &mut lab,
        &[(Client, "EPSV"), (Server, "229 ok (|||40001|)")],
    );
    assert!(!is_open(&mut lab));
    wire.dialogue(&mut lab, &[(Client, "PORT 192,0,2,10,156,64")]);
    assert!(!connects(
        &mut lab,
        "192.0.2.10:41000",
        "192.0.2.20:40001",
        Side::Outside
    ));
    assert!(connects(
        &mut lab,
        "192.0.2.20:20",
        "192.0.2.10:40000",
        Side::Inside
    ));
}

#[test]
fn neither_a_try_nor_the_answer_sent_again_makes_a_port_last_longer() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(&mut lab, &mut wire, Client, "PASV\r\n");
    let answer = wire.segment(Server, 0, EVIL.as_bytes()).frame();
    say(&mut lab, &mut wire, Server, EVIL);
    lab.later(50);
    assert!(lab.pass(Side::Inside, answer).is_forward(), "sent again");
    let data = Wire::new("192.0.2.10:41000", DATA, Side::Outside);
    assert!(data.begin(&mut lab).is_forward());
    let mut rst = data.segment(Server, RST | ACK, b"");
    (rst.seq, rst.ack) = (0, 1001);
    assert!(lab.pass(Side::Inside, rst.frame()).is_forward());
    lab.later(11);
    assert!(!connects(&mut lab, "192.0.2.10:41001", DATA, Side::Outside));
}

#[test]
fn eight_tries_and_no_more() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    say(&mut lab, &mut wire, Client, "PASV\r\n");
    say(&mut lab, &mut wire, Server, EVIL);
    for port in 0..9 {
        let data = Wire::new(&at(V4[0], 42_000 + port), DATA, Side::Outside);
        let passed = data.begin(&mut lab).is_forward();
        assert_eq!(passed, port < 8, "{port}");
        let mut rst = data.segment(Server, RST | ACK, b"");
        (rst.seq, rst.ack) = (0, 1001);
        lab.pass(Side::Inside, rst.frame());
    }
}
