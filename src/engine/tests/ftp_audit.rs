//! The record: commands with their answers, transfers with their bytes, and no secrets.

use super::*;

/// All that was told of a session, without the lines that other tests look at.
fn record(lab: &Lab) -> Vec<String> {
    let is_record = |event: &Event| {
        matches!(
            event.kind,
            EventKind::Command { .. } | EventKind::Transfer(_)
        )
    };
    let events = lab.events();
    let lines = events.iter().filter(|event| is_record(event));
    lines
        .map(|event| event.to_string().replacen("ftp[1] ", "", 1))
        .collect()
}

const OPEN_TOLD: &str = "command 'PASV': reply 227";

fn data() -> Wire {
    to_port(40_001, 50_000)
}

#[test]
fn commands_with_their_answers_and_no_secrets() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "ACCT secret"),
            (Server, "202 superfluous"),
            (Client, "ADAT c2VjcmV0"),
            (Server, "500 no"),
            (Client, "MKD a\u{1b}[2J"),
            (Server, "257 made"),
            (Client, "PASSsecret"),
            (Server, "500 what?"),
        ],
    );
    wire.say(&mut lab, Client, b"PORT 10,0,0,1,195,80\r\n");
    wire.dialogue(&mut lab, &[(Server, "500 what?")]);
    assert_eq!(
        record(&lab),
        [
            "command 'USER joe': reply 331",
            "command 'PASS': reply 230",
            "command 'ACCT': reply 202",
            "command 'ADAT': reply 500",
            "command 'MKD a\\u{1b}[2J': reply 257",
            "command 'PASS': reply 500",
        ],
        "what was refused has an event of its own"
    );
}

#[test]
fn a_download_whose_last_reply_comes_before_the_data_connection_ends() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    record(&lab);
    wire.dialogue(&mut lab, OPEN);
    let mut data = data();
    assert!(data.connect(&mut lab));
    wire.dialogue(
        &mut lab,
        &[(Client, "RETR a file"), (Server, "150 here it comes")],
    );
    assert!(data.say(&mut lab, Server, b"its bytes").is_forward());
    wire.dialogue(&mut lab, &[(Server, "226 done")]);
    assert_eq!(
        record(&lab),
        [OPEN_TOLD, "command 'RETR a file': reply 226"]
    );
    data.close(&mut lab);
    assert_eq!(
        record(&lab),
        ["download done: 'RETR a file', 9 bytes (PASV), reply 226"]
    );
}

#[test]
fn an_upload_in_active_mode_whose_data_connection_ends_first() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    record(&lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "PORT 192,0,2,10,195,80"),
            (Server, "200 ok"),
            (Client, "STOR b"),
            (Server, "150 send"),
        ],
    );
    let mut data = Wire::new("192.0.2.20:20", "192.0.2.10:50000", Side::Inside);
    assert!(data.connect(&mut lab));
    // Who connected is the server.
    assert!(
        data.say(&mut lab, Server, b"what the client sends")
            .is_forward()
    );
    data.close(&mut lab);
    wire.dialogue(&mut lab, &[(Server, "226 done")]);
    assert_eq!(
        record(&lab),
        [
            "command 'PORT 192,0,2,10,195,80': reply 200",
            "command 'STOR b': reply 226",
            "upload done: 'STOR b', 21 bytes (PORT), reply 226",
        ]
    );
}

#[test]
fn transfers_that_fail() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    record(&lab);
    // Not begun: the data connection is the next command's.
    wire.dialogue(&mut lab, OPEN);
    let mut data = data();
    assert!(data.connect(&mut lab));
    wire.dialogue(
        &mut lab,
        &[
            (Client, "RETR none"),
            (Server, "550 no such file"),
            (Client, "LIST"),
            (Server, "150 here"),
        ],
    );
    assert!(data.say(&mut lab, Server, b"names").is_forward());
    data.close(&mut lab);
    wire.dialogue(&mut lab, &[(Server, "426 broken off")]);
    assert_eq!(
        record(&lab),
        [
            OPEN_TOLD,
            "command 'RETR none': reply 550",
            "download failed: 'RETR none', 0 bytes, reply 550",
            "command 'LIST': reply 426",
            "listing failed: 'LIST', 5 bytes (PASV), reply 426",
        ]
    );
    // The session ends in the middle.
    wire.dialogue(&mut lab, &[(Client, "NLST"), (Server, "150 here")]);
    let rst = wire.segment(Client, RST, b"").frame();
    assert!(lab.pass(Side::Outside, rst).is_forward());
    assert_eq!(
        record(&lab),
        [
            "command 'NLST': no reply",
            "listing failed: 'NLST', bytes unknown, no reply",
        ]
    );
}

#[test]
fn an_abort_and_a_keep_alive_get_their_own_answers() {
    let mut lab = Lab::new();
    let mut wire = session(&mut lab);
    record(&lab);
    wire.dialogue(
        &mut lab,
        &[
            (Client, "RETR x"),
            (Server, "150 here"),
            (Client, "NOOP"),
            (Server, "200 alive"),
            (Client, "ABOR"),
            (Server, "426 broken off"),
            (Server, "226 aborted"),
        ],
    );
    assert_eq!(
        record(&lab),
        [
            "command 'NOOP': reply 200",
            "command 'RETR x': reply 426",
            "download failed: 'RETR x', bytes unknown, reply 426",
            "command 'ABOR': reply 226",
        ]
    );
}
