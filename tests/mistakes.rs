//! What a person reads who made a mistake: each file in `tests/rules/mistakes` has one, and beside
//! it stands the message, word by word.
//!
//! After a change that is meant, `LOTUS_BLESS=1 cargo test --test mistakes` writes the messages anew;
//! read them all before you keep them.

use std::path::Path;

use lotus::rules::{PortNames, Ruleset};

/// Kinds of mistakes that there must be at least.
const KINDS: usize = 25;

fn message(name: &str, text: &str) -> String {
    let ports = PortNames {
        inside: "eth1".to_owned(),
        outside: "eth2".to_owned(),
    };
    let mut missing = |_: &str, _: &str| Err("there is no such file".to_owned());
    let source = lotus::rules::Source::read(name, text, &mut missing);
    let shown = match Ruleset::load(source, &ports) {
        Ok(rules) => {
            assert!(!rules.warnings().is_empty(), "{name}: nothing is wrong");
            rules.warnings().render(false)
        }
        Err(errors) => errors.render(false),
    };
    shown + "\n"
}

#[test]
fn every_mistake_is_told_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules/mistakes");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("mistakes")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "nft"))
        .collect();
    files.sort();
    assert!(files.len() >= KINDS, "{}", files.len());
    let bless = std::env::var_os("LOTUS_BLESS").is_some();
    let mut differing = String::new();
    for path in files {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let told = message(&name, &std::fs::read_to_string(&path).expect("text"));
        let kept = path.with_extension("txt");
        if bless {
            std::fs::write(&kept, &told).expect("write");
        }
        let expected = std::fs::read_to_string(&kept).unwrap_or_default();
        if told != expected {
            differing += &format!("{name} was:\n{expected}\nand is:\n{told}\n");
        }
    }
    assert!(differing.is_empty(), "{differing}");
}
