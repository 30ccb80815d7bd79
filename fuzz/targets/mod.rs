//! What each fuzz target checks. Included by the fuzzer's programs (`fuzz/bin`) and by
//! `tests/corpus.rs`, so that what a fuzzer found is tested for ever, without a fuzzer.
//!
//! A target is a function over bytes that panics when lotus breaks a promise.

pub mod engine;
pub mod evaluate;
pub mod frame;
pub mod ftp;
pub mod lab;
pub mod rules;

/// A target: what it checks.
pub type Check = fn(&[u8]);

/// All targets by name: of the fuzzer's program, and of the directories with its inputs.
pub const ALL: [(&str, Check); 5] = [
    ("frame", frame::check),
    ("engine", engine::check),
    ("ftp", ftp::check),
    ("rules", rules::check),
    ("evaluate", evaluate::check),
];
