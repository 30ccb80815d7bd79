//! Holds the shape of the source tree: which module may know which, where `unsafe` may stand, who
//! may print or read a clock, how long a file may be. Each check is a function over text, and is
//! tried on small made-up sources that must fail.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the top down; those in one row do not know each other.
const LAYERS: [&[&str]; 8] = [
    &["cli"],
    &["runtime", "explain"],
    &["io", "engine"],
    &["rules"],
    &["helper"],
    &["conntrack"],
    &["wire"],
    &["observe"],
];

/// The only places with `unsafe`.
const UNSAFE_ROOMS: [&str; 4] = [
    "src/io/",
    "src/runtime/sandbox.rs",
    // Measured to pay: ARCHITECTURE.md, "The flow table".
    "src/conntrack/table/buckets.rs",
    "src/wire/prefetch.rs",
];
/// Code that runs for each packet: a worker never prints.
const SILENT: [&str; 7] = [
    "explain",
    "engine",
    "conntrack",
    "helper",
    "rules",
    "wire",
    "io",
];
/// Time is an argument here.
const CLOCKLESS: [&str; 6] = ["explain", "engine", "conntrack", "helper", "rules", "wire"];
/// Lines before the tests of a file.
const MAX_LINES: usize = 600;

#[test]
fn modules_know_only_modules_below_them() {
    hold(|file| upward_paths(&file.module, &file.code));
}

#[test]
fn unsafe_stays_in_its_rooms_and_says_why() {
    hold(|file| misplaced_unsafe(&file.path, &file.text, &file.code));
}

#[test]
fn workers_do_not_print() {
    hold(|file| {
        let silent = SILENT.contains(&file.module.as_str());
        if silent {
            words(&file.code, &["println!", "eprintln!", "print!", "eprint!"])
        } else {
            vec![]
        }
    });
}

#[test]
fn the_data_plane_reads_no_clock() {
    hold(|file| {
        let clockless = CLOCKLESS.contains(&file.module.as_str());
        if clockless {
            words(&file.code, &["Instant::now", "SystemTime"])
        } else {
            vec![]
        }
    });
}

#[test]
fn files_are_short_enough_to_read() {
    hold(|file| {
        let lines = file.code.lines().count();
        if lines > MAX_LINES {
            vec![format!("{lines} lines before its tests")]
        } else {
            vec![]
        }
    });
}

#[test]
fn every_module_has_its_place() {
    let known: Vec<&str> = LAYERS.concat();
    for file in sources() {
        assert!(
            file.module.is_empty() || known.contains(&file.module.as_str()),
            "{}: module '{}' stands in no layer of this test",
            file.path,
            file.module
        );
    }
}

// ---- the checks

/// One source file, without its comments' and strings' power to confuse: `code` is the text before
/// the tests, comments and literals blanked, lines kept.
struct Source {
    path: String,
    /// The module under `src`, empty for the crate root and `main.rs`.
    module: String,
    text: String,
    code: String,
}

/// Runs a check over the whole tree and fails with all that it found.
fn hold(check: impl Fn(&Source) -> Vec<String>) {
    let sources = sources();
    assert!(sources.len() > 10, "the source tree was not found");
    let found: Vec<String> = sources
        .iter()
        .flat_map(|file| {
            check(file)
                .into_iter()
                .map(|what| format!("{}: {what}", file.path))
        })
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Paths `crate::X` or `lotus::X` to a module that stands not below `module`.
fn upward_paths(module: &str, code: &str) -> Vec<String> {
    let layer_of = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let Some(own) = layer_of(module) else {
        return Vec::new();
    };
    crate_paths(code)
        .into_iter()
        .filter(|used| used != module && layer_of(used).is_some_and(|layer| layer <= own))
        .map(|used| format!("{module} uses {used}, which is not below it"))
        .collect()
}

/// The first segment of each path from the crate root, also inside `use crate::{a, b::c}`, and of
/// each path from a parent, which may be the crate root.
fn crate_paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let roots = ["crate::", "super::"];
    let paths = roots.into_iter().flat_map(|root| {
        code.match_indices(root)
            .map(move |(at, _)| (at, root.len()))
    });
    for (at, length) in paths {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = code[at + length..].trim_start();
        match rest.strip_prefix('{') {
            None => found.push(identifier(rest)),
            Some(group) => found.extend(group_heads(group)),
        }
    }
    found
}

/// First segments of the items of a `{...}` group.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(identifier(group[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(identifier(group[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// `unsafe` outside its rooms, or in a file that never says why it is sound.
fn misplaced_unsafe(path: &str, text: &str, code: &str) -> Vec<String> {
    if !code
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == "unsafe")
    {
        return Vec::new();
    }
    if !UNSAFE_ROOMS.iter().any(|room| path.starts_with(room)) {
        return vec!["unsafe outside its rooms".to_owned()];
    }
    let reasons = text.matches("SAFETY:").count() + text.matches("# Safety").count();
    let blocks = code.matches("unsafe {").count() + code.matches("unsafe impl").count();
    if reasons == 0 || reasons < blocks {
        return vec![format!("{blocks} unsafe blocks, {reasons} SAFETY comments")];
    }
    Vec::new()
}

/// Lines that hold one of these, not as the end of a longer word.
fn words(code: &str, forbidden: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for word in forbidden {
            let hit = line
                .match_indices(word)
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
            if hit {
                found.push(format!("line {}: {word}", number + 1));
            }
        }
    }
    found
}

// ---- reading the tree

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.sort();
    files
        .into_iter()
        .filter(|file| !is_test_file(file))
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let path = file
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let module = module_of(&path);
            let code = before_tests(&blanked(&text)).to_owned();
            Source {
                path,
                module,
                text,
                code,
            }
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `tests.rs`, and everything in a folder `tests`, is compiled for tests only.
fn is_test_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

fn module_of(path: &str) -> String {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    match inner.split_once('/') {
        Some((module, _)) => module.to_owned(),
        None if matches!(inner, "lib.rs" | "main.rs") => String::new(),
        None => inner.trim_end_matches(".rs").to_owned(),
    }
}

/// The lines before the test module at the end of a file.
fn before_tests(code: &str) -> &str {
    match code.find("\n#[cfg(test)]\nmod ") {
        Some(at) => &code[..at + 1],
        None => code,
    }
}

/// Replaces what stands in comments, strings and character literals by blanks.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(text, at) {
            length
        } else if rest.starts_with('"') {
            quoted(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        for byte in &mut out[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length;
    }
    String::from_utf8(out).unwrap()
}

fn raw_string(text: &str, at: usize) -> Option<usize> {
    if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') && !text[..at].ends_with('b')
    {
        return None;
    }
    let rest = &text[at..];
    let hashes = rest
        .strip_prefix('r')?
        .bytes()
        .take_while(|&b| b == b'#')
        .count();
    let inner = rest[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(
        2 + hashes
            + inner
                .find(&end)
                .map_or(inner.len(), |found| found + end.len()),
    )
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        let end = inner[2..].find('\'')?;
        return Some(1 + 2 + end + 1);
    }
    let c = inner.chars().next()?;
    inner[c.len_utf8()..]
        .starts_with('\'')
        .then(|| 2 + c.len_utf8())
}

// ---- each check can fail

#[test]
fn arrows_that_point_up_are_found() {
    let up = |module: &str, code: &str| upward_paths(module, code).len();
    assert_eq!(up("wire", "use crate::observe::DropReason;"), 0);
    assert_eq!(up("wire", "use crate::wire::Side;"), 0, "itself");
    assert_eq!(
        up(
            "runtime",
            "use crate::{engine, io::Port, rules::{Ruleset, Query}};"
        ),
        0
    );
    assert_eq!(up("wire", "use crate::conntrack::Time;"), 1);
    assert_eq!(up("wire", "pub(crate) use crate::conntrack::Time;"), 1);
    assert_eq!(up("observe", "fn f() -> crate::wire::Side {"), 1);
    assert_eq!(up("engine", "use crate::io::Port;"), 1, "neighbours");
    assert_eq!(up("io", "use crate::engine::Engine;"), 1, "neighbours");
    assert_eq!(
        up(
            "conntrack",
            "use crate::{observe, rules::{Query, Hits},\n engine};"
        ),
        2
    );
    assert_eq!(
        up(
            "conntrack",
            "use other_crate::engine::X; use $crate::engine::Y;"
        ),
        0
    );
}

#[test]
fn unsafe_in_the_wrong_place_is_found() {
    let code = "fn f() { unsafe { g() } }";
    assert_eq!(misplaced_unsafe("src/wire/mod.rs", code, code).len(), 1);
    assert_eq!(
        misplaced_unsafe("src/io/ring.rs", code, code).len(),
        1,
        "no reason"
    );
    let reasoned = format!("// SAFETY: g has no duties.\n{code}");
    assert!(misplaced_unsafe("src/io/ring.rs", &reasoned, code).is_empty());
    let twice = format!("{code}{code}");
    assert_eq!(
        misplaced_unsafe("src/io/ring.rs", &reasoned, &twice).len(),
        1,
        "one reason"
    );
    assert!(
        misplaced_unsafe(
            "src/wire/mod.rs",
            "#![deny(unsafe_code)]",
            "#![deny(unsafe_code)]"
        )
        .is_empty()
    );
}

#[test]
fn words_are_found_in_code_only() {
    let print = |text: &str| words(&blanked(text), &["println!", "print!"]).len();
    assert_eq!(print("fn f() {\n    println!(\"x\");\n}"), 1);
    assert_eq!(
        print("// println!(\"x\")\nlet s = \"println!\"; let r = r#\"a \" print!\"#;"),
        0
    );
    assert_eq!(
        print("let c = '\"'; print!(); let d = '\\''; print!();"),
        1,
        "one a line"
    );
    assert_eq!(print("my_println!()"), 0);
    assert_eq!(
        words("let now = std::time::Instant::now();", &["Instant::now"]).len(),
        1
    );
}

#[test]
fn only_lines_before_the_tests_count() {
    let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::engine::Engine;\n}\n";
    assert_eq!(before_tests(text), "fn f() {}\n");
    // A helper for tests in the middle of a file does not hide what is behind it.
    let text = "#[cfg(test)]\nuse a::b;\nuse crate::engine::Engine;\n";
    assert_eq!(upward_paths("wire", before_tests(text)).len(), 1);
    assert!(is_test_file(Path::new("src/wire/tests.rs")));
    assert!(!is_test_file(Path::new("src/wire/mod.rs")));
    assert_eq!(
        (module_of("src/io/mod.rs"), module_of("src/main.rs")),
        ("io".into(), "".into())
    );
}
