//! Dialogues as clients and servers have them, honest and not. They are drawn by proptest and
//! shrink to few, short, plain lines.
//!
//! In the texts here `{C}` is the client's address with commas, `{c}` as it is written, `{f}` its
//! family in EPRT, `{L}` the client's address in LPRT, `{S}` the server's address with commas.

use std::fmt::Write as _;
use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::reference::End;

/// Whether the helper reads LPRT, LPSV and 228 (RFC 1639). If not, LPRT is refused.
pub const READS_LONG: bool = true;

/// A turn must fit into a window.
const MOST_REPEATED_BYTES: usize = 100;

#[derive(Clone, Debug)]
pub struct Dialogue {
    pub seed: u64,
    pub is_v6: bool,
    pub client_is_inside: bool,
    /// Segments have one to this many bytes.
    pub longest_piece: usize,
    /// Segments come in another order, and again.
    pub shuffles: bool,
    /// Breaks the comparison, to see that it can fail.
    pub reference_hears_no_server: bool,
    greeting: String,
    login: Vec<(String, String)>,
    exchanges: Vec<Exchange>,
}

/// What the client says at once, and what the server says then.
#[derive(Clone, Debug)]
struct Exchange {
    commands: Vec<Said>,
    replies: Replies,
}

#[derive(Clone, Debug)]
enum Replies {
    /// What an honest server says to each of the commands, with these ports, in this form.
    Honest { port: u16, form: usize },
    /// Anything.
    These(Vec<String>),
}

/// A command line and how it is spoken.
#[derive(Clone, Debug)]
struct Said {
    text: String,
    /// Bit n: letter n in lower case.
    lower: u8,
    before: &'static str,
    /// TELNET bytes before the byte at this position, if there is one.
    telnet: Option<(usize, &'static [u8])>,
    end: &'static str,
}

impl Dialogue {
    /// Who says what, in turns.
    pub fn turns(&self, client: IpAddr, server: IpAddr) -> Vec<(End, Vec<u8>)> {
        let fill = |text: &str| fill(text, client, server).into_bytes();
        let mut turns = vec![(End::Server, fill(&self.greeting))];
        for (command, reply) in &self.login {
            turns.push((End::Client, fill(command)));
            turns.push((End::Server, fill(reply)));
        }
        for exchange in &self.exchanges {
            let commands = exchange.commands.iter().flat_map(|said| {
                let text = fill(&said.text);
                said.spoken(text)
            });
            turns.push((End::Client, commands.collect()));
            let replies = match &exchange.replies {
                Replies::These(replies) => replies.concat(),
                Replies::Honest { port, form } => exchange
                    .commands
                    .iter()
                    .map(|said| honest(&said.text, *port, *form))
                    .collect(),
            };
            turns.push((End::Server, fill(&replies)));
        }
        turns
    }

    /// For people.
    pub fn script(&self) -> String {
        let mut text = format!(
            "seed {} {} client {}, pieces up to {} bytes{}\n",
            self.seed,
            if self.is_v6 { "IPv6" } else { "IPv4" },
            if self.client_is_inside {
                "inside"
            } else {
                "outside"
            },
            self.longest_piece,
            if self.shuffles { ", shuffled" } else { "" },
        );
        let [client, server] = ["192.0.2.17", "198.51.100.20"].map(|ip| ip.parse().expect("IP"));
        for (end, bytes) in self.turns(client, server) {
            let _ = writeln!(text, "  {end:?}: {}", bytes.escape_ascii());
        }
        text
    }
}

impl Said {
    fn spoken(&self, mut text: Vec<u8>) -> Vec<u8> {
        for (at, byte) in text.iter_mut().enumerate().take(8) {
            if self.lower >> at & 1 == 1 {
                byte.make_ascii_lowercase();
            }
        }
        if let Some((at, telnet)) = self.telnet
            && at <= text.len()
        {
            text.splice(at..at, telnet.iter().copied());
        }
        let mut bytes = self.before.as_bytes().to_vec();
        bytes.extend(text);
        bytes.extend(self.end.as_bytes());
        bytes
    }
}

fn fill(text: &str, client: IpAddr, server: IpAddr) -> String {
    let commas = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string().replace('.', ","),
        // What a server on IPv6 says to PASV.
        IpAddr::V6(_) => "0,0,0,0".to_owned(),
    };
    let long = match client {
        IpAddr::V4(ip) => format!("4,4,{}", list(&ip.octets())),
        IpAddr::V6(ip) => format!("6,16,{}", list(&ip.octets())),
    };
    text.replace("{C}", &commas(client))
        .replace("{S}", &commas(server))
        .replace("{c}", &client.to_string())
        .replace("{f}", if client.is_ipv4() { "1" } else { "2" })
        .replace("{L}", &long)
}

fn list(octets: &[u8]) -> String {
    let texts: Vec<String> = octets.iter().map(u8::to_string).collect();
    texts.join(",")
}

/// What an honest server says; it does not look at addresses.
fn honest(command: &str, port: u16, form: usize) -> String {
    let (high, low) = (port >> 8, port & 255);
    let pasv = [
        format!("227 Entering Passive Mode ({{S}},{high},{low}).\r\n"),
        format!("227 {{S}},{high},{low}\r\n"),
        format!("227 ({{S}},{high},{low})\r\n"),
        format!("227 =  {{S}},{high},{low}\r\n"),
        format!("227 Data transfer will passively listen to {{S}},{high},{low}\r\n"),
        format!("227 Entering Passive Mode( 1, 2, 3, 4, {high},{low}).\r\n"),
        format!("227 Entering passive mode. 127.0.0.1.{high}.{low}\r\n"),
        format!("227-listen socket created\r\n227 ({{S}},{high},{low})\r\n"),
        format!("229 Entering Extended Passive Mode (|||{port}|)\r\n"),
    ];
    let epsv = [
        format!("229 Entering Extended Passive Mode (|||{port}|)\r\n"),
        format!("229 Extended Passive mode OK (|||{port}|).\r\n"),
        format!("229 entering extended passive mode (!!!{port}!)\r\n"),
        format!("229-Listening\r\n(|||1|)\r\n229 (|||{port}|)\r\n"),
        format!("227 Entering Passive Mode ({{S}},{high},{low}).\r\n"),
        "500 What?\r\n".to_owned(),
    ];
    let verb = command.split(' ').next().unwrap_or("");
    match verb {
        "USER" => "331 Password\r\n".into(),
        "PASS" => "230 Welcome\r\n".into(),
        "PASV" => pasv[form % pasv.len()].clone(),
        "EPSV" if command.ends_with("ALL") => "200 Only EPSV\r\n".into(),
        "EPSV" => epsv[form % epsv.len()].clone(),
        "LPSV" => format!("228 Entering Long Passive Mode (4,4,{{S}},2,{high},{low})\r\n"),
        "PORT" | "EPRT" | "LPRT" if form.is_multiple_of(5) => "500 Illegal PORT command\r\n".into(),
        "PORT" | "EPRT" | "LPRT" => "200 Will do\r\n".into(),
        "RETR" | "STOR" | "LIST" => "150 Here it comes\r\n226 Done\r\n".into(),
        "ABOR" if form.is_multiple_of(2) => "225 Nothing to abort\r\n".into(),
        "ABOR" => "226 Aborted\r\n".into(),
        "REIN" => "220 Begin anew\r\n".into(),
        "AUTH" if form.is_multiple_of(3) => "234 Go on\r\n".into(),
        "AUTH" => "502 No\r\n".into(),
        "FEAT" => "211-Features\r\n EPSV\r\n227 (1,2,3,4,200,1)\r\n211 End\r\n".into(),
        _ => "200 Fine\r\n".into(),
    }
}

/// A dialogue.
pub fn dialogue() -> impl Strategy<Value = Dialogue> {
    let shape = (
        any::<u64>(),
        any::<bool>(),
        any::<bool>(),
        longest_piece(),
        any::<bool>(),
    );
    (shape, greeting(), login(), vec(exchange(), 1..10)).prop_map(
        |((seed, is_v6, client_is_inside, longest_piece, shuffles), greeting, login, exchanges)| {
            Dialogue {
                seed,
                is_v6,
                client_is_inside,
                longest_piece,
                shuffles,
                reference_hears_no_server: false,
                greeting,
                login,
                exchanges,
            }
        },
    )
}

fn longest_piece() -> impl Strategy<Value = usize> {
    select(vec![1400, 1400, 30, 5, 1])
}

fn greeting() -> impl Strategy<Value = String> {
    prop_oneof![
        30 => Just("220 Ready\r\n"),
        3 => Just("220-Hello\r\n227 (1,2,3,4,200,1)\r\n 220 x\r\n220 Ready\r\n"),
        2 => Just("120 Soon\r\n220 Ready\r\n"),
        2 => Just("220 Ready\n"),
        1 => Just("220-Hello\n220 Ready\r\n"),
        1 => Just("421 Too many\r\n"),
        1 => Just("230 Come in\r\n"),
        1 => Just("SSH-2.0-x\r\n"),
        1 => Just(""),
    ]
    .prop_map(str::to_owned)
}

fn login() -> impl Strategy<Value = Vec<(String, String)>> {
    let pair = |command: &str, reply: &str| (command.to_owned(), reply.to_owned());
    let user = pair("USER joe\r\n", "331 Password\r\n");
    prop_oneof![
        30 => Just(vec![user.clone(), pair("PASS x\r\n", "230 Welcome\r\n")]),
        3 => Just(vec![pair("user joe\r\n", "230-Welcome\r\n230 No password\r\n")]),
        2 => Just(vec![user.clone(), pair("PASS x\r\n", "232 You are known\r\n")]),
        2 => Just(vec![pair("USER joe\n", "331 Password\n"), pair("PASS x\n", "230 Welcome\n")]),
        2 => Just(vec![user.clone(), pair("PASS x\r\n", "332 Account\r\n"), pair("ACCT y\r\n", "230 In\r\n")]),
        1 => Just(vec![user, pair("PASS x\r\n", "530 No\r\n")]),
        1 => Just(vec![pair("GET / HTTP/1.1\r\n", "500 What?\r\n"), pair("USER joe\r\n", "230 In\r\n")]),
        1 => Just(vec![pair("NOOP\r\nUSER joe\r\n", "200 Fine\r\n230 In\r\n")]),
        1 => Just(Vec::new()),
    ]
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let commands = prop_oneof![
        6 => vec(said(), 1..=1),
        2 => vec(said(), 2..=4),
        1 => Just(Vec::new()),
    ];
    // More than may wait for their answers, sometimes.
    let times = prop_oneof![60 => Just(1usize), 1 => 15..70usize];
    (commands, times, replies()).prop_map(|(commands, times, replies)| {
        let bytes: usize = commands.iter().map(|said| said.text.len()).sum();
        let times = if bytes < MOST_REPEATED_BYTES {
            times
        } else {
            1
        };
        let commands = std::iter::repeat_n(commands, times).flatten().collect();
        Exchange { commands, replies }
    })
}

fn said() -> impl Strategy<Value = Said> {
    let plain = command().prop_map(|text| Said {
        text,
        lower: 0,
        before: "",
        telnet: None,
        end: "\r\n",
    });
    prop_oneof![4 => plain, 1 => odd()]
}

/// A line that is not spoken as RFC 959 has it.
fn odd() -> impl Strategy<Value = Said> {
    let lower = prop_oneof![3 => Just(0u8), 1 => any::<u8>()];
    let before = prop_oneof![20 => Just(""), 1 => Just(" "), 1 => Just("\t"), 1 => Just("\0\x0b ")];
    let end = prop_oneof![
        20 => Just("\r\n"),
        1 => Just("\n"),
        1 => Just("\r\0\r\n"),
        1 => Just("\r\r\n"),
        1 => Just("\r\0\n"),
        1 => Just(" \r\n"),
        1 => Just("x\r\n"),
        1 => Just(""),
    ];
    let bytes: Vec<&'static [u8]> = vec![
        &[0xff, 0xf1],
        &[0xff, 0xf4, 0xff, 0xf2],
        &[0xff, 0xfb, 0x01],
        &[0xff, 0xff],
        &[0xff],
        &[0xff, 0xfd],
        b"\r",
        b"\0",
        b"\r\0",
        b"\t",
    ];
    let telnet = prop_oneof![
        12 => Just(None),
        1 => (0..12usize, select(bytes)).prop_map(Some),
    ];
    (command(), lower, before, telnet, end).prop_map(|(text, lower, before, telnet, end)| Said {
        text,
        lower,
        before,
        telnet,
        end,
    })
}

fn command() -> impl Strategy<Value = String> {
    let plain = select(vec![
        "NOOP",
        "PWD",
        "CWD /pub",
        "RETR file",
        "STOR file",
        "LIST",
        "TYPE I",
        "ABOR",
        "FEAT",
        "SITE 227 ({S},200,1)",
        "CWD PORT {C},200,1",
        "RETR a\rPORT {C},200,1",
        "STOR a\r\0\nPORT {C},200,2",
        "XFOO",
        "PORTS {C},200,1",
        "",
    ]);
    let session = select(vec![
        "USER joe",
        "PASS x",
        "ACCT y",
        "REIN",
        "CCC",
        "AUTH TLS",
        "EPSV ALL",
        "EPSV  ALL",
        "EPSV ALL ",
        "QUIT",
    ]);
    let passive = select(vec!["PASV", "EPSV", "EPSV 1", "EPSV 2", "LPSV"]);
    // About as long as what is kept of a line.
    let long = select(vec![200usize, 235, 236, 237, 238, 300]);
    prop_oneof![
        30 => passive.prop_map(str::to_owned),
        20 => plain.prop_map(str::to_owned),
        5 => session.prop_map(str::to_owned),
        10 => (4..256u16, 0..256u16).prop_map(|(p1, p2)| format!("PORT {{C}},{p1},{p2}")),
        10 => port_command(),
        10 => (1_024..=65_535u16).prop_map(|port| format!("EPRT |{{f}}|{{c}}|{port}|")),
        10 => eprt_command(),
        6 => lprt_command(),
        1 => long.prop_map(|bytes| format!("PORT {{C}},200,1{}", " ".repeat(bytes))),
    ]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        10 => (4..256u16).prop_map(|n| n.to_string()),
        1 => (0..4u16).prop_map(|n| n.to_string()),
        1 => (256..1_300u16).prop_map(|n| n.to_string()),
        1 => (0..256u16).prop_map(|n| format!("{n:03}")),
        1 => Just(String::new()),
        1 => Just("0004".to_owned()),
        1 => Just("4x".to_owned()),
        1 => Just("-4".to_owned()),
    ]
}

fn port_command() -> impl Strategy<Value = String> {
    let address = prop_oneof![
        12 => Just("{C}"),
        1 => Just("{S}"),
        1 => Just("10,0,0,1"),
        1 => Just("192,0,2,18"),
        1 => Just("192,0,2,1"),
        1 => Just("192,0,2,017"),
        1 => Just("192,00,2,17"),
        1 => Just("0,0,0,0"),
        1 => Just("192,0,2,17,4"),
        1 => Just("192.0.2.17"),
        1 => Just("192,0,2"),
        1 => Just(""),
    ];
    let gap = prop_oneof![12 => Just(" "), 1 => Just("  "), 1 => Just("\t"), 1 => Just("")];
    (gap, address, number(), number())
        .prop_map(|(gap, address, p1, p2)| format!("PORT{gap}{address},{p1},{p2}"))
}

fn port_number() -> impl Strategy<Value = String> {
    prop_oneof![
        10 => (1_024..=65_535u32).prop_map(|n| n.to_string()),
        1 => (0..1_024u32).prop_map(|n| n.to_string()),
        1 => (65_536..99_999u32).prop_map(|n| n.to_string()),
        1 => Just("1000000".to_owned()),
        1 => Just("05000".to_owned()),
        1 => Just("005000".to_owned()),
        1 => Just("50x0".to_owned()),
        1 => Just("+5000".to_owned()),
        1 => Just(String::new()),
    ]
}

fn eprt_command() -> impl Strategy<Value = String> {
    let family = prop_oneof![12 => Just("{f}"), 1 => Just("1"), 1 => Just("2"), 1 => Just("3"), 1 => Just("11"), 1 => Just("")];
    let address = prop_oneof![
        12 => Just("{c}"),
        1 => Just("198.51.100.20"),
        1 => Just("10.0.0.1"),
        1 => Just("::ffff:192.0.2.17"),
        1 => Just("2001:DB8:0::1F:7"),
        1 => Just("2001:db8::1f:7%eth0"),
        1 => Just("2001:db8::1f:70"),
        1 => Just("192.0.2.017"),
        1 => Just("2001:0db8:0000:0000:0000:0000:001f:0007"),
        1 => Just("192.0.2.17 "),
        1 => Just(""),
    ];
    let delimiter = prop_oneof![12 => Just('|'), 2 => Just('!'), 1 => Just('/'), 1 => Just('1'), 1 => Just('.'), 1 => Just(':'), 1 => Just('\t')];
    let tail = prop_oneof![12 => Just("|"), 1 => Just(""), 1 => Just("||"), 1 => Just("| "), 1 => Just("|x")];
    (family, address, port_number(), delimiter, tail).prop_map(
        |(family, address, port, delimiter, tail)| {
            let text = format!("EPRT |{family}|{address}|{port}{tail}");
            text.replace('|', &delimiter.to_string())
        },
    )
}

fn lprt_command() -> impl Strategy<Value = String> {
    let address = prop_oneof![8 => Just("{L}"), 1 => Just("4,4,10,0,0,1"), 1 => Just("6,4,{C}"), 1 => Just("4,4")];
    let length = prop_oneof![8 => Just("2"), 1 => Just("1"), 1 => Just("3")];
    (address, length, number(), number())
        .prop_map(|(address, length, p1, p2)| format!("LPRT {address},{length},{p1},{p2}"))
}

fn replies() -> impl Strategy<Value = Replies> {
    let port = prop_oneof![20 => 1_024..=65_535u16, 1 => 0..1_024u16];
    prop_oneof![
        12 => (port, 0..30usize).prop_map(|(port, form)| Replies::Honest { port, form }),
        1 => vec(reply(), 0..4).prop_map(Replies::These),
    ]
}

/// A reply that need not have to do with anything.
fn reply() -> impl Strategy<Value = String> {
    let code = select(vec![
        "150", "200", "225", "226", "227", "228", "229", "230", "232", "234", "235", "250", "331",
        "332", "350", "421", "426", "500", "501", "530", "120", "631", "633", "22", "2277", "227x",
    ]);
    let six = (number(), number()).prop_map(|(p1, p2)| format!("({{S}},{p1},{p2})"));
    let text = prop_oneof![
        2 => Just("Fine".to_owned()),
        2 => six,
        1 => (number(), number()).prop_map(|(p1, p2)| format!("mode 2 ({{S}},{p1},{p2})")),
        1 => (number(), number()).prop_map(|(p1, p2)| format!("({{S}},{p1},{p2},7)")),
        1 => (number(), number()).prop_map(|(p1, p2)| format!("(1,2,3,{p1},{p2})")),
        1 => (number(), number()).prop_map(|(p1, p2)| format!("(4,4,{{S}},2,{p1},{p2})")),
        1 => (number(), number()).prop_map(|(p1, p2)| {
            format!("1,2,3 (6,16,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,2,{p1} , {p2})")
        }),
        1 => (number(), number()).prop_map(|(p1, p2)| format!("300.1.2.3.{p1}.{p2} 1.2.3.4.5.6")),
        1 => (number(), 470..500usize).prop_map(|(p2, more)| {
            format!("({{S}},200,{p2}){}", "x".repeat(more))
        }),
        2 => port_number().prop_map(|port| format!("(|||{port}|)")),
        1 => port_number().prop_map(|port| format!("mode 2 (||{port}|)")),
        1 => port_number().prop_map(|port| format!("(|1|{{c}}|{port}|)")),
        1 => port_number().prop_map(|port| format!("|||{port}|")),
        1 => Just(String::new()),
        1 => Just("no such file: 227 ({S},200,1)".to_owned()),
    ];
    let shape = prop_oneof![
        10 => Just("@ #\r\n"),
        2 => Just("@-More\r\n@ #\r\n"),
        1 => Just("@-More\r\n227 ({S},200,9)\r\n229 (|||51209|)\r\n@ #\r\n"),
        1 => Just("@-#\r\n"),
        1 => Just("@-#\r\n  @ #\r\n@ Fine\r\n"),
        2 => Just("@ #\n"),
        1 => Just("@-More\n@ #\r\n"),
        1 => Just("@ #\0\r\n"),
        1 => Just("@ #\r\r\n"),
        1 => Just(" @ #\r\n"),
        1 => Just("@ #"),
        1 => Just("@\t#\r\n"),
    ];
    (code, text, shape).prop_map(|(code, text, shape)| shape.replace('@', code).replace('#', &text))
}
