//! Attacks with text that looks like a command or a reply and is none, or not to everybody.

use lotus::wire::Side;

use crate::common::{
    Door, Hosts, Lab, Speaker::Client, Speaker::Server, Talk, V4, V6, at, entering, everywhere,
    extended,
};
use crate::{assert_refused, blotted};

const TELNET: &str = "TELNET";

/// What a server's line says of the port that a helper could be led to open.
fn announcement(hosts: Hosts, port: u16) -> String {
    let line = if hosts.is_v6() {
        extended(port)
    } else {
        entering(hosts.server, port)
    };
    line.trim_end().to_owned()
}

fn passive_doors(hosts: Hosts, side: Side, port: u16) -> [Door; 1] {
    [Door {
        from: hosts.client,
        to: at(hosts.server, port),
        side,
    }]
}

fn active_doors(hosts: Hosts, side: Side, port: u16) -> [Door; 1] {
    [Door {
        from: hosts.server,
        to: at(hosts.client, port),
        side: side.other(),
    }]
}

/// The session is in step: the next PASV or EPSV opens its port, and that only.
#[track_caller]
fn still_in_step(lab: &mut Lab, talk: &mut Talk) {
    let (hosts, side) = (talk.hosts, talk.client_side);
    lab.assert_open(hosts, &[]);
    let (command, answer) = hosts.passive(52_000);
    talk.dialogue(lab, &[(Client, command), (Server, &answer)]);
    lab.assert_open(hosts, &passive_doors(hosts, side, 52_000));
}

#[test]
fn a03_echoed_227_in_an_error_is_no_answer() {
    everywhere(|hosts, side| {
        let fake = announcement(hosts, 51_400);
        let answer = format!("550 {fake}: no such file\r\n");
        // The client makes the server say it, with the segment boundary right before "227".
        for cut in ["550 ".len(), 1, 2, 3, 7, 20] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            let command = format!("NLST {fake}\r\n");
            talk.dialogue(&mut lab, &[(Client, &command)]);
            let (first, second) = answer.split_at(cut);
            talk.dialogue(&mut lab, &[(Server, first), (Server, second)]);
            still_in_step(&mut lab, &mut talk);
        }
        // The same as the answer to PASV itself.
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        let (command, _) = hosts.passive(51_400);
        talk.dialogue(&mut lab, &[(Client, command), (Server, "550 ")]);
        talk.dialogue(&mut lab, &[(Server, &answer["550 ".len()..])]);
        still_in_step(&mut lab, &mut talk);
    });
}

#[test]
fn a03_retransmission_that_begins_with_227_is_no_answer() {
    everywhere(|hosts, side| {
        let fake = announcement(hosts, 51_400);
        let answer = format!("550 {fake}: no such file\r\n");
        for is_acknowledged in [false, true] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            // A PASV waits for its answer, the best moment for the attacker.
            let (command, _) = hosts.passive(51_400);
            talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
            if is_acknowledged {
                talk.acknowledge(&mut lab, Client);
            } else {
                // A partial acknowledgment: "550 " and no more.
                let mut ack = talk.segment(Client);
                ack.ack = ack.ack.wrapping_sub(answer.len() as u32 - 4);
                talk.send(&mut lab, Client, &ack);
            }
            let again = &answer.as_bytes()["550 ".len()..];
            let verdict = talk.say_at(&mut lab, Server, -(again.len() as i64), again);
            assert_eq!(verdict, lotus::engine::Verdict::Forward);
            assert!(talk.heard(Client).ends_with(&answer));
            still_in_step(&mut lab, &mut talk);
        }
    });
}

#[test]
fn a03_text_inside_other_answers_is_no_answer() {
    everywhere(|hosts, side| {
        let fake = announcement(hosts, 51_400);
        let (passive, _) = hosts.passive(51_400);
        for (command, answer) in [
            // Lines of a listing or a help text over the control connection.
            ("STAT .\r\n", format!("213-status\r\n{fake}\r\n213 end\r\n")),
            (
                "STAT .\r\n",
                format!("213-status\r\n {fake}\r\n213 end\r\n"),
            ),
            (
                "HELP\r\n",
                format!("214-{fake}\r\n214-{fake}\r\n214 end\r\n"),
            ),
            // A block of the very code of an announcement, and its other half.
            (
                passive,
                format!("227-{fake}\r\n227-{fake}\r\n550 no\r\n227 sorry\r\n"),
            ),
            (passive, format!("550-no\r\n{fake}\r\n550 no\r\n")),
            // Not at a line's start, or no code.
            ("NOOP\r\n", format!("200 {fake}\r\n")),
            ("NOOP\r\n", format!(" {fake}\r\n200 ok\r\n")),
            ("NOOP\r\n", format!("x{fake}\r\n200 ok\r\n")),
            (
                passive,
                format!("{}\r\n500 no\r\n", fake.replacen(' ', "\t", 1)),
            ),
            (passive, format!("2{fake}\r\n500 no\r\n")),
            // Preliminary answers, and what is not yet one.
            ("LIST\r\n", format!("150 {fake}\r\n226 done\r\n")),
        ] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
            lab.assert_open(hosts, &[]);
            if !answer.contains("227 sorry") && !answer.starts_with("22") {
                still_in_step(&mut lab, &mut talk);
            }
        }
    });
}

#[test]
fn a03_answer_to_nobody_opens_nothing() {
    everywhere(|hosts, side| {
        let fake = announcement(hosts, 51_400) + "\r\n";
        // Unasked, before and after a login, as the answer to something else.
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        talk.dialogue(&mut lab, &[(Server, &fake)]);
        lab.assert_told(&["opened nothing", "no command asked for it"]);
        for command in ["NOOP\r\n", "LIST\r\n", "PWD\r\n", "SITE PASV\r\n"] {
            talk.dialogue(&mut lab, &[(Client, command), (Server, &fake)]);
            lab.assert_told(&["opened nothing", "answers another command"]);
        }
        still_in_step(&mut lab, &mut talk);

        let mut lab = Lab::new();
        let mut talk = Talk::new(hosts, side);
        talk.connect(&mut lab);
        talk.dialogue(
            &mut lab,
            &[
                (Server, &format!("220-{}\r\n220 ok\r\n", fake.trim_end())),
                (Client, "USER joe\r\n"),
                (Server, &fake),
            ],
        );
        lab.assert_open(hosts, &[]);

        // Said by the client, it is a command like any other.
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        talk.dialogue(&mut lab, &[(Client, &fake), (Server, "500 what?\r\n")]);
        // And a command that the server says is none of the client's.
        let active = hosts.active(hosts.client, 51_400);
        talk.dialogue(&mut lab, &[(Server, &active)]);
        still_in_step(&mut lab, &mut talk);
    });
}

#[test]
fn a04_two_commands_in_one_write_are_two_commands() {
    everywhere(|hosts, side| {
        // The second one is a bounce: it is found, and only it is taken out.
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        let foreign = format!(
            "EPRT |{}|{}|50000|\r\n",
            if hosts.is_v6() { 2 } else { 1 },
            hosts.neighbour
        );
        let both = format!("RETR x\r\n{foreign}NOOP\r\n");
        let got = talk.say(&mut lab, Client, &both);
        assert_eq!(got, format!("RETR x\r\n{}NOOP\r\n", blotted(&foreign)));
        lab.assert_told(&["refused", "FTP bounce"]);
        talk.dialogue(
            &mut lab,
            &[(Server, "550 no\r\n"), (Server, "500 what?\r\n200 ok\r\n")],
        );
        still_in_step(&mut lab, &mut talk);

        // The second one is good: it opens when the server has accepted it, not before.
        let active = hosts.active(hosts.client, 51_400);
        for (answers, doors) in [
            (
                "550 no\r\n200 ok\r\n",
                &active_doors(hosts, side, 51_400)[..],
            ),
            ("550 no\r\n500 what?\r\n", &[]),
            // One answer only: the server took both lines for one.
            ("200 ok\r\n", &[]),
        ] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            let both = format!("RETR x\r\n{active}");
            talk.dialogue(&mut lab, &[(Client, &both)]);
            lab.assert_open(hosts, &[]);
            talk.dialogue(&mut lab, &[(Server, answers)]);
            lab.assert_open(hosts, doors);
        }
    });
}

#[test]
fn a05_port_at_a_segment_start_in_the_middle_of_a_line_is_no_command() {
    everywhere(|hosts, side| {
        for host in [hosts.client, hosts.neighbour] {
            let tail = hosts.active(host, 51_400);
            let line = format!("CWD {}{tail}", "a".repeat(500));
            let tail_at = line.len() - tail.len();
            // A small MSS puts the tail at the start of a segment.
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            assert_eq!(talk.say_cut(&mut lab, Client, &line, tail_at), line);
            // A partial acknowledgment makes TCP send the tail again, alone.
            let mut ack = talk.segment(Server);
            ack.ack = ack.ack.wrapping_sub(tail.len() as u32);
            talk.send(&mut lab, Server, &ack);
            let verdict = talk.say_at(&mut lab, Client, -(tail.len() as i64), tail.as_bytes());
            assert_eq!(verdict, lotus::engine::Verdict::Forward);
            assert!(talk.heard(Server).ends_with(&line), "it arrives as it was");
            talk.dialogue(&mut lab, &[(Server, "250 ok\r\n")]);
            assert_eq!(lab.refusals(), [""; 0], "a file's name is nobody's command");
            still_in_step(&mut lab, &mut talk);
        }
    });
}

#[test]
fn a05_port_in_a_line_longer_than_anybody_keeps_is_no_command() {
    let tail = V4.active(V4.client, 51_400);
    for filling in [250, 256, 4_090, 4_096, 5_000, 20_000] {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
        let line = format!("CWD {}{tail}", "a".repeat(filling));
        assert_eq!(talk.say_cut(&mut lab, Client, &line, filling + 4), line);
        talk.dialogue(&mut lab, &[(Server, "250 ok\r\n")]);
        still_in_step(&mut lab, &mut talk);
    }
}

#[test]
fn a06_cr_nul_lf_in_a_name_is_a_line_end_to_some_only() {
    everywhere(|hosts, side| {
        let own = hosts.active(hosts.client, 51_400);
        let foreign = format!(
            "EPRT |{}|{}|50000|\r\n",
            if hosts.is_v6() { 2 } else { 1 },
            hosts.neighbour
        );
        for name in ["a\r\0\n", "a\n", "a\r\0", "a\r", "a\r\0\r\0\n"] {
            let ends = name.ends_with('\n');
            // To a server that reads two lines it would be a bounce: it never arrives as one.
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            let line = format!("STOR {name}{foreign}");
            let got = talk.say(&mut lab, Client, &line);
            if ends {
                assert_eq!(got, format!("STOR {name}{}", blotted(&foreign)));
                lab.assert_told(&["refused", "FTP bounce"]);
            } else {
                assert_eq!(got, line, "a file's name to everybody");
            }
            lab.assert_open(hosts, &[]);

            // Not at once; and not when the server took it for one line, whatever it says next.
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            let line = format!("STOR {name}{own}");
            talk.dialogue(&mut lab, &[(Client, &line)]);
            lab.assert_open(hosts, &[]);
            for answer in ["150 go\r\n", "226 done\r\n"] {
                talk.dialogue(&mut lab, &[(Server, answer)]);
                lab.assert_open(hosts, &[]);
            }
            talk.dialogue(&mut lab, &[(Client, "NOOP\r\n"), (Server, "200 ok\r\n")]);
            lab.assert_open(hosts, &[]);
        }
    });
}

#[test]
fn a06_accomplice_server_that_reads_two_lines_gets_no_port() {
    // The client meant a file's name (RFC 2640 section 3.1); only the server says otherwise.
    everywhere(|hosts, side| {
        for name in ["a\r\0\n", "a\r\r\0\n", "\r\0\n"] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, side);
            let line = format!("STOR {name}{}", hosts.active(hosts.client, 51_400));
            talk.dialogue(
                &mut lab,
                &[(Client, &line), (Server, "226 done\r\n200 ok\r\n")],
            );
            lab.assert_open(hosts, &[]);
            lab.assert_told(&["opened nothing", "two ways"]);
        }
    });
}

#[test]
fn a14_telnet_bytes_hide_no_command() {
    // As bytes: what is above 0x7f is no UTF-8.
    let own = b"192,0,2,10,200,200\r\n";
    let foreign = b"192,0,2,77,200,200\r\n";
    for argument in [own, foreign] {
        for verb in [
            &b"PO\xff\xf1RT "[..], // NOP in the verb
            b"PO\xff\xf7RT ",      // erase character
            b"PORT \xff\xf8",      // erase line
            b"PORT\xff\xf1 ",      // before the blank
            b"PORT 1\xff\xf192,0,2,77,4,1,",
            b"P\xff\xfb\x01ORT ", // WILL ECHO
            b"PO\xff\xffRT ",     // an escaped 0xff
            b"POR\xff\xfdT ",     // DO, and "T" as its option
            b"\xff\xf1PORT ",
            b"\xff\xf4\xff\xf2PORT ",
        ] {
            let line = [verb, argument].concat();
            for segment_bytes in [line.len(), 1] {
                let mut lab = Lab::new();
                let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
                let got = talk.say_cut(&mut lab, Client, &line, segment_bytes);
                lab.assert_told(&["refused", TELNET]);
                assert!(got.contains("XXXX") && got.ends_with("\r\n"), "{got:?}");
                assert!(!got.contains("192,0,2"), "{got:?}");
                talk.dialogue(&mut lab, &[(Server, "500 what?\r\n")]);
                still_in_step(&mut lab, &mut talk);
            }
        }
    }
}

#[test]
fn a14_other_disguises_hide_no_command() {
    for line in [
        "\x08PORT 192,0,2,77,200,200\r\n",
        "PORT \x08192,0,2,77,200,200\r\n",
        "PORT 192,0,2,7\x087,200,200\r\n",
        "PORT\x0b192,0,2,77,200,200\r\n",
        "PORT\x00192,0,2,77,200,200\r\n",
        "\0PORT 192,0,2,77,200,200\r\n",
        "PORT 192,0,2,\x007,7,200,200\r\n",
    ] {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
        assert_refused(&mut lab, &mut talk, line, "");
        still_in_step(&mut lab, &mut talk);
    }
}

#[test]
fn a14_telnet_bytes_in_an_answer_open_nothing() {
    for hosts in [V4, V6] {
        let fake = announcement(hosts, 51_400);
        for at in [0, 1, 3, 4, 10, fake.len() - 4, fake.len()] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, hosts, Side::Inside);
            let (command, _) = hosts.passive(51_400);
            let (head, tail) = fake.as_bytes().split_at(at);
            let answer = [head, b"\xff\xf1", tail, b"\r\n"].concat();
            talk.dialogue(&mut lab, &[(Client, command)]);
            talk.say(&mut lab, Server, &answer);
            lab.assert_open(hosts, &[]);
        }
    }
}

#[test]
fn a14_telnet_abort_is_read_as_everybody_reads_it() {
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
    talk.dialogue(&mut lab, &[(Client, "RETR x\r\n"), (Server, "150 go\r\n")]);
    talk.say(&mut lab, Client, b"\xff\xf4\xff\xf2ABOR\r\n");
    talk.dialogue(&mut lab, &[(Server, "426 stopped\r\n226 aborted\r\n")]);
    still_in_step(&mut lab, &mut talk);
}
