//! `lotus reload` and SIGHUP. What needs root runs in namespaces of its own.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{LOTUS, Lab, RUN, Running, is_root, judge};

/// A file that takes the place of the one before, as editors do it.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Rules with this policy.
fn rules(policy: &str) -> String {
    format!(
        "table inet t {{ chain c {{ type filter hook forward priority 0; policy {policy}; }} }}\n"
    )
}

const BROKEN: &str = "table inet t {\n  chain c {\n    type filter hook forward priority 0;\n    tcp dport ftpp drop\n  }\n}\n";

/// A firewall host and a file of rules.
struct Scene {
    lab: Lab,
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Scene {
    /// None without root.
    fn new(test: &str) -> Option<Scene> {
        if !is_root(test) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        Some(Scene {
            lab: Lab::new(),
            file: folder.path().join("rules.nft"),
            folder,
        })
    }

    /// The file has this policy, and lotus runs by it.
    fn begin(test: &str, policy: &str) -> Option<(Scene, Running)> {
        let scene = Scene::new(test)?;
        scene.write(&rules(policy));
        let running = scene.start();
        Some((scene, running))
    }

    fn write(&self, text: &str) {
        write(&self.file, text);
    }

    fn name(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// With a name that says nothing to those in another folder.
    fn start(&self) -> Running {
        let mut command = Lab::command(&self.lab.fw, &[LOTUS]);
        command.args(RUN).args(["--rules", "rules.nft"]);
        command.current_dir(&self.folder);
        let mut running = self.lab.spawn(command);
        running.wait_for("ready");
        running
    }

    fn reload(&self, more: &[&str]) -> Output {
        self.lab.lotus(&[&["reload"][..], more].concat())
    }

    /// Whether one question gets its answer.
    fn passes(&self) -> bool {
        let ping = ["ping", "-c", "1", "-W", "1", "192.0.2.2"];
        let output = Lab::command(&self.lab.a, &ping).output().unwrap();
        output.status.success()
    }

    fn number(&self, name: &str) -> u64 {
        self.lab.status()[name].as_u64().unwrap()
    }
}

#[test]
fn the_file_is_read_again_on_request_and_on_sighup() {
    let Some((scene, mut running)) =
        Scene::begin("the_file_is_read_again_on_request_and_on_sighup", "accept")
    else {
        return;
    };
    let name = scene.name();
    assert!(scene.lab.ping());
    let before = scene.lab.status();
    assert_eq!(before["generation"], 1);
    assert_eq!(before["rules_file"], name);

    scene.write(&rules("drop"));
    judge(
        "reload",
        &scene.reload(&[]),
        0,
        &["reloaded: generation 2", name, "policy drop"],
    );
    running.wait_for("rules reloaded: generation 2");
    assert!(!scene.passes());
    let status = scene.lab.status();
    assert_eq!(status["generation"], 2);
    assert!(status["rules"].as_str().unwrap().contains("policy drop"));
    assert!(status["rules_loaded"].as_str() > before["rules_loaded"].as_str());
    judge(
        "status",
        &scene.lab.lotus(&["status"]),
        0,
        &["policy drop (generation 2, loaded 2"],
    );

    scene.write(&rules("accept"));
    running.signal(Signal::HUP);
    running.wait_for("rules reloaded: generation 3");
    assert!(scene.lab.ping());

    // Another file serves for now, and is not remembered.
    let other = scene.file.with_file_name("other.nft");
    write(&other, &rules("drop"));
    let output = scene.reload(&["--rules", other.to_str().unwrap(), "--json"]);
    judge("reload --rules --json", &output, 0, &["other.nft"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&answer["ok"], &answer["generation"]),
        (&true.into(), &4.into())
    );
    assert!(!scene.passes());
    judge(
        "reload",
        &scene.reload(&["--port", "fw-in"]),
        0,
        &["generation 5", name],
    );
    assert!(scene.lab.ping());
    running.stop();
}

#[test]
fn errors_leave_the_rules_in_force() {
    let Some((scene, mut running)) = Scene::begin("errors_leave_the_rules_in_force", "accept")
    else {
        return;
    };
    let name = scene.name();
    let profile =
        "table inet t { ct helper h { type \"ftp\" protocol tcp; comment \"lotus:none\"; } }";
    let place = format!("{name}:4:15");
    for (text, parts) in [
        (BROKEN, &[place.as_str(), "ftpp", "1 error"][..]),
        (profile, &["settings profile 'none'", "--set ftp.none."]),
        (" \n", &["the file is empty"]),
    ] {
        scene.write(text);
        let output = scene.reload(&[]);
        judge("reload", &output, 1, parts);
        judge(
            "reload",
            &output,
            1,
            &["not reloaded: generation 1 stays in force", "policy accept"],
        );
        assert!(output.stdout.is_empty(), "it is told on standard error");
        running.wait_for("rules not reloaded, generation 1 stays in force");
        running.signal(Signal::HUP);
        running.wait_for("rules not reloaded, generation 1 stays in force");
    }
    scene.write(BROKEN);
    let output = scene.reload(&["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["ok"], false);
    let error = &answer["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&4.into(), &15.into()));
    assert!(!answer["report"].as_str().unwrap().contains('\u{1b}'));

    std::fs::remove_file(&scene.file).unwrap();
    judge("no file", &scene.reload(&[]), 1, &[name, "no such file"]);
    running.signal(Signal::HUP);
    let line = running.wait_for("rules not reloaded");
    let line = match line.contains(name) {
        true => line,
        // Of the reload before.
        false => running.wait_for("rules not reloaded"),
    };
    assert!(
        line.contains(name) && line.contains("no such file"),
        "{line}"
    );
    let other = scene.reload(&["--rules", name]);
    judge(
        "no other file",
        &other,
        2,
        &["--rules", name, "no such file"],
    );

    assert!(scene.lab.ping());
    assert_eq!(scene.number("generation"), 1);
    let text = running.stop();
    // What is wrong with the file stands there too.
    assert!(text.contains(&place), "{text}");
}

#[test]
fn without_a_file_it_says_so() {
    let Some(scene) = Scene::new("without_a_file_it_says_so") else {
        return;
    };
    judge("none", &scene.reload(&[]), 1, &["no lotus runs"]);
    let mut running = scene.lab.start(&[]);
    judge(
        "built-in",
        &scene.reload(&[]),
        1,
        &[
            "started without --rules",
            "built-in rules",
            "reload --rules FILE",
        ],
    );
    running.signal(Signal::HUP);
    running.wait_for("the built-in rules are in force");
    scene.write(&rules("drop"));
    let name = scene.name();
    judge(
        "a file",
        &scene.reload(&["--rules", name]),
        0,
        &["generation 2"],
    );
    assert!(!scene.passes());
    running.stop();

    let mut running = scene.lab.start(&["--passthrough", "--rules", name]);
    judge(
        "passthrough",
        &scene.reload(&[]),
        1,
        &["--passthrough", "judges nothing"],
    );
    running.wait_for("rules not reloaded");
    running.stop();
}

#[test]
fn a_hundred_thousand_rules_wide_file_is_taken() {
    let Some((scene, running)) =
        Scene::begin("a_hundred_thousand_rules_wide_file_is_taken", "drop")
    else {
        return;
    };
    let elements: Vec<_> = (0..100_000)
        .map(|n| format!("10.{}.{}.{}", n >> 15, n >> 7 & 255, (n & 127) * 2))
        .collect();
    let text = format!(
        "table inet t {{ chain c {{ type filter hook forward priority 0; policy drop;\n\
         ip saddr {{ {} }} drop\nip saddr 192.0.2.0/24 accept\n}} }}",
        elements.join(", ")
    );
    scene.write(&text);
    judge("reload", &scene.reload(&[]), 0, &["generation 2"]);
    assert!(scene.lab.ping());
    running.stop();
}

/// A terminal that is closed sends SIGHUP too.
#[test]
fn a_closed_terminal_stops_it_as_ever() {
    let Some(scene) = Scene::new("a_closed_terminal_stops_it_as_ever") else {
        return;
    };
    let line = [&[LOTUS][..], &RUN].concat().join(" ");
    let script = ["script", "--quiet", "--command", &line, "/dev/null"];
    let mut running = scene.lab.spawn(Lab::command(&scene.lab.fw, &script));
    running.wait_for("ready");
    assert_eq!(scene.number("generation"), 1);
    running.signal(Signal::KILL);
    let deadline = Instant::now() + Duration::from_secs(10);
    while scene.lab.lotus(&["status"]).status.success() {
        assert!(Instant::now() < deadline, "it still runs");
        std::thread::sleep(Duration::from_millis(50));
    }
}
