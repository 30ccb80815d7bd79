use super::*;

/// A record.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&[kind, 3, 3], length.as_slice(), body].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

/// A ServerHello with these extensions, type and body.
fn server_hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, body) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend((body.len() as u16).to_be_bytes());
        list.extend(*body);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(32);
    body.extend([9; 32]);
    body.extend([0x13, 1, 0]);
    body.extend((list.len() as u16).to_be_bytes());
    body.extend(list);
    message(SERVER_HELLO, &body)
}

/// Feeds everything, and tells what came of it until something that is not a record.
fn fed(records: &mut Records, mut bytes: &[u8]) -> Vec<Fed> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let fed = records.feed(&mut bytes);
        all.push(fed);
        if matches!(fed, Fed::NoRecord | Fed::Broken) {
            break;
        }
    }
    all
}

fn hello_of(bytes: &[u8]) -> Option<Hello> {
    let mut records = Records::default();
    fed(&mut records, bytes);
    records.hello()
}

#[test]
fn records_end_where_their_length_says() {
    let stream = [
        record(HANDSHAKE, &message(CLIENT_HELLO, &[1; 50])),
        record(20, &[1]),
        record(APPLICATION_DATA, &[0; 300]),
        record(ALERT, &[0; 24]),
    ]
    .concat();
    let mut records = Records::default();
    assert_eq!(fed(&mut records, &stream), [Fed::Record; 4]);
    assert!(records.ended_by_alert());
    assert_eq!(records.hello(), Some(Hello::Client));
}

#[test]
fn every_cut_is_the_same_stream() {
    let stream = [
        record(HANDSHAKE, &server_hello(&[(SUPPORTED_VERSIONS, &TLS_1_3)])),
        record(APPLICATION_DATA, b"227 x"),
        record(APPLICATION_DATA, &[]),
    ]
    .concat();
    for cut in 1..stream.len() {
        let mut records = Records::default();
        let (first, second) = stream.split_at(cut);
        let all = [fed(&mut records, first), fed(&mut records, second)].concat();
        let ended = all.iter().filter(|fed| **fed == Fed::Record).count();
        assert_eq!(ended, 3, "{cut}: {all:?}");
        assert_eq!(records.hello(), Some(Hello::Server { hides_alerts: true }));
        assert_eq!(records.feed(&mut b"2".as_slice()), Fed::NoRecord, "{cut}");
    }
    let mut records = Records::default();
    let ended = stream.iter().flat_map(|byte| fed(&mut records, &[*byte]));
    assert_eq!(ended.filter(|fed| *fed == Fed::Record).count(), 3);
}

#[test]
fn what_is_no_record() {
    for (bytes, expected) in [
        // An SSLv2 hello, a command, a reply, TELNET.
        (b"\x80\x2e\x01\x03\x01".as_slice(), Fed::NoRecord),
        (b"PASV\r\n", Fed::NoRecord),
        (b"227 ", Fed::NoRecord),
        (b"\xff\xf4", Fed::NoRecord),
        (&[19, 3, 3, 0, 1], Fed::NoRecord),
        (&[25, 3, 3, 0, 1], Fed::NoRecord),
        // Versions 2 and 4, and a minor one that nobody has.
        (&[22, 2, 0], Fed::Broken),
        (&[22, 4, 0], Fed::Broken),
        (&[22, 3, 5], Fed::Broken),
        // Empty, and too long.
        (&[22, 3, 1, 0, 0], Fed::Broken),
        (&[21, 3, 1, 0, 0], Fed::Broken),
        (&[23, 3, 3, 0x48, 1], Fed::Broken),
        (&[23, 3, 3, 0xff, 0xff], Fed::Broken),
    ] {
        let mut records = Records::default();
        assert_eq!(fed(&mut records, bytes).pop(), Some(expected), "{bytes:?}");
    }
}

#[test]
fn what_is_a_record() {
    let mut records = Records::default();
    let longest = record(APPLICATION_DATA, &[0; MAX_RECORD_BYTES as usize]);
    assert_eq!(fed(&mut records, &longest), [Fed::Record]);
    assert_eq!(fed(&mut records, &[23, 3, 0, 0, 0]), [Fed::Record]);
    assert_eq!(fed(&mut records, &[24, 3, 4, 0, 1, 0]), [Fed::Record]);
}

#[test]
fn a_byte_that_begins_no_record_is_left() {
    let mut records = Records::default();
    let stream = [record(ALERT, &[1, 0]).as_slice(), b"227 ok\r\n"].concat();
    let mut left = stream.as_slice();
    assert_eq!(records.feed(&mut left), Fed::Record);
    assert_eq!(records.feed(&mut left), Fed::NoRecord);
    assert_eq!(left, b"227 ok\r\n");
}

#[test]
fn the_version_that_a_server_chose() {
    let hello = |extensions: &[(u16, &[u8])]| hello_of(&record(22, &server_hello(extensions)));
    let server = |hides_alerts| Some(Hello::Server { hides_alerts });
    assert_eq!(hello(&[]), server(false));
    assert_eq!(hello(&[(0xff01, &[0])]), server(false));
    let chosen: (u16, &[u8]) = (SUPPORTED_VERSIONS, &TLS_1_3);
    assert_eq!(hello(&[chosen]), server(true));
    assert_eq!(hello(&[(51, &[0; 36]), chosen]), server(true));
    assert_eq!(hello(&[(SUPPORTED_VERSIONS, &[3, 3])]), server(false));
    // An extension that goes beyond the message, and a message without any.
    let mut cut = server_hello(&[(51, &[0; 4]), chosen]);
    let at = cut.len() - 10 - 2;
    cut[at] = 0xff;
    assert_eq!(hello_of(&record(22, &cut)), server(false));
    assert_eq!(
        hello_of(&record(22, &message(SERVER_HELLO, &[3, 3]))),
        server(false)
    );
}

#[test]
fn a_hello_may_take_several_records_and_share_one() {
    let hello = server_hello(&[(SUPPORTED_VERSIONS, &TLS_1_3)]);
    for cut in 1..hello.len() {
        let (first, second) = hello.split_at(cut);
        let stream = [record(HANDSHAKE, first), record(HANDSHAKE, second)].concat();
        assert_eq!(
            hello_of(&stream),
            Some(Hello::Server { hides_alerts: true }),
            "{cut}"
        );
    }
    let shared = [hello, message(11, &[0; 900])].concat();
    let expected = Some(Hello::Server { hides_alerts: true });
    assert_eq!(hello_of(&record(HANDSHAKE, &shared)), expected);
}

#[test]
fn what_is_no_hello() {
    assert_eq!(
        hello_of(&record(HANDSHAKE, &message(11, &[0; 50]))),
        Some(Hello::Other)
    );
    let data = [
        record(APPLICATION_DATA, &message(SERVER_HELLO, &[0; 50])),
        record(20, &[1]),
    ];
    assert_eq!(hello_of(&data.concat()), None);
    // What comes later is none.
    let later = [message(11, &[0; 50]), server_hello(&[])].concat();
    assert_eq!(hello_of(&record(HANDSHAKE, &later)), Some(Hello::Other));
}

#[test]
fn a_hello_without_end_is_not_kept() {
    let mut records = Records::default();
    let endless = [2, 0xff, 0xff, 0xff];
    fed(&mut records, &record(HANDSHAKE, &endless));
    for _ in 0..100 {
        fed(&mut records, &record(HANDSHAKE, &[0; 100]));
        assert!(records.message.len() <= MAX_HELLO_BYTES);
    }
    let hides_alerts = false;
    assert_eq!(records.hello(), Some(Hello::Server { hides_alerts }));
    assert_eq!(records.message.capacity(), 0);
}
