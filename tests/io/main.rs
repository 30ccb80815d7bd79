//! Ports and workers on real interfaces. Needs root; each test makes its own network namespaces.

mod testbed;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lotus::conntrack::Time;
use lotus::engine::{Out, Verdict};
use lotus::io::afpacket::{self, Binding, Geometry};
use lotus::io::quiet::{Quiet, QuietMethod};
use lotus::observe::{Counters, DropReason, Snapshot};
use lotus::runtime::worker::{Exit, Judge, Passthrough, Polling, Worker};
use lotus::wire::{Meta, Side};
use pcap_file::pcap::PcapReader;
use pnet::datalink;

use testbed::{LEFT4, PATIENCE, PORTS, Place, RIGHT4, RIGHT6, Testbed, eventually, possible};

#[test]
fn hosts_ping_each_other_in_both_families_and_in_fragments() {
    if !possible("hosts_ping_each_other_in_both_families_and_in_fragments") {
        return;
    }
    for workers in [1, 2] {
        let bed = Testbed::new();
        let running = bed.pass(workers);
        for target in [RIGHT4, RIGHT6] {
            for bytes in [56, 4000] {
                let ping = format!("ping -c 3 -i 0.05 -W 10 -s {bytes} {target}");
                assert!(
                    bed.succeeds(Place::Left, &ping),
                    "{workers} workers: {ping}"
                );
            }
        }
        let counted = running.stop();
        assert_eq!(counted.dropped_total().frames, 0);
        // Nothing was lost but what the hosts' kernels said by themselves (neighbour and group
        // messages) while the rings were given up: a ping never is, each was answered.
        assert!(counted.ring_lost <= 2, "{counted:?}");
        // Each of the 4 runs: 3 requests, of which half of the runs send 3 fragments each.
        assert!(
            counted
                .forwarded
                .iter()
                .all(|to| to.frames >= 2 * 3 + 2 * 9),
            "{counted:?}"
        );
    }
}

#[test]
fn bulk_tcp_in_super_frames_arrives_unchanged_both_ways() {
    if !possible("bulk_tcp_in_super_frames_arrives_unchanged_both_ways") {
        return;
    }
    let bed = Testbed::new();
    let running = bed.pass(2);
    let right = bed.spawn(Place::Right, || {
        let listener = TcpListener::bind((RIGHT4, 7000)).unwrap();
        let (stream, _) = listener.accept().unwrap();
        both_ways(stream, 1, 2);
    });
    let left = bed.spawn(Place::Left, || both_ways(connect(RIGHT4, 7000), 2, 1));
    left.join().unwrap();
    right.join().unwrap();
    let counted = running.stop();
    for side in Side::BOTH {
        let to = counted.forwarded[side.index()];
        assert!(to.bytes > BULK_BYTES, "{side}: {to:?}");
        let mean = to.bytes / to.frames;
        assert!(mean > 1514, "{side}: no super-frames, {mean} bytes a frame");
    }
}

/// Sends one pattern while it checks that the other one comes.
fn both_ways(stream: TcpStream, sends: u64, expects: u64) {
    let mut reader = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        let (mut stream, mut pattern) = (stream, Pattern(sends));
        let mut left = BULK_BYTES;
        while left > 0 {
            let block = pattern.block();
            stream.write_all(&block).unwrap();
            left -= block.len() as u64;
        }
    });
    let mut pattern = Pattern(expects);
    let mut block = vec![0; BLOCK_BYTES];
    for number in 0..BULK_BYTES / BLOCK_BYTES as u64 {
        reader.read_exact(&mut block).unwrap();
        assert!(block == pattern.block(), "block {number} differs");
    }
    writer.join().unwrap();
}

const BULK_BYTES: u64 = 96 << 20;
const BLOCK_BYTES: usize = 1 << 16;

/// Bytes of which no two blocks are the same (xorshift64).
struct Pattern(u64);

impl Pattern {
    fn block(&mut self) -> Vec<u8> {
        let words = (0..BLOCK_BYTES / 8).flat_map(|_| {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_ne_bytes()
        });
        words.collect()
    }
}

fn connect(address: &str, port: u16) -> TcpStream {
    for _ in 0..100 {
        if let Ok(stream) = TcpStream::connect((address, port)) {
            return stream;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody listens at {address}:{port}");
}

#[test]
fn frames_longer_than_a_slot_come_whole_and_in_order() {
    const BURSTS: usize = 40;
    const BURST: usize = 12;
    if !possible("frames_longer_than_a_slot_come_whole_and_in_order") {
        return;
    }
    let bed = Testbed::new();
    // The rings are made for the MTU of now.
    let running = bed.pass(1);
    for (place, device) in [
        (Place::Left, "left0"),
        (Place::Middle, PORTS[0]),
        (Place::Middle, PORTS[1]),
        (Place::Right, "right0"),
    ] {
        bed.ip(place, &format!("link set {device} mtu 9000"));
    }
    let ping = format!("ping -c 1 -W 1 {RIGHT4}");
    eventually("ping works", || bed.succeeds(Place::Left, &ping));
    let server = bed.within(Place::Right, || UdpSocket::bind((RIGHT4, 7002)).unwrap());
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = bed.within(Place::Left, || UdpSocket::bind((LEFT4, 0)).unwrap());
    // Every other one fits in a slot.
    let datagram = |number: usize| {
        let bytes = if number.is_multiple_of(2) {
            100
        } else {
            2000 + number * 14
        };
        vec![(number * 7 % 251) as u8; bytes]
    };
    let mut buffer = [0; 9000];
    for burst in 0..BURSTS {
        // A worker that sleeps finds the whole burst as one batch.
        thread::sleep(Duration::from_millis(1));
        let numbers = burst * BURST..(burst + 1) * BURST;
        for number in numbers.clone() {
            client.send_to(&datagram(number), (RIGHT4, 7002)).unwrap();
        }
        for number in numbers {
            let bytes = server.recv(&mut buffer).unwrap();
            assert!(
                buffer[..bytes] == datagram(number),
                "datagram {number}: {bytes} bytes"
            );
        }
    }
    assert_eq!(running.stop().dropped_total().frames, 0);
}

#[test]
fn vlan_tags_pass_as_they_came() {
    if !possible("vlan_tags_pass_as_they_came") {
        return;
    }
    let bed = Testbed::new();
    let running = bed.pass(1);
    // It ends by itself after as many frames as are sent, or when the time is up.
    let words = "timeout 10 tcpdump -i right0 -n --immediate-mode -U -c 6 -w - \
                 ether src 02:00:00:00:00:08";
    let mut capture = bed
        .command(Place::Right, words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // tcpdump says when it listens.
    let said = BufReader::new(capture.stderr.take().unwrap()).lines();
    assert!(
        said.map_while(Result::ok)
            .any(|line| line.contains("listening on"))
    );
    let tags: [(&[u8], usize); 6] = [
        // priority 5, DEI, VLAN 2748
        (&[0x81, 0x00, 0xba, 0xbc], 90),
        (&[0x88, 0xa8, 0x00, 0x07], 90),
        // QinQ, and two tags of one kind
        (&[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x20, 0xc8], 90),
        (&[0x81, 0x00, 0x00, 0x01, 0x81, 0x00, 0x00, 0x02], 90),
        (&[], 90),
        // A tag on top of a full MTU.
        (&[0x81, 0x00, 0x00, 0x03], 1500),
    ];
    let frames: Vec<Vec<u8>> = tags
        .iter()
        .zip(1..)
        .map(|((tag, bytes), number)| {
            let addresses = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
            // An ethertype for experiments (IEEE 802, 88b5), which no host answers.
            [&addresses, *tag, &[0x88, 0xb5], &vec![number; *bytes]].concat()
        })
        .collect();
    let sent = frames.clone();
    bed.within(Place::Left, move || {
        let interfaces = datalink::interfaces();
        let left = interfaces
            .iter()
            .find(|interface| interface.name == "left0")
            .unwrap();
        let channel = datalink::channel(left, datalink::Config::default()).unwrap();
        let datalink::Channel::Ethernet(mut sender, _) = channel else {
            panic!("no Ethernet");
        };
        for frame in &sent {
            sender.send_to(frame, None).unwrap().unwrap();
        }
    });
    let captured = capture.wait_with_output().unwrap().stdout;
    let mut reader = PcapReader::new(&captured[..]).unwrap();
    let mut seen = Vec::new();
    while let Some(Ok(packet)) = reader.next_packet() {
        seen.push(packet.data.into_owned());
    }
    assert_eq!(seen, frames);
    running.stop();
}

#[test]
fn a_link_that_comes_back_is_used_again() {
    if !possible("a_link_that_comes_back_is_used_again") {
        return;
    }
    let bed = Testbed::new();
    let running = bed.pass(2);
    let ping = format!("ping -c 1 -W 1 {RIGHT4}");
    assert!(bed.succeeds(Place::Left, &ping));
    for port in PORTS {
        bed.ip(Place::Middle, &format!("link set {port} down"));
        assert!(!bed.succeeds(Place::Left, &ping));
        bed.ip(Place::Middle, &format!("link set {port} up"));
        eventually("ping works again", || bed.succeeds(Place::Left, &ping));
    }
    // The other end of the wire: no carrier, but the port itself stays up.
    bed.ip(Place::Right, "link set right0 down");
    let before = running.snapshot();
    assert!(!bed.succeeds(Place::Left, &ping));
    bed.ip(Place::Right, "link set right0 up");
    eventually("ping works again", || bed.succeeds(Place::Left, &ping));
    let counted = running.stop();
    let down = |snapshot: &lotus::observe::Snapshot| snapshot.dropped_for(DropReason::TxDown);
    assert!(down(&counted) > down(&before), "{counted:?}");
    assert_eq!(counted.dropped_for(DropReason::TxError), 0);
}

#[test]
fn an_interface_that_is_gone_ends_the_workers() {
    if !possible("an_interface_that_is_gone_ends_the_workers") {
        return;
    }
    for side in Side::BOTH {
        let bed = Testbed::new();
        let running = bed.pass(2);
        bed.ip(Place::Middle, &format!("link del {}", PORTS[side.index()]));
        for _ in 0..2 {
            match running.exit(PATIENCE) {
                Some(Exit::Port { side: gone, error }) => {
                    assert_eq!((gone, error.kind()), (side, ErrorKind::NotFound));
                    assert!(error.to_string().contains(PORTS[side.index()]), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn frames_longer_than_the_other_mtu_are_dropped_with_that_reason() {
    if !possible("frames_longer_than_the_other_mtu_are_dropped_with_that_reason") {
        return;
    }
    let bed = Testbed::new();
    bed.ip(Place::Middle, &format!("link set {} mtu 1400", PORTS[1]));
    let running = bed.pass(1);
    assert!(bed.succeeds(
        Place::Left,
        &format!("ping -c 1 -W 10 -M do -s 1372 {RIGHT4}")
    ));
    assert!(!bed.succeeds(
        Place::Left,
        &format!("ping -c 3 -i 0.05 -W 1 -M do -s 1373 {RIGHT4}")
    ));
    assert_eq!(running.stop().dropped_for(DropReason::TxTooLong), 3);
}

/// Forwards, and keeps which worker saw which flow and which fragments.
struct Recorder {
    worker: usize,
    counters: Arc<Counters>,
    seen: Arc<Mutex<HashMap<Vec<u8>, Vec<usize>>>>,
}

impl Judge for Recorder {
    type Parsed = ();

    fn parse(&self, _: &[u8], (): &mut ()) {}

    fn fetch(&self, (): &()) {}

    fn judge(
        &mut self,
        (): &(),
        side: Side,
        frame: &mut [u8],
        _: &Meta,
        _: Time,
        _: &mut Out,
    ) -> Verdict {
        self.counters.received(side.index(), frame.len());
        let udp = frame.len() > 42 && frame[12..15] == [8, 0, 0x45] && frame[23] == 17;
        if udp {
            let fragment = frame[20] & 0x3f != 0 || frame[21] != 0;
            let key = if fragment {
                // addresses and identification
                [&frame[26..34], &frame[18..20]].concat()
            } else {
                let mut ends = [
                    [&frame[26..30], &frame[34..36]].concat(),
                    [&frame[30..34], &frame[36..38]].concat(),
                ];
                ends.sort();
                ends.concat()
            };
            self.seen
                .lock()
                .unwrap()
                .entry(key)
                .or_default()
                .push(self.worker);
        }
        Verdict::Forward
    }
}

#[test]
fn both_directions_of_a_flow_and_all_fragments_meet_on_one_worker() {
    const SOURCES: u8 = 16;
    const FLOWS: usize = 8;
    if !possible("both_directions_of_a_flow_and_all_fragments_meet_on_one_worker") {
        return;
    }
    let bed = Testbed::new();
    for last in 1..=SOURCES {
        bed.ip(
            Place::Left,
            &format!("addr add 10.90.1.{last}/16 dev left0"),
        );
    }
    let seen = Arc::new(Mutex::new(HashMap::new()));
    let running = bed.start(2, |worker, counters| Recorder {
        worker,
        counters,
        seen: Arc::clone(&seen),
    });
    // The sockets of ports that go down and up again join in the same order.
    for port in PORTS {
        bed.ip(Place::Middle, &format!("link set {port} down"));
        bed.ip(Place::Middle, &format!("link set {port} up"));
    }
    let ping = format!("ping -c 1 -W 1 {RIGHT4}");
    eventually("ping works", || bed.succeeds(Place::Left, &ping));
    let server = bed.within(Place::Right, || UdpSocket::bind((RIGHT4, 7001)).unwrap());
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let echo = thread::spawn(move || {
        let mut buffer = [0; 5000];
        for _ in 0..usize::from(SOURCES) * FLOWS * 2 {
            let (bytes, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..bytes], from).unwrap();
        }
    });
    bed.within(Place::Left, || {
        for last in 1..=SOURCES {
            for _ in 0..FLOWS {
                let socket = UdpSocket::bind((format!("10.90.1.{last}"), 0)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                for bytes in [100, 4000] {
                    socket.send_to(&vec![1; bytes], (RIGHT4, 7001)).unwrap();
                    assert_eq!(socket.recv(&mut [0; 5000]).unwrap(), bytes);
                }
            }
        }
    });
    echo.join().unwrap();
    running.stop();
    let seen = seen.lock().unwrap();
    let mut flows = [0; 2];
    for (key, workers) in seen.iter() {
        let fragments = key.len() == 10;
        assert_eq!(
            workers.len(),
            if fragments { 3 } else { 2 },
            "{key:?}: {workers:?}"
        );
        assert!(
            workers.iter().all(|worker| *worker == workers[0]),
            "{key:?}: {workers:?}"
        );
        flows[workers[0]] += 1;
    }
    // 128 flows, and 128 datagrams in fragments each way.
    assert_eq!(flows[0] + flows[1], usize::from(SOURCES) * FLOWS * 3);
    assert!(
        flows.iter().all(|&flows| flows > 0),
        "one worker has everything: {flows:?}"
    );
}

#[test]
fn the_hosts_own_stack_is_silent_and_speaks_again_afterwards() {
    const ADDRESS: &str = "10.90.0.9";
    if !possible("the_hosts_own_stack_is_silent_and_speaks_again_afterwards") {
        return;
    }
    let ipv6 = format!("cat /proc/sys/net/ipv6/conf/{}/disable_ipv6", PORTS[0]);
    for method in [QuietMethod::Tcx, QuietMethod::Nft, QuietMethod::Auto] {
        let bed = Testbed::new();
        bed.ip(
            Place::Middle,
            &format!("addr add {ADDRESS}/16 dev {}", PORTS[0]),
        );
        let answers = || bed.succeeds(Place::Left, &format!("ping -c 1 -W 1 {ADDRESS}"));
        let ipv6_off = || bed.command(Place::Middle, &ipv6).output().unwrap().stdout == b"1\n";
        let tables = || {
            let listed = bed
                .command(Place::Middle, "nft list tables netdev")
                .output()
                .unwrap();
            String::from_utf8(listed.stdout).unwrap()
        };
        eventually("it answers", answers);
        // What a lotus that was killed has left.
        let pids = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
        for pids in [pids, 1] {
            let left = format!("nft add table netdev lotus_quiet_{pids}_4194304_1_2");
            assert!(bed.succeeds(Place::Middle, &left));
        }
        let quiet = bed.within(Place::Middle, move || Quiet::on(PORTS[0], method).unwrap());
        if method != QuietMethod::Auto {
            assert_eq!(quiet.method(), method);
        }
        assert!(!answers() && ipv6_off(), "{method:?}");
        let stale = format!("lotus_quiet_{pids}_4194304");
        assert!(!tables().contains(&stale), "{method:?}: {}", tables());
        // Its process may live, in another namespace.
        let foreign = "lotus_quiet_1_4194304_1_2";
        assert!(tables().contains(foreign), "{method:?}: {}", tables());
        assert!(bed.succeeds(Place::Middle, &format!("nft delete table netdev {foreign}")));
        // lotus itself still sees and passes everything.
        let running = bed.pass(1);
        assert!(bed.succeeds(Place::Left, &format!("ping -c 1 -W 10 -I {LEFT4} {RIGHT4}")));
        assert_eq!(running.stop().dropped_total().frames, 0);
        bed.within(Place::Middle, move || drop(quiet));
        eventually("it answers again", answers);
        assert!(!ipv6_off(), "{method:?}");
        assert!(
            !tables().contains("lotus_quiet"),
            "{method:?}: {}",
            tables()
        );
    }
}

/// A judge that stops its worker at the first frame, which therefore leaves the rest in the ring.
struct StopAtOnce(Passthrough, Arc<AtomicBool>);

impl Judge for StopAtOnce {
    type Parsed = ();

    fn parse(&self, _: &[u8], (): &mut ()) {}

    fn fetch(&self, (): &()) {}

    fn judge(
        &mut self,
        parsed: &(),
        side: Side,
        frame: &mut [u8],
        meta: &Meta,
        now: Time,
        out: &mut Out,
    ) -> Verdict {
        self.1.store(true, Ordering::Relaxed);
        self.0.judge(parsed, side, frame, meta, now, out)
    }
}

#[test]
fn frames_in_the_ring_at_the_stop_are_counted_as_lost() {
    if !possible("frames_in_the_ring_at_the_stop_are_counted_as_lost") {
        return;
    }
    const FRAMES: u64 = 1000;
    let bed = Testbed::new();
    for device in PORTS {
        // Nobody else is to speak here.
        let quiet = format!("sysctl -qw net.ipv6.conf.{device}.disable_ipv6=1");
        assert!(bed.succeeds(Place::Middle, &quiet));
    }
    let mut ports = bed.within(Place::Middle, || {
        afpacket::open(&PORTS.map(Binding::to), 1, Geometry::default()).unwrap()
    });
    bed.within(Place::Left, || {
        let address = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5];
        let frame = [&address[..], &[0; 46]].concat();
        let left = datalink::interfaces()
            .into_iter()
            .find(|interface| interface.name == "left0")
            .unwrap();
        let Ok(datalink::Channel::Ethernet(mut sender, _)) =
            datalink::channel(&left, datalink::Config::default())
        else {
            panic!("no channel");
        };
        for _ in 0..FRAMES {
            sender.send_to(&frame, None).unwrap().unwrap();
        }
    });
    let (counters, stop) = (
        Arc::new(Counters::default()),
        Arc::new(AtomicBool::new(false)),
    );
    let judge = StopAtOnce(Passthrough::new(Arc::clone(&counters)), Arc::clone(&stop));
    let ports = ports.remove(0);
    Worker::new(ports, judge, Arc::clone(&counters), Polling::Spin).run(&stop);
    let counted = Snapshot::of([&*counters]);
    let received = counted.received_total().frames;
    assert!(received < FRAMES, "it did not stop: {counted:?}");
    // The neighbours may have said something of their own.
    let all = received + counted.ring_lost;
    assert!((FRAMES..FRAMES + 50).contains(&all), "{counted:?}");
}
