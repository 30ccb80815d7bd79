//! What `ftp.refuse` says.

use super::*;

const BOUNCE: &[u8] = b"PORT 10,0,0,1,195,80\r\n";

pub(super) fn lab(refuse: &str) -> (Lab, Wire) {
    let mut lab = Lab::set(&[("ftp.refuse", refuse)]);
    let wire = session(&mut lab);
    (lab, wire)
}

/// The flags, sequence and acknowledgment numbers of what lotus made, by where it leaves.
fn made(passed: &Passed) -> Vec<(Side, u8, u32, u32)> {
    let read = |(side, frame): &(Side, Vec<u8>)| {
        let (_, ip) = parsed(frame);
        let L4::Tcp(tcp) = ip.l4 else {
            panic!("no TCP");
        };
        (*side, tcp.flags.0, tcp.seq, tcp.ack)
    };
    passed.made.iter().map(read).collect()
}

#[test]
fn a_reset_reaches_both_ends_and_ends_the_session() {
    let (mut lab, mut wire) = lab("reset");
    wire.dialogue(&mut lab, &[(Client, "PASV")]);
    wire.dialogue(&mut lab, &[(Server, "227 ok (192,0,2,20,195,80)")]);
    assert_eq!(lab.shared.totals().expectations, 1);
    let bounce = wire.segment(Client, 0, BOUNCE);
    let passed = wire.say(&mut lab, Client, BOUNCE);
    assert_eq!(passed.verdict, Verdict::Drop(DropReason::HelperReset));
    let rst_ack = RST | ACK;
    let expected = [
        (Side::Inside, rst_ack, bounce.seq, bounce.ack),
        // RFC 9293 section 3.10.7.1: what answers an acknowledgment has none itself.
        (Side::Outside, RST, bounce.ack, 0),
    ];
    assert_eq!(made(&passed), expected);
    assert_eq!(lab.shared.totals().expectations, 0, "what was open is shut");
    assert_eq!(lab.shared.totals().sessions, 0);
    // Whoever did not get the reset gets another one, and nothing that it says passes.
    let again = lab.pass(Side::Outside, bounce.frame());
    assert_eq!(made(&again), expected);
    assert!(again.frames.is_empty());
    let word = wire.say(&mut lab, Server, b"200 ok\r\n");
    assert_eq!(word.verdict, Verdict::Drop(DropReason::HelperReset));
    // The flow goes as after any reset.
    lab.later(11);
    lab.tick();
    assert_eq!(lab.shared.totals().flows, 0);
}

#[test]
fn a_reset_comes_before_any_byte_of_the_command_has_left_behind_its_refusable_part() {
    let (mut lab, mut wire) = lab("reset");
    for byte in b"PORT " {
        assert!(wire.say(&mut lab, Client, &[*byte]).is_forward());
    }
    let seq = *wire.next(Client);
    assert!(wire.say(&mut lab, Client, b"1").is_forward());
    // 192,0,2,10 can't begin with 10.
    let passed = wire.say(&mut lab, Client, b"0");
    assert!(!passed.is_forward());
    let [(_, _, to_server, _), _] = made(&passed)[..] else {
        panic!("two resets");
    };
    assert_eq!(to_server, seq + 1, "what the server expects next");
}

#[test]
fn ignored_is_passed_and_opens_nothing() {
    let (mut lab, mut wire) = lab("ignore");
    assert_eq!(wire.say(&mut lab, Client, BOUNCE).bytes(), BOUNCE);
    wire.dialogue(&mut lab, &[(Server, "200 PORT command successful")]);
    assert_eq!(lab.shared.totals().ports_opened, 0);
    assert!(!connects(
        &mut lab,
        "192.0.2.20:20",
        "10.0.0.1:50000",
        Side::Inside
    ));
    assert!(
        lab.told()
            .iter()
            .any(|line| line.contains("opened nothing for PORT 1") && line.contains("bounce"))
    );
    // The session is in step.
    wire.dialogue(&mut lab, OPEN);
    assert_eq!(lab.shared.totals().ports_opened, 1);
    // In one byte a segment, too.
    for byte in BOUNCE {
        assert_eq!(wire.say(&mut lab, Client, &[*byte]).bytes(), [*byte]);
    }
    assert_eq!(lab.shared.totals().ports_opened, 1);
}

/// Servers that take any byte behind IAC, or IAC and WILL, for TELNET's read PORT here.
#[test]
fn a_byte_that_some_take_for_a_telnet_option_hides_no_command() {
    for disguise in [&b"\xff\xfbX"[..], b"\xff\xfdX", b"\xffX", b"\xff\xfb\x7f"] {
        for cut in [1, 4, 100] {
            let (mut lab, mut wire) = lab("refuse");
            let line = [disguise, BOUNCE].concat();
            let mut got = Vec::new();
            for piece in line.chunks(cut) {
                got.extend(wire.say(&mut lab, Client, piece).bytes());
            }
            assert!(
                !got.windows(4)
                    .any(|four| four.eq_ignore_ascii_case(b"PORT")),
                "{disguise:?}: {got:?}"
            );
            assert_eq!(lab.shared.totals().refused, 1, "{disguise:?}");
        }
    }
}

/// Without an IAC before it, it is a byte of the line, which the receiver must not take out.
#[test]
fn an_urgent_byte_without_iac_hides_no_command() {
    let (mut lab, wire) = lab("refuse");
    let mut segment = wire.segment(Client, TcpFlags::URG, b"PO\xf2RT 10,0,0,1,195,80\r\n");
    segment.urgent = 3;
    let passed = lab.pass(Side::Outside, segment.frame());
    let (_, ip) = parsed(&passed.frames[0]);
    let L4::Tcp(tcp) = ip.l4 else { panic!("TCP") };
    assert!(!tcp.flags.has(TcpFlags::URG));
    // Behind an IAC that came before it is TELNET's.
    let (mut lab, mut wire) = super::refusal::lab("refuse");
    assert!(wire.say(&mut lab, Client, b"\xff\xf4\xff").is_forward());
    let mut segment = wire.segment(Client, TcpFlags::URG, b"\xf2ABOR\r\n");
    segment.urgent = 1;
    let passed = lab.pass(Side::Outside, segment.frame());
    let (_, ip) = parsed(&passed.frames[0]);
    let L4::Tcp(tcp) = ip.l4 else { panic!("TCP") };
    assert!(tcp.flags.has(TcpFlags::URG));
}

/// A server that ends lines with CRLF sends back a name with LFs in it.
#[test]
fn an_echoed_234_does_not_make_the_helper_blind() {
    let (mut lab, mut wire) = lab("refuse");
    wire.dialogue(
        &mut lab,
        &[
            (Client, "AUTH X"),
            (Server, "504 no"),
            (Client, "FOO"),
            (Server, "500 Command \"FOO\n234\n\" not understood."),
        ],
    );
    assert_ne!(wire.say(&mut lab, Client, BOUNCE).bytes(), BOUNCE);
    // Also while the answer to AUTH is still to come.
    let (mut lab, mut wire) = super::refusal::lab("refuse");
    wire.dialogue(
        &mut lab,
        &[
            (Client, "AUTH TLS"),
            (Server, "500 Command \"\n234\n\" not understood."),
        ],
    );
    assert_ne!(wire.say(&mut lab, Client, BOUNCE).bytes(), BOUNCE);
}

#[test]
fn letters_beyond_ascii_get_round_no_policy() {
    let mut lab = Lab::set(&[("ftp.commands", "deny:STOR")]);
    let mut wire = session(&mut lab);
    // To some servers this is an upper case S.
    let line = "\u{17f}TOR x\r\n".as_bytes();
    let got = wire.say(&mut lab, Client, line).bytes();
    assert!(!got.windows(3).any(|three| three == b"TOR"), "{got:?}");
}
