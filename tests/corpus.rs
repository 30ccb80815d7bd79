//! Replays what the fuzzers are given to begin with (`fuzz/corpus`) and what they ever found
//! (`fuzz/crashes`), on stable Rust and without a fuzzer.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

#[path = "../fuzz/targets/mod.rs"]
#[allow(missing_docs, unreachable_pub, dead_code)]
mod targets;

/// So many seeds there are at least: a corpus that was not found must not pass.
const MIN_SEEDS: usize = 10;

/// Files of `fuzz/WHAT/TARGET`, by name.
fn files(what: &str, target: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(what)
        .join(target);
    let mut files: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a directory that can be read").path())
        .collect();
    files.sort();
    files
}

fn seed_of(target: &str, name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    fs::read(dir.join(target).join(name)).expect("a seed of this name")
}

fn replay(target: &str) {
    let (_, check) = targets::ALL
        .into_iter()
        .find(|(name, _)| *name == target)
        .expect("a target of this name");
    let seeds = files("corpus", target);
    assert!(seeds.len() >= MIN_SEEDS, "only {} seeds", seeds.len());
    let failed: Vec<_> = seeds
        .into_iter()
        .chain(files("crashes", target))
        .filter(|file| {
            let bytes = fs::read(file).expect("a file that can be read");
            // The panic's own message is printed before; all files are tried.
            panic::catch_unwind(|| check(&bytes)).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "these fail: {failed:#?}");
}

#[test]
fn frame() {
    replay("frame");
}

#[test]
fn engine() {
    replay("engine");
}

#[test]
fn ftp() {
    replay("ftp");
}

#[test]
fn rules() {
    replay("rules");
}

#[test]
fn evaluate() {
    replay("evaluate");
}

/// Seeds that no longer get anywhere would test nothing: a changed format, a broken handshake.
#[test]
fn the_seeds_reach_what_they_are_for() {
    for (seed, ports) in [
        ("vsftpd-passive", &[30_001][..]),
        ("pyftpdlib-epsv6-shuffled", &[40_001]),
        ("curl-active-shuffled", &[45_001, 45_001]),
        ("eprt6-server-inside", &[45_001]),
        ("pure-ftpd-banner", &[29_999]),
        ("epsv-all", &[30_001]),
        ("no-login-needed", &[30_001]),
        ("bounce-shuffled", &[]),
        ("echoed-227", &[]),
        ("tls-range", &[]),
        ("tls-ccc", &[30_001]),
        ("lprt6-bytes", &[45_001]),
        ("lpsv-shuffled", &[30_001]),
        ("many-lines", &[30_001]),
        ("refused-by-nobody", &[30_001]),
        ("http", &[]),
    ] {
        let opened = targets::ftp::opened_by(&seed_of("ftp", seed));
        let opened: Vec<u16> = opened.iter().map(|opened| opened.to.port()).collect();
        assert_eq!(opened, ports, "{seed}");
    }
    for (seed, ranges) in [("tls-range", 1), ("tls-ccc", 1), ("auth-tls", 0)] {
        let opened = targets::ftp::ranges_opened_by(&seed_of("ftp", seed));
        assert_eq!(opened, ranges, "{seed}");
    }
    for (seed, words) in [
        ("active", "5000 (PORT)"),
        ("passive", "5000 (PASV)"),
        ("bounce", "refused"),
        ("tls", "went TLS"),
        ("not-ftp", "not FTP"),
        ("expired", "nobody used it in time"),
        ("restart", "began a new connection"),
    ] {
        let told = targets::engine::told_by(&seed_of("engine", seed));
        let told: Vec<_> = told.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|e| e.contains(words)), "{seed}: {told:#?}");
    }
}

#[test]
fn every_input_belongs_to_a_target() {
    for what in ["corpus", "crashes"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz")
            .join(what);
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let name = entry.expect("entry").file_name();
            let known = targets::ALL.iter().any(|(target, _)| *target == name);
            assert!(known, "no target is called {name:?}");
        }
    }
}
