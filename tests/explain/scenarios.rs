//! FTP sessions as they should be, and as they should not.

use std::io::Write as _;
use std::net::SocketAddr;

use pcap_file::{DataLink, Endianness, TsResolution};

use crate::run::{Explained, json, text};
use crate::scene::{Client, Scene, Server, at};

/// Nothing passes in either direction but FTP and what belongs to it.
pub(crate) const STRICT: &str = r#"
table inet strict {
  ct helper ftp { type "ftp" protocol tcp; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state established,related accept
    tcp dport 21 ct state new ct helper set "ftp" accept
  }
}
"#;

/// Explains a scene under rules that drop in both directions.
pub(crate) fn strictly(arguments: &[&str], capture: &[u8]) -> Explained {
    let mut rules = tempfile::NamedTempFile::new().unwrap();
    rules.write_all(STRICT.as_bytes()).unwrap();
    let path = rules.path().to_str().unwrap();
    json(&[&["-c", path], arguments].concat(), capture)
}

fn numbers(address: SocketAddr) -> String {
    let ip = address.ip().to_string().replace('.', ",");
    let port = address.port();
    format!("{ip},{},{}", port >> 8, port & 255)
}

/// One session with one transfer; `is_active`: by PORT or EPRT.
fn session(client: &str, server: &str, is_active: bool) -> (Scene, SocketAddr) {
    let mut scene = Scene::new();
    let mut control = scene.login(at(client, 40_000), at(server, 21));
    let is_v4 = control.client.is_ipv4();
    let data = if is_active {
        at(client, 50_000)
    } else {
        at(server, 60_000)
    };
    let port = data.port();
    let (asked, answered) = match (is_active, is_v4) {
        (true, true) => (format!("PORT {}", numbers(data)), "200 ok".to_owned()),
        (true, false) => (format!("EPRT |2|{client}|{port}|"), "200 ok".to_owned()),
        (false, true) => ("PASV".to_owned(), format!("227 go ({})", numbers(data))),
        (false, false) => ("EPSV".to_owned(), format!("229 go (|||{port}|)")),
    };
    scene.say(&mut control, Client, &format!("{asked}\r\n"));
    scene.say(&mut control, Server, &format!("{answered}\r\n"));
    scene.say(&mut control, Client, "RETR file\r\n");
    let from = if is_active {
        at(server, 2020)
    } else {
        at(client, 40_001)
    };
    // A port beside it stays shut.
    scene.syn(from, SocketAddr::new(data.ip(), port + 1));
    scene.transfer(from, data);
    scene.say(&mut control, Server, "226 done\r\n");
    scene.close(&mut control);
    (scene, data)
}

/// S1 to S4: the server inside or outside, active or passive, IPv4 and IPv6.
#[test]
fn the_four_scenarios() {
    for (client, server) in [
        ("192.0.2.1", "198.51.100.9"),
        ("2001:db8::1", "2001:db8:9::9"),
    ] {
        for is_active in [true, false] {
            let (scene, data) = session(client, server, is_active);
            for inside in [client, server] {
                let explained = strictly(&["--inside", inside], &scene.pcap());
                let name = format!("{client} {server} {is_active} {inside}");
                assert_eq!(explained.counts(), [1, 1, 1, 0], "{name}");
                assert_eq!(explained.number("ports_used"), 1, "{name}");
                assert_eq!(explained.number("flows"), 2, "{name}");
                // The port beside it.
                assert_eq!(explained.number("dropped"), 1, "{name}");
                let shut = SocketAddr::new(data.ip(), data.port() + 1);
                let shut = explained.packet(explained.find(&format!("> {shut} [S]")));
                assert_eq!(
                    (&shut["reason"], &shut["state"]),
                    (&"policy_drop".into(), &"new".into())
                );
                let syn = explained.find(&format!("> {data} [S]"));
                assert_eq!(explained.packet(syn)["state"], "related", "{name}");
                assert_eq!(explained.packet(syn)["flow"], 2);
                let is_inside_first = inside == client;
                let side = if is_inside_first { "inside" } else { "outside" };
                assert_eq!(explained.packet(1)["side"], side, "{name}");
                let port = &explained.summary["sessions"][0]["ports"][0];
                assert_eq!(port["syn"], syn as u64);
                assert_eq!(port["used_by"], syn as u64 + 1);
                assert_eq!(port["bytes"], serde_json::json!([4, 0]));
                let opened_by = port["opened_by"].as_u64().unwrap() as usize;
                assert!(explained.beneath(opened_by).contains("port_opened"));
                let line = port["line"].as_str().unwrap();
                let beginning = match (is_active, data.is_ipv4()) {
                    (true, true) => "PORT 192,0,2,1,195,80",
                    (true, false) => "EPRT |2|2001:db8::1|50000|",
                    (false, true) => "227 go (198,51,100,9,234,96)",
                    (false, false) => "229 go (|||60000|)",
                };
                assert_eq!(line, beginning, "{name}");
                assert!(explained.beneath(syn).contains(line), "{name}");
            }
        }
    }
}

/// Whatever the file is like, the explanation is the same.
#[test]
fn the_same_packets_in_every_kind_of_file() {
    use DataLink as L;
    use Endianness::{Big, Little};
    use TsResolution::{MicroSecond, NanoSecond};
    for (client, server) in [
        ("192.0.2.1", "198.51.100.9"),
        ("2001:db8::1", "2001:db8:9::9"),
    ] {
        let (scene, _) = session(client, server, false);
        let family: u8 = if scene.packets[0].frame[12] == 8 {
            2
        } else {
            30
        };
        let sll = |ethernet: &[u8]| {
            [
                &[0, 0, 0, 1, 0, 6][..],
                &ethernet[6..12],
                &[0, 0],
                &ethernet[12..],
            ]
            .concat()
        };
        let sll2 = |ethernet: &[u8]| {
            [
                &ethernet[12..],
                &[0, 0, 0, 0, 0, 2, 0, 1, 0, 6],
                &ethernet[6..12],
                &[0, 0],
            ]
            .concat()
        };
        let usual = strictly(&["--inside", server], &scene.pcap());
        assert_eq!(usual.counts(), [1, 1, 1, 0]);
        let files = [
            scene.pcap_with(Big, MicroSecond, L::ETHERNET),
            scene.pcap_with(Big, NanoSecond, L::ETHERNET),
            scene.pcap_with(Little, NanoSecond, L::ETHERNET),
            scene.pcapng(),
            scene
                .with_head(|_| vec![])
                .pcap_with(Little, MicroSecond, L::RAW),
            scene
                .with_head(|_| vec![family, 0, 0, 0])
                .pcap_with(Little, MicroSecond, L::NULL),
            scene
                .with_head(|_| vec![0, 0, 0, family])
                .pcap_with(Big, MicroSecond, L::LOOP),
            scene
                .with_head(sll)
                .pcap_with(Little, MicroSecond, L::LINUX_SLL),
            scene
                .with_head(sll2)
                .pcap_with(Little, MicroSecond, L::LINUX_SLL2),
        ];
        for (number, file) in files.iter().enumerate() {
            let other = strictly(&["--inside", server], file);
            assert_eq!(other.verdicts(), usual.verdicts(), "file {number}");
            assert_eq!(other.counts(), usual.counts(), "file {number}");
            for (one, other) in usual.packets.iter().zip(&other.packets) {
                assert_eq!(one["what"], other["what"], "file {number}");
                assert_eq!(one["time"], other["time"], "file {number}");
                assert_eq!(one["bytes"], other["bytes"], "file {number}");
            }
        }
    }
}

#[test]
fn a_bounce_is_refused_and_its_port_stays_shut() {
    let mut scene = Scene::new();
    let mut control = scene.login(at("192.0.2.1", 40_000), at("198.51.100.9", 21));
    scene.say(&mut control, Client, "PORT 203,0,113,7,0,80\r\n");
    let refused = scene.packets.len() - 1;
    scene.say(&mut control, Server, "200 as if nothing had happened\r\n");
    scene.syn(at("198.51.100.9", 20), at("203.0.113.7", 80));
    let explained = strictly(&["--inside", "198.51.100.0/24"], &scene.pcap());
    assert_eq!(explained.counts(), [1, 0, 0, 1]);
    assert_eq!(explained.packet(refused)["overwritten"], true);
    let events = explained.packet(refused)["events"].as_array().unwrap();
    let order: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["line", "refused"], "first what was said");
    let refusal = &explained.summary["sessions"][0]["refusals"][0];
    assert_eq!(refusal["what"], "PORT 203,0,113,7,0,80");
    assert_eq!(refusal["packet"], refused as u64);
    let last = explained.packets.last().unwrap();
    assert_eq!(last["reason"], "policy_drop");
}

/// A port that was open, and no longer is, explains why a SYN to it is dropped.
#[test]
fn a_port_that_was_closed_says_why() {
    let mut scene = Scene::new();
    let (client, server) = (at("192.0.2.1", 40_000), at("198.51.100.9", 21));
    let mut control = scene.login(client, server);
    scene.say(&mut control, Client, "PASV\r\n");
    scene.say(&mut control, Server, "227 go (198,51,100,9,234,96)\r\n");
    let opened = scene.packets.len() - 1;
    scene.wait(200);
    scene.syn(at("192.0.2.1", 40_001), at("198.51.100.9", 60_000));
    let explained = strictly(&[], &scene.pcap());
    assert_eq!(explained.counts(), [1, 1, 0, 0]);
    let syn = explained.packets.len();
    let before = &explained.packet(syn)["before"][0];
    assert_eq!(before["event"], "port_closed");
    assert_eq!(before["why"], "nobody used it in time");
    let seconds: f64 = before["since_first"].as_str().unwrap().parse().unwrap();
    assert!((60.0..65.0).contains(&seconds), "a minute, not {seconds}");
    let remark = explained.packet(syn)["remarks"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let by = format!("opened with packet {opened} by '227 go (198,51,100,9,234,96)'");
    assert!(remark.contains(&by), "{remark}");
    assert!(remark.contains("nobody used it in time"), "{remark}");
}

/// Segments of a control connection that come out of order are held, and go on behind the one
/// that fills the gap.
#[test]
fn what_is_held_and_let_go_is_told_by_number() {
    let mut scene = Scene::new();
    let mut control = scene.login(at("192.0.2.1", 40_000), at("198.51.100.9", 21));
    scene.tell(&mut control, Client, "PA");
    scene.tell(&mut control, Client, "S");
    scene.tell(&mut control, Client, "V\r\n");
    let last = scene.packets.len() - 1;
    scene.packets.swap(last - 2, last);
    let explained = strictly(&[], &scene.pcap());
    let verdict = |number: usize| explained.packet(number)["verdict"].as_str().unwrap();
    let [first, second, third] = [last - 1, last, last + 1];
    assert_eq!(
        [verdict(first), verdict(second), verdict(third)],
        ["held", "held", "forward"]
    );
    assert_eq!(
        explained.packet(third)["releases"],
        serde_json::json!([second, first])
    );
    assert!(explained.beneath(third).contains("PASV"));
    assert_eq!(explained.number("held"), 0);
}

#[test]
fn settings_and_flags_reach_the_engine() {
    let (scene, _) = session("192.0.2.1", "198.51.100.9", true);
    let off = strictly(&["--set", "ftp.active=no"], &scene.pcap());
    assert_eq!(off.counts(), [1, 0, 0, 1]);
    let refusal = &off.summary["sessions"][0]["refusals"][0];
    assert_eq!(refusal["why"], "active mode is switched off (ftp.active)");
    assert_eq!(refusal["overwritten"], true);

    // As `lotus run --ftp-server`: nobody else is open to the outside.
    let of = |server: &str| {
        let flags = ["--ftp-server", server, "--inside", "198.51.100.0/24"];
        json(&flags, &scene.pcap()).counts()
    };
    assert_eq!(of("198.51.100.9"), [1, 1, 1, 0]);
    assert_eq!(of("198.51.100.8"), [0, 0, 0, 0]);
}

/// The whole text of a short capture.
#[test]
fn the_text_of_a_short_capture() {
    let (scene, _) = session("192.0.2.1", "198.51.100.9", false);
    let mut rules = tempfile::NamedTempFile::new().unwrap();
    rules.write_all(STRICT.as_bytes()).unwrap();
    let path = rules.path().to_str().unwrap();
    let printed = text(&["-c", path], &scene.pcap()).replace(path, "strict.nft");
    let golden = include_str!("golden.txt");
    assert_eq!(printed, golden, "printed:\n{printed}");
}
