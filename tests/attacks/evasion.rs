//! Evasion: the same dialogue, cut, repeated, reordered, spoiled and overlapped in all the ways in
//! which a reader of single packets loses its place. What arrives and what is opened never changes.

use lotus::engine::Verdict;
use lotus::observe::DropReason;
use lotus::wire::{Side, TcpFlags};

use crate::common::{
    Door, Hosts, Lab, Segment, Speaker, Speaker::Client, Speaker::Server, Talk, V4, V6, at,
    everywhere,
};

/// An announcement: who makes it, what goes before, the line, the door.
struct Announcement {
    before: Vec<(Speaker, String)>,
    who: Speaker,
    line: String,
    door: Door,
}

fn announcements(hosts: Hosts, side: Side) -> [Announcement; 2] {
    let (command, answer) = hosts.passive(51_400);
    let passive = Announcement {
        before: vec![(Client, command.to_owned())],
        who: Server,
        line: answer,
        door: Door {
            from: hosts.client,
            to: at(hosts.server, 51_400),
            side,
        },
    };
    let active = Announcement {
        before: vec![],
        who: Client,
        line: hosts.active(hosts.client, 51_400),
        door: Door {
            from: hosts.server,
            to: at(hosts.client, 51_400),
            side: side.other(),
        },
    };
    [passive, active]
}

/// A session right before the announcement.
fn ready(lab: &mut Lab, hosts: Hosts, side: Side, announcement: &Announcement) -> Talk {
    let mut talk = Talk::logged_in(lab, hosts, side);
    for (who, line) in &announcement.before {
        talk.dialogue(lab, &[(*who, line)]);
    }
    talk
}

/// The whole line arrived, and its door is open.
#[track_caller]
fn assert_announced(lab: &mut Lab, talk: &Talk, announcement: &Announcement) {
    let heard = talk.heard(announcement.who.other());
    assert!(heard.ends_with(&announcement.line), "{heard:?}");
    assert_eq!(lab.counts().held.frames, 0);
    assert_eq!(lab.opened().len(), 1);
    lab.assert_open(talk.hosts, &[announcement.door]);
}

#[test]
fn evasion_line_split_at_each_byte() {
    everywhere(|hosts, side| {
        for announcement in announcements(hosts, side) {
            let line = &announcement.line;
            for cut in 1..line.len() {
                let mut lab = Lab::new();
                let mut talk = ready(&mut lab, hosts, side, &announcement);
                let (head, tail) = line.split_at(cut);
                talk.dialogue(&mut lab, &[(announcement.who, head)]);
                lab.assert_open_of(hosts, &[], &[51_400]);
                talk.dialogue(&mut lab, &[(announcement.who, tail)]);
                assert_announced(&mut lab, &talk, &announcement);
            }
            for segment_bytes in [1, 2, 3, 5] {
                let mut lab = Lab::new();
                let mut talk = ready(&mut lab, hosts, side, &announcement);
                talk.say_cut(&mut lab, announcement.who, line, segment_bytes);
                assert_announced(&mut lab, &talk, &announcement);
            }
        }
    });
}

#[test]
fn evasion_two_pieces_in_the_wrong_order() {
    everywhere(|hosts, side| {
        for announcement in announcements(hosts, side) {
            let line = announcement.line.as_bytes();
            for cut in 1..line.len() {
                let mut lab = Lab::new();
                let mut talk = ready(&mut lab, hosts, side, &announcement);
                let (who, tail) = (announcement.who, &line[cut..]);
                let verdict = talk.say_at(&mut lab, who, cut as i64, tail);
                assert_eq!(verdict, Verdict::Held);
                lab.assert_open_of(hosts, &[], &[51_400]);
                talk.say_at(&mut lab, who, 0, &line[..cut]);
                talk.sent(who, line.len());
                assert_announced(&mut lab, &talk, &announcement);
            }
        }
    });
}

#[test]
fn evasion_bytes_in_reverse_and_in_other_orders() {
    for hosts in [V4, V6] {
        for announcement in announcements(hosts, Side::Outside) {
            let line = announcement.line.as_bytes();
            // Pieces of 2 bytes: no more than may be held.
            let pieces: Vec<usize> = (0..line.len()).step_by(2).collect();
            for step in [1, 3, 5, 7, 11, 13] {
                let mut order: Vec<usize> = pieces.clone();
                order.reverse();
                order.sort_by_key(|at| (at / 2 * step) % pieces.len());
                order.reverse();
                let mut lab = Lab::new();
                let mut talk = ready(&mut lab, hosts, Side::Outside, &announcement);
                for at in order {
                    let piece = &line[at..(at + 2).min(line.len())];
                    talk.say_at(&mut lab, announcement.who, at as i64, piece);
                }
                talk.sent(announcement.who, line.len());
                assert_announced(&mut lab, &talk, &announcement);
            }
        }
    }
}

#[test]
fn evasion_overlap_with_other_content_at_each_byte() {
    for hosts in [V4, V6] {
        for announcement in announcements(hosts, Side::Outside) {
            let line = announcement.line.as_bytes();
            for cut in 1..line.len() {
                let mut lab = Lab::new();
                let mut talk = ready(&mut lab, hosts, Side::Outside, &announcement);
                let who = announcement.who;
                talk.say_at(&mut lab, who, 0, &line[..cut]);
                // The same segment again with its last byte changed and the rest behind it.
                let mut other = line.to_vec();
                other[cut - 1] ^= 1;
                for start in [0, cut - 1] {
                    let verdict = talk.say_at(&mut lab, who, start as i64, &other[start..]);
                    assert_eq!(verdict, Verdict::Drop(DropReason::HelperRewrite));
                }
                lab.assert_open_of(hosts, &[], &[51_400]);
                // Overlapping with the same bytes is a retransmission.
                let start = cut / 2;
                let verdict = talk.say_at(&mut lab, who, start as i64, &line[start..]);
                assert_eq!(verdict, Verdict::Forward);
                talk.sent(who, line.len());
                assert_announced(&mut lab, &talk, &announcement);
            }
        }
    }
}

#[test]
fn evasion_held_overlap_is_decided_by_what_is_read_first() {
    // Past a gap two versions wait; the one that continues the stream first is read and leaves,
    // the other one is dropped where it differs.
    for announcement in announcements(V4, Side::Inside) {
        let line = announcement.line.as_bytes();
        let who = announcement.who;
        let mut lab = Lab::new();
        let mut talk = ready(&mut lab, V4, Side::Inside, &announcement);
        let mut other = line.to_vec();
        let last_digit = line.iter().rposition(u8::is_ascii_digit).expect("a digit");
        other[last_digit] ^= 1;
        assert_eq!(talk.say_at(&mut lab, who, 10, &line[10..]), Verdict::Held);
        assert_eq!(talk.say_at(&mut lab, who, 5, &other[5..]), Verdict::Held);
        talk.say_at(&mut lab, who, 0, &line[..5]);
        talk.sent(who, line.len());
        let heard = talk.heard(who.other());
        let arrived: Vec<u8> = heard.bytes().rev().take(line.len()).collect();
        let arrived: Vec<u8> = arrived.into_iter().rev().collect();
        assert!(arrived == line || arrived == other, "one of the two");
        assert_eq!(lab.dropped(DropReason::HelperRewrite), 1);
        let opened: Vec<u16> = lab.opened().iter().map(|opened| opened.to.port()).collect();
        let expected = if arrived == line { 51_400 } else { 51_401 };
        assert_eq!(opened, [expected], "what arrived is what was opened");
    }
}

#[test]
fn evasion_wrong_checksums_move_nothing() {
    everywhere(|hosts, side| {
        for announcement in announcements(hosts, side) {
            let mut lab = Lab::new();
            let mut talk = ready(&mut lab, hosts, side, &announcement);
            let who = announcement.who;
            let line = announcement.line.as_bytes();
            // Whole, in part, other bytes, a FIN, a reset, a SYN: all spoiled.
            let mut other = line.to_vec();
            other[1] ^= 1;
            let base = talk.segment(who);
            for segment in [
                base.clone().data(line),
                base.clone().data(&other),
                base.clone().data(&other[..7]),
                base.clone().with_flags(TcpFlags::FIN | TcpFlags::ACK),
                base.clone().with_flags(TcpFlags::RST),
                base.clone().with_flags(TcpFlags::SYN).shifted(-1),
                base.clone(),
            ] {
                let passed = talk.send(&mut lab, who, &segment.spoiled());
                assert_eq!(passed.verdict, Verdict::Drop(DropReason::ChecksumBad));
            }
            lab.assert_open(hosts, &[]);
            talk.dialogue(&mut lab, &[(who, &announcement.line)]);
            assert_announced(&mut lab, &talk, &announcement);
        }
    });
}

#[test]
fn evasion_out_of_window_data_is_never_read() {
    everywhere(|hosts, side| {
        for announcement in announcements(hosts, side) {
            let mut lab = Lab::new();
            let mut talk = ready(&mut lab, hosts, side, &announcement);
            let who = announcement.who;
            let mut other = announcement.line.clone().into_bytes();
            other[1] ^= 1;
            for by in [
                60_001,
                61_000,
                90_000,
                119_000,
                121_000,
                -60_100,
                -70_000,
                -130_000,
                i64::from(i32::MAX),
                i64::from(i32::MIN),
            ] {
                for bytes in [announcement.line.as_bytes(), &other] {
                    let verdict = talk.say_at(&mut lab, who, by, bytes);
                    assert!(matches!(verdict, Verdict::Drop(_)), "{by}: {verdict:?}");
                }
            }
            lab.assert_open(hosts, &[]);
            talk.dialogue(&mut lab, &[(who, &announcement.line)]);
            assert_announced(&mut lab, &talk, &announcement);
        }
    });
}

#[test]
fn evasion_data_far_past_what_the_receiver_offered_is_not_held() {
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    // The server takes 100 bytes more.
    let mut offer = talk.segment(Server);
    offer.window = 100;
    talk.send(&mut lab, Server, &offer);
    // That it ever offered 60,000 still counts (it may not shrink its window, RFC 9293 section
    // 3.8.6): but no more.
    let verdict = talk.say_at(&mut lab, Client, 60_001, b"x");
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
}

#[test]
fn evasion_retransmission_that_begins_with_227() {
    // From each byte of an error text, acknowledged up to there.
    let answer = "550 227 227 Entering Passive Mode (198,51,100,20,200,200).\r\n";
    for cut in 0..answer.len() {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, V4, Side::Inside);
        talk.dialogue(&mut lab, &[(Client, "PASV\r\n"), (Server, answer)]);
        let mut ack = talk.segment(Client);
        ack.ack = ack.ack.wrapping_sub((answer.len() - cut) as u32);
        talk.send(&mut lab, Client, &ack);
        let by = cut as i64 - answer.len() as i64;
        talk.say_at(&mut lab, Server, by, &answer.as_bytes()[cut..]);
        // Also joined with what comes next.
        let next = [&answer.as_bytes()[cut..], b"226 x\r\n"].concat();
        talk.say_at(&mut lab, Server, by, &next);
        lab.assert_open_of(V4, &[], &[51_400]);
        assert!(lab.opened().is_empty());
    }
}

#[test]
fn evasion_urgent_data_telnet_or_not() {
    for hosts in [V4, V6] {
        for announcement in announcements(hosts, Side::Outside) {
            let line = announcement.line.as_bytes();
            // Any byte of the line as the urgent one: made ordinary, and the line counts.
            for pointer in 0..=line.len() as u16 + 3 {
                let mut lab = Lab::new();
                let mut talk = ready(&mut lab, hosts, Side::Outside, &announcement);
                let who = announcement.who;
                let segment = talk.segment(who).data(line).urgent(pointer);
                let passed = talk.send(&mut lab, who, &segment);
                assert_eq!(passed.verdict, Verdict::Forward);
                talk.sent(who, line.len());
                assert!(talk.urgent(who.other()).is_empty());
                assert_announced(&mut lab, &talk, &announcement);
            }
        }
    }
    // ABOR as RFC 959 has it: IP and Synch, the data mark urgent. It stays as it is.
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    talk.dialogue(&mut lab, &[(Client, "RETR x\r\n"), (Server, "150 go\r\n")]);
    let abort = b"\xff\xf4\xff\xf2ABOR\r\n";
    let at_mark = talk.has(Server) + 3;
    let segment = talk.segment(Client).data(abort).urgent(4);
    talk.send(&mut lab, Client, &segment);
    talk.sent(Client, abort.len());
    assert_eq!(talk.urgent(Server), [at_mark]);
    assert!(talk.heard(Server).ends_with("ABOR\r\n"));
    // The byte behind the mark is not TELNET.
    let segment = talk.segment(Client).data(abort).urgent(5);
    talk.send(&mut lab, Client, &segment);
    assert_eq!(talk.urgent(Server), [at_mark]);
}

#[test]
fn evasion_urgent_byte_that_hides_a_bounce() {
    // "PORT 1x92,..." with the "x" urgent is a bounce or none, as one reads it: here it is one.
    let mut lab = Lab::new();
    let mut talk = Talk::logged_in(&mut lab, V4, Side::Outside);
    let line = b"PORT 192,0,2,10x,200,200\r\n";
    let segment = talk.segment(Client).data(line).urgent(16);
    talk.send(&mut lab, Client, &segment);
    talk.sent(Client, line.len());
    assert!(talk.heard(Server).ends_with("XXXX\r\n"));
    assert!(talk.urgent(Server).is_empty());
    lab.assert_told(&["refused"]);
    lab.assert_open(V4, &[]);
}

#[test]
fn evasion_mid_stream_segments_open_nothing_and_begin_nothing() {
    everywhere(|hosts, side| {
        for announcement in announcements(hosts, side) {
            let mut lab = Lab::new();
            let talk = Talk::new(hosts, side);
            for flags in [TcpFlags::ACK, TcpFlags::PSH | TcpFlags::ACK, 0] {
                for who in [Client, Server] {
                    let segment = talk.segment(who).data(&announcement.line);
                    let segment = segment.with_flags(flags | TcpFlags::ACK);
                    let verdict = lab.pass(talk.side(who), segment.frame()).verdict;
                    assert_eq!(verdict, Verdict::Drop(DropReason::TcpNotSyn));
                }
            }
            // An answer that nobody asked for begins nothing either.
            let answer = talk
                .segment(Server)
                .with_flags(TcpFlags::SYN | TcpFlags::ACK);
            let verdict = lab.pass(talk.side(Server), answer.frame()).verdict;
            assert_eq!(verdict, Verdict::Drop(DropReason::TcpNotSyn));
            assert_eq!(lab.shared.totals().flows, 0);
            lab.assert_open(hosts, &[]);
        }
    });
}

#[test]
fn evasion_both_ends_at_once_begin_no_session() {
    // A simultaneous open on a control port: nobody does that but to be taken for the other end.
    everywhere(|hosts, side| {
        let mut lab = Lab::new();
        let talk = Talk::new(hosts, side);
        let syn = talk.segment(Client).with_flags(TcpFlags::SYN).shifted(-1);
        assert_eq!(lab.pass(side, syn.frame()).verdict, Verdict::Forward);
        let syn = talk.segment(Server).with_flags(TcpFlags::SYN).shifted(-1);
        let verdict = lab.pass(side.other(), syn.frame()).verdict;
        assert_eq!(verdict, Verdict::Drop(DropReason::HelperInvalid));
        // Nor does text before the handshake is over count.
        let data = talk.segment(Server).data("220 ready\r\n");
        let verdict = lab.pass(side.other(), data.frame()).verdict;
        assert!(matches!(verdict, Verdict::Drop(_)));
        assert_eq!(lab.shared.totals().sessions_begun, 0);
    });
}

#[test]
fn evasion_text_behind_the_fin_is_nobodys() {
    everywhere(|hosts, side| {
        for announcement in announcements(hosts, side) {
            let mut lab = Lab::new();
            let mut talk = ready(&mut lab, hosts, side, &announcement);
            let who = announcement.who;
            let fin = talk.segment(who).with_flags(TcpFlags::FIN | TcpFlags::ACK);
            talk.send(&mut lab, who, &fin);
            for by in [0, 1] {
                let verdict = talk.say_at(&mut lab, who, by, announcement.line.as_bytes());
                assert!(matches!(verdict, Verdict::Drop(_)), "{by}: {verdict:?}");
            }
            lab.assert_open(hosts, &[]);
            // The other end still may speak, and opens nothing either.
            let (_, answer) = hosts.passive(51_400);
            talk.say(&mut lab, who.other(), &answer);
            lab.assert_open(hosts, &[]);
        }
    });
}

#[test]
fn evasion_options_and_padding_are_no_payload() {
    // Text in TCP options, or behind the end of the IP datagram, is no part of the stream.
    for hosts in [V4, V6] {
        let mut lab = Lab::new();
        let mut talk = Talk::logged_in(&mut lab, hosts, Side::Inside);
        let (command, answer) = hosts.passive(51_400);
        talk.dialogue(&mut lab, &[(Client, command)]);
        let mut segment: Segment = talk.segment(Server);
        // An option of an unknown kind, 36 bytes of text.
        segment.options = [&[200, 38][..], &answer.as_bytes()[..36], &[0, 0]].concat();
        talk.send(&mut lab, Server, &segment);
        let mut frame = talk.segment(Server).frame();
        frame.extend(answer.as_bytes());
        talk.send_frame(&mut lab, Server, frame);
        lab.assert_open(hosts, &[]);
        talk.dialogue(&mut lab, &[(Server, &answer)]);
        assert_eq!(lab.opened().len(), 1);
    }
}
