//! Writes the committed seeds: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.
//!
//! The same every time. A change of a target's input format is followed here.

use std::fs;
use std::path::Path;

use lotus::wire::{Side, TcpFlags};

#[path = "../targets/mod.rs"]
#[allow(dead_code)]
mod targets;

use targets::ftp::{
    CLIENT_OUTSIDE, IGNORE, NO_LOGIN_NEEDED, PASSIVE_ONLY, TLS_RANGE, TURN, V6, WRAP,
};
use targets::lab::{self, Ends, Tcp};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN | ACK;
const PSH: u8 = TcpFlags::PSH | ACK;

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn main() -> std::io::Result<()> {
    for (target, seeds) in [
        ("frame", frames()),
        ("engine", engine()),
        ("ftp", ftp()),
        ("rules", rules()),
        ("evaluate", evaluate()),
    ] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        fs::create_dir_all(&dir)?;
        for (name, bytes) in seeds {
            fs::write(dir.join(name), bytes)?;
        }
    }
    Ok(())
}

// --- evaluate: how the packet stands; the frame ----------------------------------------------------

fn evaluate() -> Seeds {
    const STANDINGS: [u8; 4] = [0, 1, 0b1010, 0b1_0111];
    let standings = STANDINGS.into_iter().cycle();
    let of_frame = |((name, seed), standing): ((&'static str, Vec<u8>), u8)| {
        // Those of the parser, without what it overwrites.
        (name, [&[standing], &seed[4..]].concat())
    };
    frames().into_iter().zip(standings).map(of_frame).collect()
}

// --- frame: where to overwrite (2), how much, with what; the frame ---------------------------------

fn frames() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |name, frame: Vec<u8>| {
        seeds.push((name, [vec![0, 3, 7, b'X'], frame].concat()));
    };
    let [four, six] = [false, true].map(|v6| Ends::new(v6, 40_000, 21));
    let port = |ends| Tcp {
        payload: b"PORT 192,0,2,10,19,136\r\n".to_vec(),
        flags: PSH,
        ..Tcp::new(ends, Side::Inside)
    };
    let syn = |ends| Tcp {
        options: vec![
            2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
        ],
        ..Tcp::new(ends, Side::Inside).syn()
    };
    let way = four.from(Side::Inside);
    add("tcp4", port(four).frame());
    add("tcp6", port(six).frame());
    add("syn4", syn(four).frame());
    add("syn6", syn(six).frame());
    let sack = vec![1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 99];
    add(
        "sack",
        Tcp {
            options: sack,
            ..Tcp::new(four, Side::Outside)
        }
        .frame(),
    );
    add("tagged", tagged(&port(four).frame(), &[[0x81, 0, 0, 7]]));
    add(
        "qinq6",
        tagged(&port(six).frame(), &[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 42]]),
    );
    add("udp4", lab::udp(way, b"a question"));
    add("udp6", lab::udp(six.from(Side::Outside), b"an answer"));
    add("ping4", lab::echo_request(way, 1));
    add("ping6", lab::echo_request(six.from(Side::Inside), 1));
    add("unreachable4", lab::unreachable(way, &port(four).frame()));
    let back = six.from(Side::Outside);
    add("unreachable6", lab::unreachable(back, &port(six).frame()));
    add("fragment4", lab::fragment(&port(four).frame(), 1, 1, 2));
    add("fragment6", lab::fragment(&port(six).frame(), 1, 0, 3));
    let mut padded = Tcp::new(four, Side::Inside).frame();
    padded.resize(60, 0);
    add("padded", padded);
    // Fragments too: their transport header is not read, so nothing else would notice.
    for (name, whole) in [
        ("truncated4", port(four).frame()),
        ("truncated6", port(six).frame()),
        (
            "truncated-fragment4",
            lab::fragment(&port(four).frame(), 1, 1, 2),
        ),
        (
            "truncated-fragment6",
            lab::fragment(&port(six).frame(), 1, 1, 2),
        ),
    ] {
        add(name, whole[..whole.len() - 3].to_vec());
    }
    let mut arp = lab::ethernet(Side::Inside, 0x0806);
    arp.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(42, 0);
    add("arp", arp);
    add("hop-by-hop", with_hop_by_hop(&port(six).frame()));
    seeds
}

fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

fn with_hop_by_hop(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let next = std::mem::replace(&mut frame[20], 0);
    frame[19] += 8;
    frame.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
    frame
}

// --- engine: steps --------------------------------------------------------------------------------

const OUT: u8 = 0x80;
const ACTIVE_DATA: u8 = 2 << 1 | 1 << 3;
const PASSIVE_DATA: u8 = 2 << 3;

/// A segment that is just what its sender's TCP would send next.
fn segment(place: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    shifted(place, flags, 0, payload)
}

fn shifted(place: u8, flags: u8, seq: i8, payload: &[u8]) -> Vec<u8> {
    let mut step = vec![b's', place, flags, seq as u8, 0, payload.len() as u8];
    step.extend(payload);
    step
}

fn handshake(place: u8) -> Vec<u8> {
    let peer = place ^ OUT;
    [
        segment(place, SYN | 0x80, b""),
        segment(peer, SYN | ACK | 0x80, b""),
        segment(place, ACK, b""),
    ]
    .concat()
}

fn goodbye(place: u8) -> Vec<u8> {
    let peer = place ^ OUT;
    [
        segment(place, FIN, b""),
        segment(peer, FIN, b""),
        segment(place, ACK, b""),
    ]
    .concat()
}

fn client(text: &[u8]) -> Vec<u8> {
    segment(0, PSH, text)
}

fn server(text: &[u8]) -> Vec<u8> {
    segment(OUT, PSH, text)
}

fn login() -> Vec<u8> {
    [
        handshake(0),
        server(b"220 ready\r\n"),
        client(b"USER anonymous\r\n"),
        server(b"331 password?\r\n"),
        client(b"PASS a@b\r\n"),
        server(b"230 in\r\n"),
    ]
    .concat()
}

fn engine() -> Seeds {
    let active = [
        login(),
        client(b"PORT 192,0,2,10,19,136\r\n"),
        server(b"200 ok\r\n"),
        client(b"RETR a\r\n"),
    ]
    .concat();
    let passive = [
        login(),
        client(b"PASV\r\n"),
        server(b"227 Entering Passive Mode (198,51,100,20,19,136).\r\n"),
        client(b"LIST\r\n"),
    ]
    .concat();
    let tick = |ticks| vec![b't', ticks];
    let frag = |place, start, len| vec![b'f', place, 9, start, len];
    let udp = |place: u8| [vec![b'u', place, 64], vec![b'q'; 64]].concat();
    vec![
        ("login", login()),
        (
            "active",
            [
                active.clone(),
                handshake(OUT | ACTIVE_DATA),
                segment(OUT | ACTIVE_DATA, PSH, &[b'd'; 100]),
                goodbye(OUT | ACTIVE_DATA),
                server(b"226 done\r\n"),
                goodbye(0),
            ]
            .concat(),
        ),
        (
            "passive",
            [
                passive.clone(),
                handshake(PASSIVE_DATA),
                segment(OUT | PASSIVE_DATA, PSH, &[b'd'; 100]),
                goodbye(PASSIVE_DATA),
                goodbye(0),
            ]
            .concat(),
        ),
        (
            "refused-by-rst",
            [
                passive.clone(),
                segment(PASSIVE_DATA, SYN, b""),
                segment(OUT | PASSIVE_DATA, TcpFlags::RST | ACK, b""),
                handshake(PASSIVE_DATA),
            ]
            .concat(),
        ),
        ("expired", [passive.clone(), tick(250), tick(250)].concat()),
        (
            "gap",
            [
                login(),
                shifted(0, PSH, 6, b"LIST\r\n"),
                shifted(0, PSH, 6, b"LIST\r\n"),
                client(b"PASV\r\n"),
            ]
            .concat(),
        ),
        (
            "held-for-ever",
            [login(), shifted(0, PSH, 6, b"LIST\r\n"), goodbye(OUT)].concat(),
        ),
        (
            "bounce",
            [
                login(),
                client(b"PORT 192,0,"),
                client(b"2,99,0,22\r\n"),
                server(b"500 what?\r\n"),
            ]
            .concat(),
        ),
        (
            "tls",
            [
                login(),
                client(b"AUTH TLS\r\n"),
                server(b"234 go\r\n"),
                client(&[22, 3, 1, 0, 2, 1, 0]),
            ]
            .concat(),
        ),
        (
            "not-ftp",
            [handshake(0), client(b"GET / HTTP/1.0\r\n")].concat(),
        ),
        (
            "restart",
            [login(), segment(0, SYN, b""), segment(OUT, SYN | ACK, b"")].concat(),
        ),
        (
            "fragments",
            [
                udp(3 << 3),
                frag(3 << 3, 5, 9),
                frag(3 << 3, 0, 5),
                frag(3 << 3 | 1, 0, 3),
                tick(200),
            ]
            .concat(),
        ),
        (
            "fragmented-command",
            [login(), client(b"PASV\r\n"), frag(0, 0, 3), frag(0, 3, 9)].concat(),
        ),
        (
            "icmp",
            [
                vec![b'p', 0, 7],
                vec![b'e', OUT],
                udp(3 << 3),
                vec![b'e', OUT | 3 << 3],
            ]
            .concat(),
        ),
        (
            "damaged",
            [login(), vec![b'm', 0, 0, 40, 1], vec![b'm', 0, 0, 50, 8]].concat(),
        ),
        (
            "many-flows",
            (0..40u8)
                .flat_map(|i| vec![b'u', 3 << 3 | i & 7 | i << 7, 1, i])
                .collect(),
        ),
        ("raw", {
            let frame = Tcp::new(Ends::new(true, 40_000, 21), Side::Inside)
                .syn()
                .frame();
            [vec![b'r', 0, frame.len() as u8], frame].concat()
        }),
    ]
}

// --- ftp: switches, the schedule, the dialogue ----------------------------------------------------

/// For each turn: how to cut what is left, how many pieces, then their starts and lengths.
const IN_ORDER: &[u8] = &[];
const SHUFFLED: &[u8] = &[
    0, 2, 20, 5, 12, 30, 3, 3, 14, 3, 8, 63, 30, 9, 1, 0, 7, 4, 9, 20, 255, 0, 10, 1, 17, 40, 0, 3,
    22, 7, 15, 4, 8, 10, 2, 4, 30, 60, 20, 10, 12, 12, 8, 9, 5, 2, 9, 1, 11, 1, 0, 3, 25, 30, 8, 8,
    14, 20, 3, 3, 16, 5, 9, 9, 12, 40,
];
const BYTES: &[u8] = &[
    1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0,
];

fn dialogue(switches: u8, schedule: &[u8], turns: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![switches, schedule.len() as u8];
    bytes.extend(schedule);
    bytes.extend(turns.join(&TURN));
    bytes
}

const GREETING: [&[u8]; 5] = [
    b"220 (vsFTPd 3.0.5)\r\n",
    b"USER anonymous\r\n",
    b"331 Please specify the password.\r\n",
    b"PASS lftp@\r\n",
    b"230 Login successful.\r\n",
];

fn after_login(switches: u8, schedule: &[u8], turns: &[&[u8]]) -> Vec<u8> {
    dialogue(switches, schedule, &[&GREETING, turns].concat())
}

/// A TLS record. No byte of it may be `TURN`.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3, 0, body.len() as u8], body].concat()
}

/// A handshake message in a record of its own.
fn hello(kind: u8) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 38, 3, 3];
    body.extend([7; 32]);
    // No session, a cipher suite, no compression.
    body.extend([0, 0xc0, 0x2f, 0]);
    record(22, &body)
}

/// A session that goes TLS 1.2, and what is said inside.
fn tls(switches: u8, schedule: &[u8], after: &[&[u8]]) -> Vec<u8> {
    let (client, server) = (hello(1), hello(2));
    let inside = record(23, b"227 (198,51,100,20,117,49)\r\n");
    let begin: [&[u8]; 6] = [
        b"220 hi\r\n",
        b"AUTH TLS\r\n",
        b"234 Proceed with negotiation.\r\n",
        &client,
        &server,
        &inside,
    ];
    dialogue(switches, schedule, &[&begin, after].concat())
}

fn ftp() -> Seeds {
    let alert = record(21, &[1, 0]);
    let accepted = [record(23, b"200 fine"), alert.clone()].concat();
    let in_clear = [alert.as_slice(), b"PASV\r\n"].concat();
    vec![
        ("tls-range", tls(TLS_RANGE, SHUFFLED, &[&record(23, b"227 ok")])),
        (
            "tls-ccc",
            tls(
                TLS_RANGE,
                SHUFFLED,
                &[
                    &accepted,
                    &in_clear,
                    b"227 (198,51,100,20,117,49)\r\n",
                ],
            ),
        ),
        (
            "lprt6-bytes",
            after_login(
                V6,
                BYTES,
                &[
                    b"LPRT 6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,16,2,175,201\r\n",
                    b"200 ok\r\n",
                    b"LPRT 6,16,32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,17,2,175,201\r\n",
                    b"500 no\r\n",
                ],
            ),
        ),
        (
            "lpsv-shuffled",
            after_login(
                0,
                SHUFFLED,
                &[
                    b"LPSV\r\n",
                    b"228 Entering Long Passive Mode (4,4,198,51,100,20,2,117,49)\r\n",
                    b"LIST\r\n",
                ],
            ),
        ),
        (
            "many-lines",
            after_login(
                WRAP,
                SHUFFLED,
                &[
                    b"FEAT\r\nPASV\r\n",
                    b"211-Features:\r\n227 (198,51,100,20,117,50)\r\n PASV\r\n211 End\r\n\
                      227-listen socket created\r\n227 (198,51,100,20,117,49)\r\n",
                ],
            ),
        ),
        (
            "refused-by-nobody",
            after_login(
                IGNORE,
                SHUFFLED,
                &[b"PORT 203,0,113,5,0,25\r\nPASV\r\n", b"200 ok\r\n227 (198,51,100,20,117,49)\r\n"],
            ),
        ),
        (
            "vsftpd-passive",
            after_login(
                0,
                IN_ORDER,
                &[
                    b"PASV\r\n",
                    b"227 Entering Passive Mode (198,51,100,20,117,49).\r\n",
                    b"RETR a\r\n",
                    b"150 Opening BINARY mode data connection for a (1 bytes).\r\n226 Transfer complete.\r\n",
                    b"QUIT\r\n",
                    b"221 Goodbye.\r\n",
                ],
            ),
        ),
        (
            "pyftpdlib-epsv6-shuffled",
            dialogue(
                V6,
                SHUFFLED,
                &[
                    b"220 pyftpdlib 1.5.9 ready.\r\n",
                    b"USER a\r\n",
                    b"331 Username ok, send password.\r\n",
                    b"PASS b\r\n",
                    b"230 Login successful.\r\n",
                    b"EPSV\r\n",
                    b"229 Entering extended passive mode (|||40001|).\r\n",
                    b"MLSD\r\n",
                ],
            ),
        ),
        (
            "curl-active-shuffled",
            after_login(
                WRAP,
                SHUFFLED,
                &[
                    b"EPRT |1|192.0.2.10|45001|\r\n",
                    b"500 Illegal EPRT command.\r\n",
                    b"PORT 192,0,2,10,175,201\r\n",
                    b"200 PORT command successful.\r\n",
                    b"LIST\r\n",
                ],
            ),
        ),
        (
            "eprt6-server-inside",
            after_login(
                V6 | CLIENT_OUTSIDE,
                BYTES,
                &[
                    b"EPRT |2|2001:db8::20|45001|\r\n",
                    b"200 EPRT command successful.\r\n",
                    b"STOR a\r\n",
                ],
            ),
        ),
        (
            "pure-ftpd-banner",
            dialogue(
                CLIENT_OUTSIDE,
                SHUFFLED,
                &[
                    b"220---------- Welcome to Pure-FTPd [privsep] [TLS] ----------\r\n220-Local time is now 12:00.\r\n220 You will be disconnected after 15 minutes.\r\n",
                    b"USER a\r\n",
                    b"230 Anonymous user logged in\r\n",
                    b"EPSV\r\n",
                    b"229 Extended Passive mode OK (|||29999|)\r\n",
                ],
            ),
        ),
        (
            "bounce-shuffled",
            after_login(
                0,
                SHUFFLED,
                &[
                    b"PORT 203,0,113,5,0,25\r\nLIST\r\n",
                    b"500 Illegal PORT command.\r\n425 Use PORT or PASV first.\r\n",
                    b"EPRT |1|192.0.2.10|22|\r\n",
                    b"500 Illegal EPRT command.\r\n",
                ],
            ),
        ),
        (
            "bounce-bytes",
            after_login(WRAP, BYTES, &[b"PORT 192,0,2,10,3,255\r\n", b"500 No.\r\n"]),
        ),
        (
            "low-passive-port",
            after_login(
                0,
                IN_ORDER,
                &[b"PASV\r\n", b"227 ok (198,51,100,20,0,22)\r\n"],
            ),
        ),
        (
            "echoed-227",
            after_login(
                0,
                SHUFFLED,
                &[
                    b"NLST 227 (198,51,100,20,117,49)\r\n",
                    b"550 \r\n227 (198,51,100,20,117,49): no such file\r\n",
                ],
            ),
        ),
        (
            "pipelined",
            after_login(
                0,
                SHUFFLED,
                &[
                    b"TYPE I\r\nPASV\r\nPORT 192,0,2,10,175,201\r\n",
                    b"200 ok\r\n227 (198,51,100,20,117,49)\r\n200 ok\r\n",
                ],
            ),
        ),
        (
            "auth-tls",
            after_login(
                0,
                SHUFFLED,
                &[
                    b"AUTH TLS\r\n",
                    b"234 Proceed with negotiation.\r\n",
                    b"\x16\x03\x01\x00\x05hello",
                    b"227 (198,51,100,20,117,49)\r\n",
                ],
            ),
        ),
        (
            "http",
            dialogue(0, SHUFFLED, &[b"220 hi\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n\r\nPORT 192,0,2,10,175,201\r\n"]),
        ),
        (
            "client-first",
            dialogue(0, IN_ORDER, &[b"", b"USER a\r\n", b"220 hi\r\n"]),
        ),
        (
            "telnet-abort",
            after_login(
                0,
                SHUFFLED,
                &[
                    b"\xff\xf4\xff\xf2ABOR\r\n",
                    b"226 Abort successful.\r\n",
                    b"PO\xff\xf1RT 192,0,2,10,175,201\r\n",
                    b"500 what?\r\n",
                ],
            ),
        ),
        (
            "bare-lf-and-cr-nul",
            after_login(
                0,
                SHUFFLED,
                &[
                    b"STOR a\r\0\nPORT 192,0,2,10,175,201\n",
                    b"200 ok\r\n200 ok\r\n",
                ],
            ),
        ),
        (
            "epsv-all",
            after_login(
                0,
                IN_ORDER,
                &[
                    b"EPSV ALL\r\n",
                    b"200 ok\r\n",
                    b"PASV\r\n",
                    b"227 (198,51,100,20,117,49)\r\n",
                    b"EPSV 1\r\n",
                    b"229 (|||30001|)\r\n",
                ],
            ),
        ),
        (
            "no-login-needed",
            dialogue(
                NO_LOGIN_NEEDED | PASSIVE_ONLY,
                SHUFFLED,
                &[
                    b"220 hi\r\n",
                    b"PORT 192,0,2,10,175,201\r\nPASV\r\n",
                    b"200 ok\r\n227 (198,51,100,20,117,49)\r\n",
                ],
            ),
        ),
    ]
}

// --- rules: text ----------------------------------------------------------------------------------

fn rules() -> Seeds {
    let chain = |rules: &str| {
        format!(
            "table inet t {{\n  chain forward {{\n    type filter hook forward priority filter; policy drop;\n    {rules}\n  }}\n}}\n"
        )
        .into_bytes()
    };
    vec![
        ("empty", Vec::new()),
        ("sets", b"flush ruleset\ntable inet t {\n set s { type ipv4_addr . inet_service; flags interval; auto-merge; elements = { 10.0.0.0/8 . 80-90, 1.2.3.4 . 22 } }\n map m { typeof tcp dport : verdict; elements = { 22 : accept, 23 : jump o } }\n counter n { packets 1 bytes 2 }\n chain o { return; }\n chain c {\n type filter hook forward priority 0;\n ip saddr . tcp dport @s counter name n accept\n tcp dport vmap @m\n goto o\n }\n}\n".to_vec()),
        ("statements", chain("tcp flags & (syn | ack) == syn limit rate over 10/second burst 5 packets log prefix \"x\" level info reject with tcp reset\nip dscp ef vlan id 5 vlan pcp > 3 sctp dport 5 continue\nct direction reply ct helper \"ftp\" icmp code 3 reject with icmpx type admin-prohibited")),
        ("comment", b"# nothing\n\n".to_vec()),
        ("accept", chain("accept")),
        ("state", chain("ct state vmap { new : accept }\nct state established,related counter accept")),
        ("addresses", chain("ip saddr 192.0.2.0/24 ip daddr != { 198.51.100.1-198.51.100.9, 203.0.113.7 } drop")),
        ("addresses6", chain("ip6 saddr 2001:db8::/32 ip6 daddr { ::1, fe80::/10 } ip6 hoplimit 255 accept")),
        ("ports", chain("tcp dport { 21, 990, 1024-65535 } tcp sport != 20 accept; udp sport 53 drop")),
        ("defines", [b"define A = 192.0.2.10\ndefine S = { $A, 192.0.2.11 }\ndefine P = 21-22\n".to_vec(), chain("ip saddr $S tcp dport $P iifname $inside accept")].concat()),
        ("helper", b"table inet t {\n ct helper f { type \"ftp\" protocol tcp; l3proto inet; comment \"lotus:strict\"; }\n chain c {\n type filter hook forward priority 0;\n tcp dport 21 ct state new ct helper set \"f\" counter accept comment \"ftp\"\n }\n}\n".to_vec()),
        ("bridge", b"table bridge b {\n chain c {\n type filter hook forward priority filter - 1; policy accept;\n ether type { arp, ip, ip6, vlan } ether saddr 02:00:00:00:00:01 accept\n ether daddr != ff:ff:ff:ff:ff:ff drop\n }\n}\n".to_vec()),
        ("icmp", chain("icmp type { echo-request, 3 } accept\nicmpv6 type nd-neighbor-solicit accept\nmeta l4proto { icmp, 58 } drop")),
        ("continued", chain("tcp \\\n dport 21 \\\n accept # why")),
        ("overflow", chain("tcp dport 65536 accept\nip saddr 1.2.3.4/33 drop\nip saddr 1.2.3.999 drop\nip6 saddr ::/129 drop")),
        ("unclosed", b"table inet t { chain c { type filter hook forward priority 0; tcp dport { 1, 2".to_vec()),
        ("unsupported", chain("jump other\nnat\nmeta mark set 1\nlimit rate 10/second accept\ntcp flags syn drop")),
        ("unicode", "table inet tä {\n\tchain ☃ { comment \"…\u{202e}\" }\n}\r\n".into()),
        ("reversed", chain("tcp dport 9-1 accept\nip saddr 192.0.2.9-192.0.2.1 drop\ntcp dport { } accept")),
        ("self-reference", b"define A = $A\ndefine B = { $B, 1 }\n".to_vec()),
    ]
}
