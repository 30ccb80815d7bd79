use super::*;
use crate::engine::Totals;
use crate::observe::Snapshot;
use crate::runtime::status::{LinkState, Mode, RulesInForce, Spread, Subject};

/// Names of their own for each test, so that tests run side by side.
fn address(test: &str) -> Address {
    Address {
        inside: format!("t{}", std::process::id()),
        outside: test.to_owned(),
    }
}

fn status() -> Status {
    let subject = Subject {
        mode: Mode::Firewall,
        names: ["a".to_owned(), "b".to_owned()],
        links: [(1500, LinkState::Up); 2],
        workers: 1,
    };
    let rules = RulesInForce {
        rules: "none".to_owned(),
        generation: 1,
        loaded: "then".to_owned(),
        file: None,
    };
    let totals = Totals {
        flows: 42,
        ..Totals::default()
    };
    Status::new(
        &subject,
        rules,
        Duration::from_secs(1),
        &totals,
        [Spread::default(); 2],
        &Snapshot::of([]),
    )
}

struct Clerk;

impl Desk for Clerk {
    fn status(&self) -> Status {
        status()
    }

    /// Says what it was given.
    fn reload(&self, RulesText { name, text, .. }: RulesText) -> ReloadAnswer {
        ReloadAnswer {
            v: PROTOCOL_VERSION,
            ok: true,
            generation: u32::try_from(text.len()).unwrap(),
            rules: name,
            report: text.chars().take(20).collect(),
            errors: Vec::new(),
        }
    }

    fn rules(&self) -> RulesAnswer {
        RulesAnswer {
            v: PROTOCOL_VERSION,
            generation: 3,
            rules: "some".to_owned(),
            // More than fits into a socket's buffer.
            listing: "tcp dport 1 accept\n".repeat(100_000),
            counters: Vec::new(),
        }
    }
}

fn connect(address: &Address) -> UnixStream {
    let stream = UnixStream::connect_addr(&address.socket().unwrap()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream
}

fn line(stream: &UnixStream) -> String {
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).unwrap();
    text
}

#[test]
fn a_running_one_is_found_asked_and_gone_when_dropped() {
    let address = address("ask");
    let server = ControlServer::start(&address, Clerk).unwrap();
    assert!(Address::all().unwrap().contains(&address));
    assert_eq!(ask_status(&address).unwrap().flows, 42);
    assert_eq!(ask_rules(&address).unwrap(), Clerk.rules());
    let second = ControlServer::start(&address, Clerk).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    drop(server);
    assert!(!Address::all().unwrap().contains(&address));
    assert!(matches!(ask_status(&address), Err(AskError::Io(..))));
}

#[test]
fn several_requests_on_one_connection_however_they_are_cut() {
    let address = address("cut");
    let _server = ControlServer::start(&address, Clerk).unwrap();
    let mut stream = connect(&address);
    let request = b"{\"v\":1,\"cmd\":\"status\"}\n".repeat(3);
    for piece in request.chunks(5) {
        stream.write_all(piece).unwrap();
    }
    let mut reader = BufReader::new(&stream);
    for _ in 0..3 {
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status());
    }
}

#[test]
fn rules_arrive_whole_and_the_next_request_after_them() {
    let address = address("rules");
    let _server = ControlServer::start(&address, Clerk).unwrap();
    for bytes in [0, 1, 8191, rules_file::BYTES_MAX] {
        let rules = RulesText {
            name: "/etc/\"rules\".nft".to_owned(),
            text: "{\n".chars().cycle().take(bytes).collect(),
            includes: Vec::new(),
        };
        let answer = ask_reload(&address, &rules).unwrap();
        assert_eq!(answer.generation as usize, bytes);
        assert_eq!(answer.rules, rules.name);
    }
    let mut stream = connect(&address);
    let requests = "{\"v\":1,\"cmd\":\"reload\",\"bytes\":32}\n\
                    {\"name\":\"f\",\"text\":\"a\\nb\\nc\\n\"}\n\
                    {\"v\":1,\"cmd\":\"status\"}\n";
    for piece in requests.as_bytes().chunks(7) {
        stream.write_all(piece).unwrap();
    }
    let mut reader = BufReader::new(&stream);
    let mut next = || {
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        text
    };
    let answer: ReloadAnswer = serde_json::from_str(&next()).unwrap();
    assert_eq!(answer.report, "a\nb\nc\n");
    assert_eq!(serde_json::from_str::<Status>(&next()).unwrap(), status());
}

#[test]
fn rules_that_are_too_large_or_no_text_are_refused() {
    let address = address("large");
    let _server = ControlServer::start(&address, Clerk).unwrap();
    for (request, part) in [
        (
            "{\"v\":1,\"cmd\":\"reload\",\"bytes\":33554433}\n",
            "the most are 33554432",
        ),
        (
            "{\"v\":1,\"cmd\":\"reload\",\"bytes\":-1}\n",
            "not a request",
        ),
    ] {
        let mut stream = connect(&address);
        stream.write_all(request.as_bytes()).unwrap();
        let answer = line(&stream);
        assert!(
            answer.contains("\"error\"") && answer.contains(part),
            "{answer}"
        );
    }
    let mut stream = connect(&address);
    let request = b"{\"v\":1,\"cmd\":\"reload\",\"bytes\":2}\n\xff\xfe";
    stream.write_all(request).unwrap();
    assert!(line(&stream).contains("these are no rules"));
}

#[test]
fn wrong_requests_get_an_answer_that_says_why() {
    let address = address("wrong");
    let _server = ControlServer::start(&address, Clerk).unwrap();
    for (request, part) in [
        ("\n", "not a request"),
        ("{\"v\":1,\"cmd\":\"halt\"}\n", "unknown command"),
        ("{\"v\":2,\"cmd\":\"status\"}\n", "version 2 is not spoken"),
        ("\u{0}\u{1b}[2J\n", "not a request"),
    ] {
        let mut stream = connect(&address);
        stream.write_all(request.as_bytes()).unwrap();
        let answer = line(&stream);
        assert!(
            answer.contains("\"error\"") && answer.contains(part),
            "{request:?}: {answer}"
        );
    }
    let mut stream = connect(&address);
    stream.write_all(&[b'x'; 9000]).unwrap();
    assert!(line(&stream).contains("longer than 8192"));
    let mut rest = Vec::new();
    // Hung up: with unread bytes left the kernel reports it as a reset.
    assert!(matches!(stream.read_to_end(&mut rest), Ok(0) | Err(_)));
    assert_eq!(ask_status(&address).unwrap().flows, 42);
}

#[test]
fn clients_that_say_nothing_do_not_keep_the_end_waiting() {
    let address = address("idle");
    let server = ControlServer::start(&address, Clerk).unwrap();
    let silent: Vec<UnixStream> = (0..CONNECTIONS - 1).map(|_| connect(&address)).collect();
    assert_eq!(ask_status(&address).unwrap().flows, 42);
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(1));
    drop(silent);
}

#[test]
fn only_listening_sockets_of_lotus_are_listed() {
    let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 1 @lotus/control/eth1+eth2\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 2 @lotus/control/eth3+eth4\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 3 /run/lotus/control/a+b\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 4\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 5 @lotus/port/eth1\n";
    let expected = Address {
        inside: "eth1".to_owned(),
        outside: "eth2".to_owned(),
    };
    assert_eq!(listening(table), [expected]);
}
