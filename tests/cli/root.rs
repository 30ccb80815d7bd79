//! What needs root: each test in namespaces of its own.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lab::{LOTUS, Lab, RUN, Running, ip, is_root, judge};

#[test]
fn it_starts_forwards_tells_and_stops_cleanly() {
    if !is_root("it_starts_forwards_tells_and_stops_cleanly") {
        return;
    }
    let lab = Lab::new();
    let ipv6_before = lab.sysctl("ipv6/conf/fw-in/disable_ipv6");
    judge(
        "status before",
        &lab.lotus(&["status"]),
        1,
        &["no lotus runs in this network namespace"],
    );
    let running = lab.start(&[]);
    assert!(lab.ping());

    let status = lab.status();
    assert_eq!(status["inside"], "fw-in");
    assert_eq!(status["outside"], "fw-out");
    let number = |key: &str| {
        status[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key}: {status}"))
    };
    assert!(
        number("received") >= 2 && number("forwarded") >= 2,
        "{status}"
    );
    assert_eq!(
        number("received"),
        number("forwarded") + number("dropped") + number("held")
    );
    assert!(status["flows"].is_u64() && status["per_port"]["fw-in"]["received"].is_u64());
    judge(
        "status",
        &lab.lotus(&["status"]),
        0,
        &["fw-in (inside)", "received", "dropped"],
    );
    let other_port = lab.lotus(&["status", "--port", "eth9"]);
    judge(
        "other port",
        &other_port,
        1,
        &["has the port eth9", "fw-in (inside)"],
    );

    let text = running.stop();
    for part in ["lotus ran for", "received", "every frame is accounted for"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours into a pipe: {text}");
    assert_eq!(lab.sysctl("ipv6/conf/fw-in/disable_ipv6"), ipv6_before);
    judge(
        "status after",
        &lab.lotus(&["status"]),
        1,
        &["no lotus runs"],
    );
}

#[test]
fn sigterm_and_an_impatient_ctrl_c_stop_cleanly() {
    if !is_root("sigterm_and_an_impatient_ctrl_c_stop_cleanly") {
        return;
    }
    let lab = Lab::new();
    for signals in [&[Signal::TERM][..], &[Signal::INT, Signal::INT]] {
        let running = lab.start(&[]);
        signals.iter().for_each(|&signal| running.signal(signal));
        let begun = Instant::now();
        let (status, text) = running.end();
        assert_eq!(status.code(), Some(0), "{text}");
        assert!(text.contains("every frame is accounted for"), "{text}");
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn a_second_one_on_the_same_port_is_refused() {
    if !is_root("a_second_one_on_the_same_port_is_refused") {
        return;
    }
    let lab = Lab::new();
    let running = lab.start(&[]);
    lab.expect_refusal(&[], &["another lotus already uses fw-in", "stop it first"]);
    // Also the other way round, and with one port in common only.
    let swapped = lab.lotus(&["run", "--inside", "fw-out", "--outside", "fw-in"]);
    judge(
        "swapped",
        &swapped,
        1,
        &["another lotus already uses fw-out"],
    );
    assert!(lab.ping(), "the first one still forwards");
    running.stop();
    // Nothing is left that would stop the next one.
    lab.start(&[]).stop();
}

#[test]
fn a_port_that_the_host_uses_is_refused_with_the_command_to_use() {
    if !is_root("a_port_that_the_host_uses_is_refused_with_the_command_to_use") {
        return;
    }
    let lab = Lab::new();
    let fw = lab.fw.as_str();
    ip(&["-n", fw, "link", "set", "dev", "fw-out", "down"]);
    lab.expect_refusal(&[], &["fw-out is down", "ip link set dev fw-out up"]);
    ip(&["-n", fw, "link", "set", "dev", "fw-out", "up"]);

    ip(&["-n", fw, "addr", "add", "198.51.100.1/24", "dev", "fw-in"]);
    lab.expect_refusal(&[], &["198.51.100.1", "ip addr flush dev fw-in", "--force"]);
    let mut forced = lab.start_unready(&["--force"]);
    forced.wait_for("warning: fw-in has the address 198.51.100.1");
    forced.wait_for("ready");
    forced.stop();
    ip(&["-n", fw, "addr", "flush", "dev", "fw-in"]);

    // Not every kernel has either.
    let upper = |kind: &str| {
        let add = ["-n", fw, "link", "add", "link", "fw-in", "name", "upper9"];
        let mut command = Command::new("ip");
        command.args(add).args(kind.split(' '));
        command.output().unwrap().status.success()
    };
    if ["type vlan id 10", "type macvlan", "type ipvlan"]
        .into_iter()
        .any(upper)
    {
        let mut running = lab.start_unready(&[]);
        running.wait_for("warning: upper9 stands on fw-in and receives nothing");
        running.wait_for("ready");
        running.stop();
        ip(&["-n", fw, "link", "del", "dev", "upper9"]);
    } else {
        eprintln!("SKIP interfaces made of a port: this kernel has no VLANs and no macvlans");
    }

    ip(&["-n", fw, "link", "add", "name", "br9", "type", "bridge"]);
    ip(&["-n", fw, "link", "set", "dev", "fw-in", "master", "br9"]);
    lab.expect_refusal(
        &[],
        &["bridge or bond br9", "ip link set dev fw-in nomaster"],
    );
    ip(&["-n", fw, "link", "set", "dev", "fw-in", "nomaster"]);

    ip(&["-n", fw, "link", "set", "dev", "fw-in", "mtu", "1400"]);
    let mut running = lab.start_unready(&[]);
    running.wait_for("ip link set dev fw-out mtu 1400");
    running.wait_for("ready");
    running.stop();
}

#[test]
fn without_the_capabilities_it_says_which() {
    if !is_root("without_the_capabilities_it_says_which") {
        return;
    }
    let lab = Lab::new();
    let drop = ["setpriv", "--bounding-set", "-net_raw,-net_admin", LOTUS];
    let output = Lab::command(&lab.fw, &drop).args(RUN).output().unwrap();
    judge(
        "no capabilities",
        &output,
        1,
        &["CAP_NET_RAW and CAP_NET_ADMIN", "run it as root"],
    );
}

#[test]
fn a_kernel_that_wants_cap_bpf_is_explained() {
    if !is_root("a_kernel_that_wants_cap_bpf_is_explained") {
        return;
    }
    let lab = Lab::new();
    let drop = [
        "setpriv",
        "--bounding-set",
        "-bpf,-perfmon,-sys_admin",
        LOTUS,
    ];
    let output = Lab::command(&lab.fw, &drop)
        .args(RUN)
        .args(["--set", "quiet.method=tcx"])
        .output()
        .unwrap();
    judge("no CAP_BPF", &output, 1, &["silent on fw-in", "CAP_BPF"]);
}

#[test]
fn another_name_of_an_interface_is_the_same_interface() {
    if !is_root("another_name_of_an_interface_is_the_same_interface") {
        return;
    }
    let lab = Lab::new();
    let fw = lab.fw.as_str();
    ip(&[
        "-n", fw, "link", "property", "add", "dev", "fw-in", "altname", "lan0",
    ]);
    let twice = lab.lotus(&["run", "--inside", "fw-in", "--outside", "lan0"]);
    judge("twice", &twice, 2, &["both fw-in"]);
    // What stands in /sys and /proc is found by the other name, too.
    ip(&["-n", fw, "link", "add", "name", "br9", "type", "bridge"]);
    ip(&["-n", fw, "link", "set", "dev", "fw-in", "master", "br9"]);
    let other = ["run", "--inside", "lan0", "--outside", "fw-out"];
    let refused = lab.lotus(&other);
    judge("bridge", &refused, 1, &["fw-in belongs to the bridge"]);
    ip(&["-n", fw, "link", "set", "dev", "fw-in", "nomaster"]);
    let mut command = Lab::command(fw, &[LOTUS]);
    command.args(other);
    let mut running = lab.spawn(command);
    running.wait_for("ready: forwarding between fw-in and fw-out");
    assert_eq!(lab.sysctl("ipv6/conf/fw-in/disable_ipv6"), "1");
    assert_eq!(lab.status()["inside"], "fw-in");
    running.stop();
}

#[test]
fn only_ethernet_can_be_a_port() {
    if !is_root("only_ethernet_can_be_a_port") {
        return;
    }
    let lab = Lab::new();
    let fw = lab.fw.as_str();
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("SKIP only_ethernet_can_be_a_port: no /dev/net/tun");
        return;
    }
    ip(&["-n", fw, "tuntap", "add", "dev", "tun9", "mode", "tun"]);
    ip(&["-n", fw, "link", "set", "dev", "tun9", "up"]);
    let refused = lab.lotus(&["run", "--inside", "tun9", "--outside", "fw-out"]);
    judge(
        "tun",
        &refused,
        2,
        &["--inside tun9", "no Ethernet interface"],
    );
}

#[test]
fn a_read_only_proc_is_fine_where_ipv6_is_off_already() {
    if !is_root("a_read_only_proc_is_fine_where_ipv6_is_off_already") {
        return;
    }
    let lab = Lab::new();
    for port in ["fw-in", "fw-out"] {
        let path = format!("/proc/sys/net/ipv6/conf/{port}/disable_ipv6");
        let off = ["sh", "-c", "echo 1 > $0", &path];
        assert!(Lab::command(&lab.fw, &off).status().unwrap().success());
    }
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
                  exec \"$@\"";
    let mut command = Lab::command(&lab.fw, &["unshare", "-m", "sh", "-c", script, "-", LOTUS]);
    command.args(RUN);
    let mut running = lab.spawn(command);
    running.wait_for("ready");
    running.stop();
    assert_eq!(lab.sysctl("ipv6/conf/fw-in/disable_ipv6"), "1");
}

#[test]
fn only_root_and_its_own_user_may_ask_for_the_status() {
    if !is_root("only_root_and_its_own_user_may_ask_for_the_status") {
        return;
    }
    let lab = Lab::new();
    let running = lab.start(&[]);
    // Where everybody can execute it.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = folder.path().join("lotus");
    std::fs::copy(LOTUS, &copy).unwrap();
    let nobody = [
        "setpriv",
        "--reuid",
        "65534",
        "--clear-groups",
        copy.to_str().unwrap(),
        "status",
    ];
    let output = Lab::command(&lab.fw, &nobody).output().unwrap();
    judge(
        "nobody asks",
        &output,
        1,
        &["only root and the user that runs lotus"],
    );
    running.stop();
}

#[test]
fn a_link_that_goes_down_is_told_and_comes_back() {
    if !is_root("a_link_that_goes_down_is_told_and_comes_back") {
        return;
    }
    let lab = Lab::new();
    let mut running = lab.start(&[]);
    assert!(lab.ping());
    // The kernel reports a carrier up to a second late, and so does lotus.
    lab.wait_for_link("fw-in", "up");
    ip(&["-n", &lab.a, "link", "set", "dev", "eth0", "down"]);
    running.wait_for("fw-in: link down, waiting");
    assert_eq!(lab.status()["per_port"]["fw-in"]["link"], "down");
    ip(&["-n", &lab.a, "link", "set", "dev", "eth0", "up"]);
    running.wait_for("fw-in: link up again");
    assert!(lab.ping());
    running.stop();
}

#[test]
fn an_interface_that_vanishes_is_waited_for() {
    if !is_root("an_interface_that_vanishes_is_waited_for") {
        return;
    }
    let lab = Lab::new();
    let ipv6_before = lab.sysctl("ipv6/conf/fw-out/disable_ipv6");
    let mut running = lab.start(&["--workers", "1"]);
    assert!(lab.ping());
    let before = lab.status()["received"].as_u64().unwrap();
    ip(&["-n", &lab.fw, "link", "del", "dev", "fw-in"]);
    running.wait_for("fw-in: the interface is gone, waiting for its return");
    assert_eq!(lab.status()["per_port"]["fw-in"]["link"], "gone");
    // The port that is left still belongs to lotus, and the host's stack is silent on it.
    assert_eq!(lab.sysctl("ipv6/conf/fw-out/disable_ipv6"), "1");
    lab.wire_up("fw-in", &lab.a, "192.0.2.1/24");
    running.wait_for("ready again");
    assert!(lab.ping());
    assert!(
        lab.status()["received"].as_u64().unwrap() > before,
        "counters go on"
    );
    let text = running.stop();
    assert!(text.contains("every frame is accounted for"), "{text}");
    assert_eq!(lab.sysctl("ipv6/conf/fw-out/disable_ipv6"), ipv6_before);
}

#[test]
fn an_interface_that_returns_at_once_with_its_index_is_taken_again() {
    if !is_root("an_interface_that_returns_at_once_with_its_index_is_taken_again") {
        return;
    }
    let lab = Lab::new();
    let ipv6_before = lab.sysctl("ipv6/conf/fw-out/disable_ipv6");
    let mut running = lab.start(&["--workers", "1"]);
    assert!(lab.ping());
    // Away and back in one process, so that it is faster than a look of lotus; several times, to
    // meet it at different moments.
    for _ in 0..5 {
        lab.visit_and_return("fw-in");
        running.wait_for("ready again");
        assert!(lab.ping());
        assert_eq!(lab.status()["per_port"]["fw-in"]["link"], "up");
        assert_eq!(lab.sysctl("ipv6/conf/fw-in/disable_ipv6"), "1");
    }
    let text = running.stop();
    assert!(text.contains("every frame is accounted for"), "{text}");
    assert_eq!(lab.sysctl("ipv6/conf/fw-out/disable_ipv6"), ipv6_before);
}

#[test]
fn a_return_that_fails_is_tried_again() {
    if !is_root("a_return_that_fails_is_tried_again") {
        return;
    }
    let lab = Lab::new();
    let mut running = lab.start(&["--workers", "1"]);
    assert!(lab.ping());
    let needed = running.descriptors().len();
    ip(&["-n", &lab.fw, "link", "del", "dev", "fw-in"]);
    running.wait_for("fw-in: the interface is gone");
    // Closing everything comes after saying so.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut open = running.descriptors().len();
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = running.descriptors().len();
        if now < needed && now == open {
            break;
        }
        assert!(Instant::now() < deadline, "it closes nothing");
        open = now;
    }
    // One descriptor less than it needs to open everything again: the last socket fails.
    let open = running.descriptors();
    let mut free = (0..).filter(|number| !open.contains(number));
    let missing = free.nth(needed - open.len() - 1).unwrap();
    let before = running.limit_descriptors(missing);
    lab.wire_up("fw-in", &lab.a, "192.0.2.1/24");
    running.wait_for("still waiting: cannot open rings");
    running.limit_descriptors(before);
    running.wait_for("ready again");
    assert!(lab.ping());
    running.stop();
}

#[test]
fn it_can_be_stopped_while_it_waits_for_an_interface() {
    if !is_root("it_can_be_stopped_while_it_waits_for_an_interface") {
        return;
    }
    let lab = Lab::new();
    let mut running = lab.start(&[]);
    ip(&["-n", &lab.fw, "link", "del", "dev", "fw-out"]);
    running.wait_for("fw-out: the interface is gone");
    running.stop();
}

#[test]
fn passthrough_warns_loudly_and_forwards() {
    if !is_root("passthrough_warns_loudly_and_forwards") {
        return;
    }
    let lab = Lab::new();
    let mut running = lab.start_unready(&["--passthrough"]);
    running.wait_for("NOT A FIREWALL");
    running.wait_for("ready");
    assert!(lab.ping());
    assert_eq!(lab.status()["mode"], "passthrough");
    let text = running.stop();
    assert!(text.contains("every frame is accounted for"), "{text}");
}

#[test]
fn output_that_cannot_be_written_does_not_stop_the_firewall() {
    if !is_root("output_that_cannot_be_written_does_not_stop_the_firewall") {
        return;
    }
    let lab = Lab::new();
    let mut running = lab.start_unready(&["--events", "/nonexistent/events.json"]);
    running.wait_for("cannot write events to /nonexistent/events.json");
    running.wait_for("ready");
    running.stop();

    // A terminal that is gone.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Lab::command(&lab.fw, &[LOTUS]);
    command.args(RUN).stdout(writer);
    let mut running = Running::of(command);
    assert!(lab.ping());
    assert!(running.is_alive(), "it ended");
    running.stop();
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    if !is_root("systemd_is_told_when_it_is_ready_and_when_it_stops") {
        return;
    }
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut command = Lab::command(&lab.fw, &[LOTUS]);
    command.args(RUN).env("NOTIFY_SOCKET", &path);
    let running = lab.spawn(command);
    let receive = || {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert!(receive().contains("READY=1"));
    running.signal(Signal::TERM);
    assert!(receive().contains("STOPPING=1"));
    let (status, text) = running.end();
    assert_eq!(status.code(), Some(0), "{text}");
}
