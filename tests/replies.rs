//! The replies that servers in use give, each named after who sends it. Each opens exactly the
//! port that it names, for that client alone, whole and however it travels; what must not open
//! does not, with the event that says why.

use lotus::engine::Verdict;
use lotus::wire::Side;

#[allow(dead_code, unused_imports, missing_docs, unreachable_pub)] // shared with other tests
mod common;

use common::{
    Door, Hosts, Lab, Speaker::Client, Speaker::Server, Talk, V4, V6, at, everywhere, v4,
};

/// The port that the replies name: 150 times 256 and 13.
const PORT: u16 = 38_413;

/// What the helper does not read, or not tell, yet: these tests end at once.
const NOT_YET: [&str; 2] = ["rfc_1639_228", "zeek_230_never_closed_is_told"];

/// How a reply travels.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    /// In two segments.
    Split(usize),
    /// In two segments, the second one first.
    Swapped(usize),
    /// In segments of so many bytes.
    Cut(usize),
    /// In segments of so many bytes, the last one first.
    Reversed(usize),
}

fn ways(len: usize) -> Vec<Way> {
    let mut ways = vec![Way::Whole];
    ways.extend((1..len).flat_map(|at| [Way::Split(at), Way::Swapped(at)]));
    ways.extend([1, 2, 7].map(Way::Cut));
    // No more than 32 segments may be held.
    ways.extend([5, 16].map(Way::Reversed));
    ways
}

impl Way {
    /// The offsets and ends of its segments, in the order in which they are sent.
    fn pieces(self, len: usize) -> Vec<(usize, usize)> {
        let cut = |bytes: usize| -> Vec<_> {
            (0..len)
                .step_by(bytes)
                .map(|at| (at, (at + bytes).min(len)))
                .collect()
        };
        match self {
            Way::Whole => vec![(0, len)],
            Way::Split(at) => vec![(0, at), (at, len)],
            Way::Swapped(at) => vec![(at, len), (0, at)],
            Way::Cut(bytes) => cut(bytes),
            Way::Reversed(bytes) => cut(bytes).into_iter().rev().collect(),
        }
    }
}

/// What a session says, and what of it must come.
struct Case<'a> {
    hosts: Hosts,
    /// The client's command.
    command: &'a str,
    /// All that the server answers.
    reply: &'a str,
    /// Whether it opens [`PORT`], or why not.
    opens: Result<(), &'a str>,
}

/// Tries a reply whole, split at each byte, in single bytes, reordered, from both sides.
#[track_caller]
fn check(case: &Case<'_>) {
    for side in Side::BOTH {
        for way in ways(case.reply.len()) {
            // All knocks only for the whole reply: they are many.
            check_one(case, side, way, matches!(way, Way::Whole | Way::Cut(1)));
        }
    }
}

#[track_caller]
fn check_one(case: &Case<'_>, side: Side, way: Way, knock_everywhere: bool) {
    let Case { hosts, reply, .. } = *case;
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, hosts, side);
    talk.dialogue(&mut lab, &[(Client, case.command)]);
    let bytes = reply.as_bytes();
    for (start, end) in way.pieces(bytes.len()) {
        let verdict = talk.say_at(&mut lab, Server, start as i64, &bytes[start..end]);
        assert!(
            matches!(verdict, Verdict::Forward | Verdict::Held),
            "{way:?} {reply:?}: {verdict:?}"
        );
    }
    talk.sent(Server, bytes.len());
    assert!(talk.heard(Client).ends_with(reply), "{way:?} {reply:?}");
    let door = Door {
        from: hosts.client,
        to: at(hosts.server, PORT),
        side,
    };
    match case.opens {
        Ok(()) => {
            let opened = lab.opened();
            assert_eq!(opened.len(), 1, "{way:?} {reply:?}: {:#?}", lab.told());
            assert_eq!((opened[0].from, opened[0].to), (door.from, door.to));
            if knock_everywhere {
                lab.assert_open(hosts, &[door]);
            }
            assert!(lab.connects(at(hosts.client, 40_001), door.to, side));
        }
        Err(why) => {
            assert!(lab.opened().is_empty(), "{way:?} {reply:?}");
            lab.assert_told(&["opened nothing", why]);
            if knock_everywhere {
                lab.assert_open(hosts, &[]);
            }
        }
    }
}

/// The answer to PASV over IPv4.
#[track_caller]
fn pasv(reply: &str) {
    check(&Case {
        hosts: V4,
        command: "PASV\r\n",
        reply,
        opens: Ok(()),
    });
}

/// The answer to EPSV over both families.
#[track_caller]
fn epsv(reply: &str) {
    for hosts in [V4, V6] {
        check(&Case {
            hosts,
            command: "EPSV\r\n",
            reply,
            opens: Ok(()),
        });
    }
}

#[test]
fn vsftpd_227_with_dot() {
    pasv("227 Entering Passive Mode (198,51,100,20,150,13).\r\n");
}

#[test]
fn proftpd_227_with_dot() {
    pasv("227 Entering Passive Mode (198,51,100,20,150,13).\r\n");
}

#[test]
fn pure_ftpd_227_without_dot() {
    pasv("227 Entering Passive Mode (198,51,100,20,150,13)\r\n");
}

#[test]
fn netbsd_227_without_dot() {
    pasv("227 Entering Passive Mode (198,51,100,20,150,13)\r\n");
}

#[test]
fn vsftpd_229_with_final_dot() {
    epsv("229 Entering Extended Passive Mode (|||38413|).\r\n");
}

#[test]
fn serv_u_229_with_final_dot() {
    epsv("229 Entering Extended Passive Mode (|||38413|).\r\n");
}

#[test]
fn pure_ftpd_229() {
    epsv("229 Extended Passive mode OK (|||38413|)\r\n");
}

#[test]
fn pyftpdlib_229_lower_case() {
    epsv("229 Entering extended passive mode (|||38413|).\r\n");
}

#[test]
fn sys_ftpd_227_bare_numbers() {
    pasv("227 198,51,100,20,150,13\r\n");
}

#[test]
fn ruby_net_ftp_227_bare_numbers_behind_text() {
    pasv("227 Entering Passive Mode 198,51,100,20,150,13\r\n");
}

#[test]
fn freebox_227() {
    pasv("227 (198,51,100,20,150,13)\r\n");
}

#[test]
fn curl_227_behind_a_full_stop() {
    pasv("227 Entering passive mode. 198,51,100,20,150,13\r\n");
}

#[test]
fn curl_227_data_transfer_will_passively_listen_to() {
    pasv("227 Data transfer will passively listen to 198,51,100,20,150,13\r\n");
}

#[test]
fn fluentftp_227_spaces() {
    pasv("227 Entering Passive Mode( 198, 51, 100, 20, 150,13).\r\n");
}

#[test]
fn ffftp_dots() {
    pasv("227 Entering Passive Mode (198.51.100.20.150.13).\r\n");
}

#[test]
fn publicfile_equals() {
    pasv("227 =198,51,100,20,150,13\r\n");
}

#[test]
fn aioftp_multi_line_227() {
    pasv("227-listen socket created\r\n227 (198,51,100,20,150,13)\r\n");
}

#[test]
fn aioftp_multi_line_227_counts_only_its_last_line() {
    // Another port in the first line, and a look-alike in the middle.
    pasv(
        "227-(198,51,100,20,200,200)\r\n 227 (198,51,100,20,200,201)\r\n\
         227-(198,51,100,20,200,202)\r\n227 (198,51,100,20,150,13)\r\n",
    );
}

#[test]
fn lightftp_split_after_paren() {
    let reply = "227 Entering Passive Mode (198,51,100,20,150,13).\r\n";
    let after_paren = reply.find('(').expect("a parenthesis") + 1;
    let case = Case {
        hosts: V4,
        command: "PASV\r\n",
        reply,
        opens: Ok(()),
    };
    for side in Side::BOTH {
        check_one(&case, side, Way::Split(after_paren), true);
        check_one(&case, side, Way::Swapped(after_paren), true);
    }
}

#[test]
fn basic_ftp_227_to_epsv() {
    check(&Case {
        hosts: V4,
        command: "EPSV\r\n",
        reply: "227 Entering Passive Mode (198,51,100,20,150,13).\r\n",
        opens: Ok(()),
    });
}

#[test]
fn clat_229_to_pasv() {
    check(&Case {
        hosts: V4,
        command: "PASV\r\n",
        reply: "229 Entering Extended Passive Mode (|||38413|)\r\n",
        opens: Ok(()),
    });
}

#[test]
fn extra_replies_before_227() {
    // 250 can't be PASV's answer (RFC 959 section 5.4): one reply too many, and the answer comes.
    pasv("250 ok\r\n227 Entering Passive Mode (198,51,100,20,150,13)\r\n");
    // An error is its answer, and what follows is nobody's.
    check(&Case {
        hosts: V4,
        command: "PASV\r\n",
        reply: "550 no\r\n227 Entering Passive Mode (198,51,100,20,150,13)\r\n",
        opens: Err("no command asked for it"),
    });
    // As an answer to the command before they are in step.
    check(&Case {
        hosts: V4,
        command: "CWD x\r\nPASV\r\n",
        reply: "250 ok\r\n227 Entering Passive Mode (198,51,100,20,150,13)\r\n",
        opens: Ok(()),
    });
    // A client that took it for the answer goes on: what comes late is nobody's, and the session
    // is in step.
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
    let reply = "227 Entering Passive Mode (198,51,100,20,150,13)\r\n";
    let before = [
        (Client, "PASV\r\n"),
        (Server, "250 ok\r\n"),
        (Client, "NOOP\r\n"),
        (Server, reply),
        (Server, "200 ok\r\n"),
    ];
    talk.dialogue(&mut lab, &before);
    assert_eq!(lab.opened().len(), 0);
    talk.dialogue(&mut lab, &[(Client, "PASV\r\n"), (Server, reply)]);
    assert_eq!(lab.opened().len(), 1);
}

#[test]
fn preliminary_replies_before_227() {
    pasv("150 wait\r\n227 Entering Passive Mode (198,51,100,20,150,13)\r\n");
}

#[test]
fn vsftpd_zero_address() {
    // PASV on a socket that listens at all addresses.
    pasv("227 Entering Passive Mode (0,0,0,0,150,13).\r\n");
    check(&Case {
        hosts: V6,
        command: "PASV\r\n",
        reply: "227 Entering Passive Mode (0,0,0,0,150,13).\r\n",
        opens: Ok(()),
    });
}

#[test]
fn behind_nat_227_names_another_address() {
    for address in [v4(10, 0, 0, 5), v4(3, 249, 53, 208), V4.neighbour] {
        let numbers = common::six_numbers(address, PORT);
        pasv(&format!("227 Entering Passive Mode ({numbers}).\r\n"));
    }
}

#[test]
fn delimiters_other_than_the_bar_in_229() {
    for delimiter in ['!', '@', '#', '~', '/', 'a'] {
        let d = delimiter;
        check(&Case {
            hosts: V4,
            command: "EPSV\r\n",
            reply: &format!("229 ok ({d}{d}{d}38413{d})\r\n"),
            opens: Ok(()),
        });
    }
}

#[test]
fn malformed_229_names_no_port() {
    for text in [
        "(|||38413|",
        "(|||38413)",
        "(|||38413|x)",
        "(||38413|)",
        "(|||38413!)",
        "(|!|38413|)",
        "(1113841311)",
        "()",
    ] {
        check(&Case {
            hosts: V6,
            command: "EPSV\r\n",
            reply: &format!("229 ok {text}\r\n"),
            opens: Err("no port"),
        });
    }
}

#[test]
fn zeek_230_never_closed() {
    // A login's answer whose block never ends: what follows is still its text to some readers.
    everywhere(|hosts, side| {
        for closing in [
            "",
            "226 done\r\n",
            "231 x\r\n",
            " 230 end\r\n",
            "230-end\r\n",
        ] {
            let mut lab = Lab::new();
            let mut talk = Talk::new(hosts, side);
            talk.connect(&mut lab);
            let (command, answer) = hosts.passive(PORT);
            let welcome = format!("230-welcome\r\n{closing}");
            talk.dialogue(
                &mut lab,
                &[
                    (Server, "220 ready\r\n"),
                    (Client, "USER joe\r\n"),
                    (Server, "331 password?\r\n"),
                    (Client, "PASS secret\r\n"),
                    (Server, &welcome),
                    (Client, command),
                    (Server, &answer),
                ],
            );
            lab.assert_open(hosts, &[]);
            assert!(lab.opened().is_empty());
            // Once it does end, all is as ever.
            talk.dialogue(&mut lab, &[(Server, "230 at last\r\n")]);
            lab.assert_open(hosts, &[]);
            // The command that was asked meanwhile has no answer to come.
            talk.dialogue(&mut lab, &[(Server, "500 what?\r\n")]);
            talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
            let door = Door {
                from: hosts.client,
                to: at(hosts.server, PORT),
                side,
            };
            lab.assert_open(hosts, &[door]);
        }
    });
}

#[test]
fn zeek_230_never_closed_is_told() {
    if NOT_YET.contains(&"zeek_230_never_closed_is_told") {
        return;
    }
    let mut lab = Lab::new();
    let mut talk = Talk::new(V4, Side::Inside);
    talk.connect(&mut lab);
    talk.dialogue(
        &mut lab,
        &[
            (Server, "220 ready\r\n"),
            (Client, "USER joe\r\n"),
            (Server, "230-welcome\r\n"),
            (Client, "PASV\r\n"),
            (
                Server,
                "227 Entering Passive Mode (198,51,100,20,150,13).\r\n",
            ),
        ],
    );
    lab.assert_told(&["opened nothing"]);
}

#[test]
fn rfc_1639_228() {
    if NOT_YET.contains(&"rfc_1639_228") {
        return;
    }
    for (hosts, address) in [
        (V4, "4,4,198,51,100,20,2,150,13"),
        (V6, "6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,32,2,150,13"),
    ] {
        check(&Case {
            hosts,
            command: "LPSV\r\n",
            reply: &format!("228 Entering Long Passive Mode ({address})\r\n"),
            opens: Ok(()),
        });
        // Only LPSV asks for it.
        check(&Case {
            hosts,
            command: "EPSV\r\n",
            reply: &format!("228 Entering Long Passive Mode ({address})\r\n"),
            opens: Err("answers another command"),
        });
    }
}
