//! Attacks by mass: lines without end, TELNET without end, ports without end.

use std::fs;

use lotus::engine::{Settings, Verdict};
use lotus::observe::DropReason;
use lotus::wire::Side;

use crate::common::{
    Door, Hosts, Lab, Speaker::Client, Speaker::Server, Talk, V4, V6, at, everywhere, fragments, v4,
};

/// What one session may cost at most, over all that these floods send: two histories of 64 KiB,
/// two times 32 KiB held, lines, and the allocator's own.
const MAX_GROWTH_BYTES: u64 = 2 << 20;

const LONG_LINE_BYTES: usize = 64 << 10;

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.expect("a number") * 4096
}

/// The next announcement works as ever.
#[track_caller]
fn still_works(lab: &mut Lab, talk: &mut Talk) {
    let (hosts, side) = (talk.hosts, talk.client_side);
    lab.assert_open(hosts, &[]);
    let (command, answer) = hosts.passive(52_000);
    talk.dialogue(lab, &[(Client, command), (Server, &answer)]);
    let door = Door {
        from: hosts.client,
        to: at(hosts.server, 52_000),
        side,
    };
    lab.assert_open(hosts, &[door]);
}

#[test]
fn a13_line_of_64_kib_is_a_line() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        let port = hosts.active(hosts.client, 51_400);
        let line = format!("STOR {}{port}", "a".repeat(LONG_LINE_BYTES));
        // As TCP sends it: acknowledged now and then.
        for piece in line.as_bytes().chunks(1_400) {
            talk.say(&mut lab, Client, piece);
            talk.acknowledge(&mut lab, Server);
        }
        assert!(talk.heard(Server).ends_with(&line));
        talk.dialogue(&mut lab, &[(Server, "553 too long\r\n")]);
        let answer = format!("550 {}{port}", "a".repeat(LONG_LINE_BYTES));
        talk.dialogue(&mut lab, &[(Client, "NOOP\r\n")]);
        for piece in answer.as_bytes().chunks(1_400) {
            talk.say(&mut lab, Server, piece);
            talk.acknowledge(&mut lab, Client);
        }
        still_works(&mut lab, &mut talk);
    });
}

#[test]
fn a13_flood_in_one_byte_segments_is_read_and_keeps_nothing() {
    for (name, bytes) in [
        ("text without end", &b"aaaaaaaa"[..]),
        ("TELNET without end", b"\xff\xf1\xff\xf9"),
        ("TELNET options", b"\xff\xfb\x01\xff\xfd\x03"),
        ("0xff without end", b"\xff"),
        ("empty lines", b"\r\n"),
        ("bare LF", b"\n"),
        ("CR NUL", b"\r\0"),
        ("port commands that never end", b"PORT 192,0,2,10,"),
        ("refused commands", b"PORT 10,0,0,1,4,1\r\n"),
    ] {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
        let before = resident_bytes();
        let mut growth = 0;
        for (at, byte) in (0..LONG_LINE_BYTES / 4).zip(bytes.iter().cycle()) {
            let segment = talk.segment(Client).data([*byte]);
            let verdict = lab.pass_unchecked(Side::Outside, segment.frame()).verdict;
            assert_eq!(verdict, Verdict::Forward, "{name} at {at}");
            talk.sent(Client, 1);
            if at % 1_000 == 0 {
                let mut ack = talk.segment(Server);
                ack.ack = talk.segment(Client).seq;
                lab.pass_unchecked(Side::Inside, ack.frame());
                growth = growth.max(resident_bytes().saturating_sub(before));
            }
        }
        lab.check_law();
        lab.assert_open(V4, &[]);
        // Other tests run in this process, too: bytes for each sent one would still be seen.
        assert!(growth < 64 * MAX_GROWTH_BYTES, "{name}: {growth} bytes");
    }
}

#[test]
fn a13_flood_of_the_server_is_read_and_keeps_nothing() {
    for (name, bytes) in [
        ("text without end", &b"aaaaaaaa"[..]),
        ("a reply without end", b"230-x\r\n"),
        ("TELNET without end", b"\xff\xf1"),
        ("replies to nobody", b"200 ok\r\n"),
        ("announcements to nobody", b"227 (1,2,3,4,200,200)\r\n"),
    ] {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
        let flood: Vec<u8> = bytes.iter().copied().cycle().take(1_400).collect();
        for _ in 0..200 {
            let segment = talk.segment(Server).data(&flood);
            let verdict = lab.pass(Side::Inside, segment.frame()).verdict;
            assert_eq!(verdict, Verdict::Forward, "{name}");
            talk.sent(Server, flood.len());
            let mut ack = talk.segment(Client);
            ack.ack = talk.segment(Server).seq;
            lab.pass(Side::Outside, ack.frame());
        }
        lab.assert_open(V4, &[]);
    }
}

#[test]
fn a13_unacknowledged_bytes_and_segments_past_a_gap_are_bounded() {
    // 64 KiB are kept to be compared, 32 segments or 32 KiB are held; the rest TCP sends again.
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    let mut passed = 0;
    for _ in 0..100 {
        // The server offers a larger window each time, and acknowledges nothing.
        let mut offer = talk.segment(Server);
        offer.window = u16::MAX;
        lab.pass(Side::Inside, offer.frame());
        let segment = talk.segment(Client).data([b'a'; 1_000]);
        match lab.pass(Side::Outside, segment.frame()).verdict {
            Verdict::Forward => passed += 1_000,
            Verdict::Drop(reason) => {
                let expected = [DropReason::HelperGap, DropReason::TcpWindow];
                assert!(expected.contains(&reason) || reason == DropReason::HelperInvalid);
                break;
            }
            Verdict::Held => panic!("nothing is missing"),
        }
        talk.sent(Client, 1_000);
    }
    assert!(passed <= 64 << 10, "{passed} bytes without acknowledgment");

    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    let held = (1..200)
        .filter(|at| talk.say_at(&mut lab, Client, at * 100, b"x") == Verdict::Held)
        .count();
    assert_eq!(held, 32);
    assert_eq!(lab.dropped(DropReason::HelperGap), 199 - 32);
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    let held = (1..30)
        .filter(|at| talk.say_at(&mut lab, Client, at * 1_400, &[b'x'; 1_400]) == Verdict::Held)
        .count();
    assert!((1..=32 * 1024 / 1_400).contains(&held), "{held}");
    assert!(lab.counts().held.bytes <= 32 * 1024);
}

#[test]
fn a13_large_datagram_in_fragments_is_judged_whole() {
    for hosts in [V4, V6] {
        let mut lab = Lab::new();
        let talk = Talk::logged_in(&mut lab, hosts, Side::Inside);
        let port = hosts.active(hosts.client, 51_400);
        let line = format!("STOR {}{port}", "a".repeat(20_000));
        let frame = talk.segment(Client).data(&line).frame();
        let pieces = fragments(&frame, 5, 1_240);
        let (mut left, count) = (0, pieces.len());
        for piece in pieces {
            left += lab.pass(Side::Inside, piece).frames.len();
        }
        // Passed whole or not at all; a pinhole in neither case.
        assert!(left == count || left == 0, "{left} of {count}");
        lab.assert_open(hosts, &[]);
    }
}

#[test]
fn a13_fragments_that_never_complete_are_bounded_and_end() {
    let mut settings = Settings::default();
    settings
        .set("conntrack.frag_bytes", "65536")
        .expect("a setting");
    for hosts in [V4, V6] {
        let mut lab = Lab::with(settings.clone());
        let frame = crate::common::udp(at(hosts.client, 5_000), at(hosts.server, 53), &[0; 4_000]);
        for id in 0..2_000 {
            let pieces = fragments(&frame, id, 1_200);
            lab.pass(Side::Inside, pieces[0].clone());
            assert!(lab.counts().held.bytes <= 65_536 + 1_300);
        }
        assert!(lab.dropped(DropReason::FragmentLimit) > 1_900);
        lab.later(60);
        lab.tick();
        assert_eq!(lab.counts().held.frames, 0);
    }
}

#[test]
fn a17_one_session_has_one_port_at_a_time() {
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, side);
        for index in 0..500 {
            let line = hosts.active(hosts.client, 20_000 + index);
            talk.dialogue(&mut lab, &[(Client, &line), (Server, "200 ok\r\n")]);
            assert_eq!(lab.shared.totals().expectations, 1);
        }
        assert_eq!(lab.opened().len(), 500);
        lab.assert_told(&["closed port 20498", "a newer one replaced it"]);
        let door = Door {
            from: hosts.server,
            to: at(hosts.client, 20_499),
            side: side.other(),
        };
        let ports: Vec<u16> = (20_000..20_500)
            .step_by(7)
            .chain([20_498, 20_499])
            .collect();
        lab.assert_open_of(hosts, &[door], &ports);
    });
}

#[test]
fn a17_pipelined_ports_leave_one_open() {
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    let lines: String = (0..50).map(|i| V4.active(V4.client, 20_000 + i)).collect();
    talk.say_cut(&mut lab, Client, &lines, 1_000);
    talk.say_cut(&mut lab, Server, "200 ok\r\n".repeat(50), 100);
    assert_eq!(lab.shared.totals().expectations, 1);
    let door = Door {
        from: V4.server,
        to: at(V4.client, 20_049),
        side: Side::Inside,
    };
    lab.assert_open(V4, &[door]);
    // Further ahead than anybody is: no longer matched, nothing opened.
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    let lines: String = (0..100).map(|i| V4.active(V4.client, 20_000 + i)).collect();
    talk.say_cut(&mut lab, Client, &lines, 1_000);
    lab.assert_told(&["nothing will be opened", "too many commands wait"]);
    talk.say_cut(&mut lab, Server, "200 ok\r\n".repeat(100), 100);
    lab.assert_open(V4, &[]);
    // Lines that are refused wait for answers, too.
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    talk.say_cut(&mut lab, Client, "PORT 1\r\n".repeat(100), 1_000);
    lab.assert_told(&["nothing will be opened", "too many commands wait"]);
}

/// Sessions of a client that needs no login, each with a passive port of its own.
fn open_one(lab: &mut Lab, hosts: Hosts, side: Side, client_port: u16, port: u16) -> Talk {
    let client = at(hosts.client, client_port);
    let server = at(hosts.server, crate::common::FTP);
    let mut talk = Talk::between(hosts, client, server, side);
    let (command, answer) = hosts.passive(port);
    for flags in [0x02, 0x12, 0x10] {
        let (who, by) = match flags {
            0x12 => (Server, -1),
            0x02 => (Client, -1),
            _ => (Client, 0),
        };
        let mut segment = talk.segment(who).with_flags(flags).shifted(by);
        if flags == 0x02 {
            segment.ack = 0;
        }
        let verdict = lab.pass_unchecked(talk.side(who), segment.frame()).verdict;
        assert_eq!(verdict, Verdict::Forward);
    }
    for (who, line) in [
        (Server, "220 hi\r\n"),
        (Client, command),
        (Server, &*answer),
    ] {
        let segment = talk.segment(who).data(line);
        let verdict = lab.pass_unchecked(talk.side(who), segment.frame()).verdict;
        assert_eq!(verdict, Verdict::Forward);
        talk.sent(who, line.len());
    }
    talk
}

fn no_login_needed() -> Settings {
    let mut settings = Settings::default();
    settings.set("ftp.demand_login", "no").expect("a setting");
    settings
}

#[test]
fn a17_one_client_has_64_ports_at_most() {
    for hosts in [V4, V6] {
        let mut lab = Lab::with(no_login_needed());
        let side = Side::Outside;
        for index in 0..80 {
            open_one(&mut lab, hosts, side, 10_000 + index, 20_000 + index);
        }
        lab.check_law();
        assert_eq!(lab.shared.totals().expectations, 64);
        lab.assert_told(&["opened nothing", "too many ports are open for this client"]);
        // The new ones were refused: nobody pushes out another's.
        let doors: Vec<Door> = (0..64)
            .map(|index| Door {
                from: hosts.client,
                to: at(hosts.server, 20_000 + index),
                side,
            })
            .collect();
        let ports: Vec<u16> = (19_999..20_081).collect();
        lab.assert_open_of(hosts, &doors, &ports);
        // After their time there is room again.
        lab.later(61);
        lab.tick();
        assert_eq!(lab.shared.totals().expectations, 0);
        open_one(&mut lab, hosts, side, 30_000, 30_000);
        lab.check_law();
        assert_eq!(lab.shared.totals().expectations, 1);
    }
}

#[test]
fn a17_65536_ports_are_open_at_most() {
    const ALL: u64 = 65_536;
    const PER_CLIENT: u16 = 64;
    let mut lab = Lab::with(no_login_needed());
    let hosts = |client: u16| {
        let [high, low] = client.to_be_bytes();
        Hosts {
            client: v4(10, 1, high, low),
            ..V4
        }
    };
    let clients = (ALL / u64::from(PER_CLIENT)) as u16;
    // 100 microseconds for each frame: the ports do not time out meanwhile.
    for client in 0..clients {
        for index in 0..PER_CLIENT {
            open_one(
                &mut lab,
                hosts(client),
                Side::Outside,
                10_000 + index,
                20_000 + index,
            );
        }
        lab.events();
    }
    // Asked once: the answer takes a look at every session.
    assert_eq!(lab.shared.totals().expectations, ALL);
    open_one(&mut lab, hosts(clients), Side::Outside, 10_000, 20_000);
    lab.check_law();
    lab.assert_told(&["opened nothing", "too many ports are open in all"]);
    let totals = lab.shared.totals();
    assert_eq!((totals.expectations, totals.events_lost), (ALL, 0));
    // The first one is still open, the last one is not.
    for (client, is_open) in [(0, true), (clients - 1, true), (clients, false)] {
        let from = hosts(client).client;
        let verdict = lab.knock(from, at(V4.server, 20_000), Side::Outside, &[]);
        assert_eq!(verdict == Verdict::Forward, is_open, "{from}");
    }
}
