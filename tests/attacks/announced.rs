//! Attacks with what a command or reply says: addresses, ports, numbers, spacing.

use std::net::IpAddr;

use lotus::engine::Settings;
use lotus::wire::Side;

use crate::assert_refused;
use crate::common::{
    Door, Hosts, Lab, OTHER_FTP, Speaker::Client, Speaker::Server, Talk, V4, V6, at, entering,
    everywhere, extended, six_numbers, v4,
};

const FOREIGN: &str = "FTP bounce";
const LOW: &str = "below 1024";
const MALFORMED: &str = "malformed";

fn eprt(host: &str, port: u32) -> String {
    let family = if host.contains(':') { 2 } else { 1 };
    format!("EPRT |{family}|{host}|{port}|\r\n")
}

/// The door that the client's PORT or EPRT opens: the server may connect to it.
fn active_door(hosts: Hosts, client_side: Side, port: u16) -> Door {
    Door {
        from: hosts.server,
        to: at(hosts.client, port),
        side: client_side.other(),
    }
}

/// The door that the server's answer opens.
fn passive_door(hosts: Hosts, client_side: Side, port: u16) -> Door {
    Door {
        from: hosts.client,
        to: at(hosts.server, port),
        side: client_side,
    }
}

/// After all that was refused an honest command still works, and opens its own port only.
#[track_caller]
fn still_works(lab: &mut Lab, talk: &mut Talk) {
    let hosts = talk.hosts;
    lab.assert_open(hosts, &[]);
    let active = hosts.active(hosts.client, 51_400);
    talk.dialogue(lab, &[(Client, &active), (Server, "200 ok\r\n")]);
    lab.assert_open(hosts, &[active_door(hosts, talk.client_side, 51_400)]);
}

#[test]
fn a01_ftp_bounce_names_a_third_host() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        for third in [hosts.stranger, hosts.neighbour, hosts.server] {
            let mut lines = vec![eprt(&third.to_string(), 50_000)];
            if !hosts.is_v6() {
                lines.push(hosts.active(third, 50_000));
                lines.push(hosts.active(third, 22));
            }
            for line in lines {
                assert_refused(&mut lab, &mut talk, &line, FOREIGN);
            }
        }
        still_works(&mut lab, &mut talk);
    });
}

#[test]
fn a01_ftp_bounce_is_cut_off_at_its_first_foreign_byte() {
    for (line, arrives) in [
        // The first octet that differs, at its first digit that does.
        ("PORT 192,0,2,77,200,200\r\n", "PORT 192,0,2,XXXXXXXXXX\r\n"),
        ("PORT 192,0,2,1,200,200\r\n", "PORT 192,0,2,1XXXXXXXX\r\n"),
        ("PORT 203,0,113,66,4,1\r\n", "PORT XXXXXXXXXXXXXXXX\r\n"),
        // The comma behind a first half below 4.
        ("PORT 192,0,2,10,3,255\r\n", "PORT 192,0,2,10,3XXXX\r\n"),
        (
            "EPRT |1|192.0.2.77|50000|\r\n",
            "EPRT |1|192.0.2.77XXXXXXX\r\n",
        ),
        (
            "EPRT |1|192.0.2.10|1023|\r\n",
            "EPRT |1|192.0.2.10|1023X\r\n",
        ),
    ] {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
        let got = talk.say_cut(&mut lab, Client, line, 1);
        assert_eq!(got, arrives, "byte by byte: {line:?}");
        assert_eq!(lab.refusals().len(), 1);
        still_works_after_refusal(&mut lab, &mut talk);
    }
}

fn still_works_after_refusal(lab: &mut Lab, talk: &mut Talk) {
    talk.dialogue(lab, &[(Server, "500 what?\r\n")]);
    still_works(lab, talk);
}

#[test]
fn a01_ftp_bounce_names_a_low_port() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        for port in [1, 20, 22, 25, 255, 256, 767, 768, 1023] {
            let own = hosts.client.to_string();
            assert_refused(&mut lab, &mut talk, &eprt(&own, port), LOW);
            if !hosts.is_v6() {
                let line = hosts.active(hosts.client, port as u16);
                assert_refused(&mut lab, &mut talk, &line, LOW);
            }
        }
        still_works(&mut lab, &mut talk);
        // The first that is none of the system's.
        let line = hosts.active(hosts.client, 1024);
        talk.dialogue(&mut lab, &[(Client, &line), (Server, "200 ok\r\n")]);
        lab.assert_open(hosts, &[active_door(hosts, side, 1024)]);
    });
}

#[test]
fn a01_ftp_bounce_in_the_other_family() {
    for side in Side::BOTH {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V6, side);
        for line in [
            "PORT 192,0,2,10,200,200\r\n",
            "PORT 0,0,0,16,200,200\r\n",
            "EPRT |1|192.0.2.10|50000|\r\n",
            "EPRT |2|::ffff:192.0.2.10|50000|\r\n",
        ] {
            assert_refused(&mut lab, &mut talk, line, FOREIGN);
        }
        still_works(&mut lab, &mut talk);

        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, side);
        for line in [
            "EPRT |2|2001:db8::10|50000|\r\n",
            "EPRT |2|::ffff:192.0.2.10|50000|\r\n",
            "EPRT |1|::ffff:192.0.2.10|50000|\r\n",
        ] {
            let why = if line.contains("|1|") { "" } else { FOREIGN };
            assert_refused(&mut lab, &mut talk, line, why);
        }
        still_works(&mut lab, &mut talk);
    }
}

#[test]
fn a01_ftp_bounce_of_a_client_that_did_not_log_in_is_refused_too() {
    let mut lab = Lab::new();
    let mut talk = Talk::new(V4, Side::Outside);
    talk.connect(&mut lab);
    talk.dialogue(&mut lab, &[(Server, "220 ready\r\n")]);
    let line = V4.active(V4.neighbour, 50_000);
    assert_refused(&mut lab, &mut talk, &line, FOREIGN);
    lab.assert_open(V4, &[]);
}

#[test]
fn a02_port_command_names_an_address_that_is_no_host() {
    let v4_addresses = [
        v4(0, 0, 0, 0),
        v4(255, 255, 255, 255),
        v4(192, 0, 2, 255), // the subnet's broadcast
        v4(192, 0, 2, 0),
        v4(192, 0, 2, 1), // the gateway's, or a firewall's own
        v4(127, 0, 0, 1),
        v4(127, 1, 2, 3),
        v4(224, 0, 0, 1),
        v4(239, 255, 255, 250),
        v4(169, 254, 1, 1),
        V4.server,
    ];
    let v6_addresses = [
        "::",
        "::1",
        "ff02::1",
        "ff0e::1",
        "fe80::1",
        "2001:db8::",
        "::ffff:127.0.0.1",
        "2001:db8::20",
    ];
    for side in Side::BOTH {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, side);
        for address in v4_addresses {
            for line in [
                format!("PORT {}\r\n", six_numbers(address, 51_400)),
                eprt(&address.to_string(), 51_400),
            ] {
                assert_refused(&mut lab, &mut talk, &line, FOREIGN);
            }
        }
        still_works(&mut lab, &mut talk);

        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V6, side);
        for address in v6_addresses {
            assert_refused(&mut lab, &mut talk, &eprt(address, 51_400), FOREIGN);
        }
        still_works(&mut lab, &mut talk);
    }
}

#[test]
fn a07_malformed_port_command_redirects_nothing() {
    /// What becomes of a line.
    enum Fate {
        /// Arrives as X.
        Refused,
        /// Passes, and opens the client's own port at once.
        Opens,
        /// Passes, and opens only when the server has accepted it: servers differ.
        OpensAtAnswer,
        /// Passes, and opens nothing, whatever the server says.
        Nothing,
    }
    use Fate::{Nothing, Opens, OpensAtAnswer, Refused};
    let own = "192,0,2,10,200,200"; // port 51400
    for (line, fate) in [
        (format!("port {own}\r\n"), Opens),
        (format!("pOrT {own}\r\n"), Opens),
        (format!("PORT  {own}\r\n"), Opens),
        (format!("PORT {own} \r\n"), Opens),
        (format!("PORT\t{own}\r\n"), OpensAtAnswer),
        (format!(" PORT {own}\r\n"), OpensAtAnswer),
        (format!("\tPORT {own}\r\n"), OpensAtAnswer),
        (format!("PORT {own}\n"), OpensAtAnswer),
        (format!("PORT{own}\r\n"), Nothing),
        (format!("XPORT {own}\r\n"), Nothing),
        (format!("SITE PORT {own}\r\n"), Nothing),
        (format!("NOOP\rPORT {own}\r\n"), Nothing),
        ("PORT\r\n".into(), Nothing),
        ("PORT \r\n".into(), Refused),
        (format!("PORT {own},1\r\n"), Refused),
        (format!("PORT {own},\r\n"), Refused),
        (format!("PORT {own} x\r\n"), Refused),
        (format!("PORT {own};\r\n"), Refused),
        (format!("PORT ({own})\r\n"), Refused),
        (format!("PORT ,{own}\r\n"), Refused),
        (format!("PORT {own}\r\r\n"), Refused),
        (format!("PORT {own}\r\0\r\n"), Refused),
        ("PORT 192,0,2,10,200\r\n".into(), Refused),
        ("PORT 192,0,2,10,200,\r\n".into(), Refused),
        ("PORT 192,0,2,10,,200\r\n".into(), Refused),
        ("PORT 192, 0,2,10,200,200\r\n".into(), Refused),
        ("PORT 192,0,2,10 ,200,200\r\n".into(), Refused),
        ("PORT 192.0.2.10.200.200\r\n".into(), Refused),
        ("PORT 192.0.2.10,200,200\r\n".into(), Refused),
        ("PORT 0300,0,2,10,200,200\r\n".into(), Refused),
        ("PORT 192,00,2,10,200,200\r\n".into(), Refused),
        ("PORT 192,0,02,10,200,200\r\n".into(), Refused),
        ("PORT +192,0,2,10,200,200\r\n".into(), Refused),
        ("PORT 192,0,2,10,-200,200\r\n".into(), Refused),
        ("PORT 192,0,2,10,0xc8,200\r\n".into(), Refused),
        ("PORT 192,0,2,10,200,2e2\r\n".into(), Refused),
        ("PORT 3221225994,200,200\r\n".into(), Refused),
        ("EPRT |1|192.0.2.10|51400|\r\n".into(), Opens),
        ("EPRT !1!192.0.2.10!51400!\r\n".into(), Opens),
        ("EPRT |1|192.0.2.10|51400\r\n".into(), Refused),
        ("EPRT |1|192.0.2.10|51400||\r\n".into(), Refused),
        ("EPRT |1|192.0.2.10|51400|x\r\n".into(), Refused),
        ("EPRT |1|192.0.2.10||\r\n".into(), Refused),
        ("EPRT ||192.0.2.10|51400|\r\n".into(), Refused),
        ("EPRT |3|192.0.2.10|51400|\r\n".into(), Refused),
        ("EPRT |01|192.0.2.10|51400|\r\n".into(), Refused),
        ("EPRT |1|192.0.2.010|51400|\r\n".into(), Refused),
        ("EPRT |1|192.0.2.10 |51400|\r\n".into(), Refused),
        ("EPRT |1|192.0.2.10|+51400|\r\n".into(), Refused),
        ("EPRT 11119211011514001\r\n".into(), Refused),
        ("EPRT |1!192.0.2.10!51400!\r\n".into(), Refused),
    ] {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
        let doors = [active_door(V4, Side::Inside, 51_400)];
        match fate {
            Refused => {
                assert_refused(&mut lab, &mut talk, &line, "");
                still_works(&mut lab, &mut talk);
            }
            Opens => {
                talk.dialogue(&mut lab, &[(Client, &line)]);
                lab.assert_open(V4, &doors);
                talk.dialogue(&mut lab, &[(Server, "200 ok\r\n")]);
                lab.assert_open(V4, &doors);
            }
            OpensAtAnswer => {
                talk.dialogue(&mut lab, &[(Client, &line)]);
                lab.assert_open(V4, &[]);
                talk.dialogue(&mut lab, &[(Server, "200 ok\r\n")]);
                lab.assert_open(V4, &doors);
            }
            Nothing => {
                talk.dialogue(&mut lab, &[(Client, &line), (Server, "200 ok\r\n")]);
                lab.assert_open(V4, &[]);
            }
        }
    }
}

#[test]
fn a18_numbers_of_commands_wrap_around_nowhere() {
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
    for line in [
        // 65558 is 22, 66936 is 1400, 116936 is 51400 in 16 bits.
        "EPRT |1|192.0.2.10|65536|\r\n",
        "EPRT |1|192.0.2.10|65558|\r\n",
        "EPRT |1|192.0.2.10|66936|\r\n",
        "EPRT |1|192.0.2.10|116936|\r\n",
        "EPRT |1|192.0.2.10|1000000|\r\n",
        "EPRT |1|192.0.2.10|4295018696|\r\n",
        "EPRT |1|192.0.2.10|0|\r\n",
        "EPRT |1|192.0.2.10|00022|\r\n",
        // Octets: 448 is 192 in 8 bits, 256 is 0.
        "PORT 448,0,2,10,200,200\r\n",
        "PORT 192,256,2,10,200,200\r\n",
        "PORT 192,0,2,10,256,200\r\n",
        "PORT 192,0,2,10,1216,200\r\n",
        "PORT 192,0,2,10,200,256\r\n",
        "PORT 192,0,2,10,200,456\r\n",
        "PORT 192,0,2,10,200,65736\r\n",
        "PORT 192,0,2,10,0,0\r\n",
    ] {
        assert_refused(&mut lab, &mut talk, line, "");
    }
    still_works(&mut lab, &mut talk);
}

#[test]
fn a18_numbers_of_replies_wrap_around_nowhere() {
    let host = "198,51,100,20";
    let long = [
        (
            V4,
            "PASV\r\n",
            format!("227 ok ({host},256,200)\r\n"),
            "no port",
        ),
        (
            V4,
            "PASV\r\n",
            format!("227 ok ({host},200,256)\r\n"),
            "no port",
        ),
        (
            V4,
            "PASV\r\n",
            format!("227 ok ({host},1216,200)\r\n"),
            "no port",
        ),
        (
            V4,
            "PASV\r\n",
            format!("227 ok ({host},200,65736)\r\n"),
            "no port",
        ),
        (
            V4,
            "PASV\r\n",
            "227 ok (454,51,100,20,200,200)\r\n".into(),
            "no port",
        ),
        (
            V4,
            "PASV\r\n",
            "227 ok (1216,51,100,20,200,200)\r\n".into(),
            "no port",
        ),
        (
            V4,
            "PASV\r\n",
            format!("227 ok ({host},200,200,1)\r\n"),
            "no port",
        ),
        (
            V4,
            "PASV\r\n",
            format!("227 ok ({host},200)\r\n"),
            "no port",
        ),
        (
            V4,
            "PASV\r\n",
            format!("227 ok ({host},-1,200)\r\n"),
            "no port",
        ),
        (V4, "PASV\r\n", "227 ok\r\n".into(), "no port"),
        (V4, "PASV\r\n", format!("227 ok ({host},0,0)\r\n"), LOW),
        (V4, "PASV\r\n", format!("227 ok ({host},0,22)\r\n"), LOW),
        (V4, "PASV\r\n", format!("227 ok ({host},3,255)\r\n"), LOW),
    ];
    let extended = [
        ("65558", "no port"),
        ("65536", "no port"),
        ("116936", "no port"),
        ("1000000", "no port"),
        ("4295018696", "no port"),
        ("-1", "no port"),
        ("+51400", "no port"),
        ("", "no port"),
        ("0", LOW),
        ("1", LOW),
        ("22", LOW),
        ("1023", LOW),
    ]
    .into_iter()
    .flat_map(|(port, why)| {
        let line = format!("229 ok (|||{port}|)\r\n");
        [V4, V6].map(|hosts| (hosts, "EPSV\r\n", line.clone(), why))
    });
    for (hosts, command, answer, why) in long.into_iter().chain(extended) {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, Side::Outside);
        // A refused reply passes as it is: its client reads the same, and gives up.
        talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
        lab.assert_told(&["opened nothing", answer.trim_end(), why]);
        still_works(&mut lab, &mut talk);
    }
}

#[test]
fn a19_after_epsv_all_everything_else_is_shut() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        let eprt = eprt(&hosts.client.to_string(), 51_400);
        let entering = entering(hosts.server, 51_400);
        talk.dialogue(
            &mut lab,
            &[(Client, "EPSV ALL\r\n"), (Server, "200 ok\r\n")],
        );
        let mut steps: Vec<(&str, &str)> = vec![
            (&eprt, "200 ok\r\n"),
            ("PASV\r\n", &entering),
            // 229 as the answer to PASV, as translators between families have it.
            ("PASV\r\n", "229 ok (|||51400|)\r\n"),
        ];
        let port = hosts.active(hosts.client, 51_400);
        if !hosts.is_v6() {
            steps.push((&port, "200 ok\r\n"));
        }
        for (command, answer) in steps {
            talk.dialogue(&mut lab, &[(Client, command), (Server, answer)]);
            lab.assert_told(&["opened nothing", "EPSV ALL"]);
            lab.assert_open(hosts, &[]);
        }
        for (command, answer) in [
            ("LPSV\r\n", lpsv_answer(hosts)),
            (&lprt(hosts), "200 ok\r\n".into()),
        ] {
            talk.say(&mut lab, Client, command);
            talk.dialogue(&mut lab, &[(Server, &answer)]);
            lab.assert_open(hosts, &[]);
        }
        let extended = extended(51_400);
        talk.dialogue(&mut lab, &[(Client, "EPSV\r\n"), (Server, &extended)]);
        lab.assert_open(hosts, &[passive_door(hosts, side, 51_400)]);
    });
}

/// RFC 1639.
fn lpsv_answer(hosts: Hosts) -> String {
    format!(
        "228 Entering Long Passive Mode ({})\r\n",
        long_address(hosts.server, 51_400)
    )
}

fn lprt(hosts: Hosts) -> String {
    format!("LPRT {}\r\n", long_address(hosts.client, 51_400))
}

fn long_address(host: IpAddr, port: u16) -> String {
    let (family, octets) = match host {
        IpAddr::V4(host) => (4, host.octets().to_vec()),
        IpAddr::V6(host) => (6, host.octets().to_vec()),
    };
    let octets: Vec<_> = octets.iter().map(ToString::to_string).collect();
    let [high, low] = port.to_be_bytes();
    format!(
        "{family},{},{},2,{high},{low}",
        octets.len(),
        octets.join(",")
    )
}

#[test]
fn a19_epsv_all_counts_only_when_the_server_accepted_it() {
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
    talk.dialogue(
        &mut lab,
        &[(Client, "EPSV ALL\r\n"), (Server, "500 what?\r\n")],
    );
    still_works(&mut lab, &mut talk);
}

#[test]
fn a20_ipv6_address_in_many_writings_is_one_address() {
    for side in Side::BOTH {
        for own in [
            "2001:db8::10",
            "2001:DB8::10",
            "2001:0db8::0010",
            "2001:db8:0:0:0:0:0:10",
            "2001:db8:0::0:10",
            "2001:db8::0.0.0.16",
        ] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, V6, side);
            let line = eprt(own, 51_400);
            talk.dialogue(&mut lab, &[(Client, &line), (Server, "200 ok\r\n")]);
            lab.assert_open(V6, &[active_door(V6, side, 51_400)]);
        }
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V6, side);
        for other in [
            "2001:db8::1",
            "2001:db8::100",
            "2001:db8::77",
            "2001:db8:10::",
            "2001:db8::10::",
            "2001:db8:0:0:0:0:0:0:10",
            "2001:db8::192.0.2.16",
            "2001:db8::10%eth0",
            "fe80::1%eth0",
            "fe80::10",
            "[2001:db8::10]",
            "2001:db8::10/128",
            "::ffff:192.0.2.10",
            "::192.0.2.10",
            "2001:db8::00010",
            "2001:db8::0x10",
        ] {
            assert_refused(&mut lab, &mut talk, &eprt(other, 51_400), "");
        }
        still_works(&mut lab, &mut talk);
    }
}

#[test]
fn a16_server_sends_its_client_elsewhere() {
    for side in Side::BOTH {
        for foreign in [
            V4.neighbour,
            V4.stranger,
            V4.client,
            v4(127, 0, 0, 1),
            v4(10, 0, 0, 1),
            v4(255, 255, 255, 255),
        ] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, V4, side);
            let answer = entering(foreign, 51_400);
            talk.dialogue(&mut lab, &[(Client, "PASV\r\n"), (Server, &answer)]);
            // Today's clients connect to the server itself; nobody may go where it was named.
            lab.assert_open(V4, &[passive_door(V4, side, 51_400)]);
            for to in [foreign, V4.neighbour, V4.stranger] {
                for from in Side::BOTH {
                    let verdict = lab.knock(V4.client, at(to, 51_400), from, &[]);
                    assert_ne!(verdict, lotus::engine::Verdict::Forward, "{to}");
                }
            }
        }
    }
}

#[test]
fn a16_server_sends_its_client_elsewhere_in_the_other_family() {
    for side in Side::BOTH {
        for command in ["EPSV\r\n", "PASV\r\n"] {
            let mut lab = Lab::new();
            let mut talk = Talk::logged_in(&mut lab, V6, side);
            let answer = entering(V4.neighbour, 51_400);
            talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
            lab.assert_open(V6, &[passive_door(V6, side, 51_400)]);
            lab.assert_open(V4, &[]);
        }
    }
}

#[test]
fn a10_own_host_is_exposed_by_its_own_process_no_further_than_the_settings_say() {
    everywhere(|hosts, side| {
        let active = hosts.active(hosts.client, 51_400);
        // Not on a port that no rule names as FTP: such a connection is not even let through.
        let mut lab = Lab::new();
        let to = at(hosts.server, 8021);
        assert!(!lab.connects(at(hosts.client, 40_000), to, side));

        // Without a login: an accomplice must at least be an FTP server.
        for port in [21, OTHER_FTP] {
            let mut lab = Lab::new();
            let mut talk = Talk::on_port(hosts, side, port);
            talk.connect(&mut lab);
            talk.dialogue(
                &mut lab,
                &[
                    (Server, "220 ready\r\n"),
                    (Client, &active),
                    (Server, "200 ok\r\n"),
                ],
            );
            lab.assert_told(&["opened nothing", "nobody has logged in"]);
            lab.assert_open(hosts, &[]);
        }

        // With active mode switched off nobody is ever let in.
        let mut settings = Settings::default();
        settings.set("ftp.active", "no").expect("a setting");
        let mut lab = Lab::with(settings);
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        assert_eq!(talk.say(&mut lab, Client, &active), super::blotted(&active));
        talk.dialogue(&mut lab, &[(Server, "500 what?\r\n")]);
        lab.assert_told(&["refused", "active mode is switched off"]);
        lab.assert_open(hosts, &[]);
        let (command, answer) = hosts.passive(51_400);
        talk.dialogue(&mut lab, &[(Client, command), (Server, &answer)]);
        lab.assert_open(hosts, &[passive_door(hosts, side, 51_400)]);

        // Even the best-behaved accomplice gets its own host's high ports, one at a time.
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        let low = eprt(&hosts.client.to_string(), 445);
        assert_refused(&mut lab, &mut talk, &low, LOW);
        let other = eprt(&hosts.neighbour.to_string(), 51_400);
        assert_refused(&mut lab, &mut talk, &other, FOREIGN);
        let bad = eprt(&hosts.client.to_string(), 99_999);
        assert_refused(&mut lab, &mut talk, &bad, MALFORMED);
        still_works(&mut lab, &mut talk);
    });
}
