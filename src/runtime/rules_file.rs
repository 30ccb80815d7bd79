//! A file of rules, and what it includes, as text. This is the one place where it is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::rules::{Included, MAX_TEXT_BYTES, Source};

/// Most bytes of a file of rules with all that it includes: a set of a hundred thousand IPv6 prefixes
/// takes 5 MiB.
pub const BYTES_MAX: usize = MAX_TEXT_BYTES;

/// Rules as they were written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesText {
    /// The file's name for messages.
    pub name: String,
    /// What it says.
    pub text: String,
    /// What its `include` lines mean, and those of the files that they name.
    #[serde(default)]
    pub includes: Vec<Include>,
}

/// What one `include` means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Include {
    /// The file in which it stands.
    pub from: String,
    /// What it says.
    pub pattern: String,
    /// The files, or why there are none.
    pub files: Result<Vec<Included>, String>,
}

impl RulesText {
    /// Ready to be parsed: reads no file.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::read(&self.name, &self.text, &mut |from, pattern| {
            let mut all = self.includes.iter();
            match all.find(|one| one.from == from && one.pattern == pattern) {
                Some(include) => include.files.clone(),
                None => Err("it was not read".to_owned()),
            }
        })
    }
}

/// A file of rules that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {advice} ({error})")]
pub struct Unreadable {
    name: String,
    advice: String,
    error: io::Error,
}

/// Reads a file of rules and what it includes.
///
/// # Errors
///
/// It is not there, too large, or no text. That it includes something that cannot be read is told
/// when it is parsed, with the place.
pub fn read(path: &Path) -> Result<RulesText, Unreadable> {
    let name = path.display().to_string();
    let text = File::open(path).and_then(text_of);
    let text = text.map_err(|error| unreadable(&name, error))?;
    Ok(with_includes(name, text))
}

/// Reads rules from a stream, and what they include from files; `name` stands for it in messages.
///
/// # Errors
///
/// As [`read`].
pub fn read_from(name: &str, stream: impl Read) -> Result<RulesText, Unreadable> {
    let text = text_of(stream).map_err(|error| unreadable(name, error))?;
    Ok(with_includes(name.to_owned(), text))
}

fn with_includes(name: String, text: String) -> RulesText {
    let mut includes: Vec<Include> = Vec::new();
    let mut left = BYTES_MAX.saturating_sub(text.len());
    // Only to learn what is included: whoever parses it reads it again from here.
    let _ = Source::read(&name, &text, &mut |from, pattern| {
        let mut known = includes.iter();
        if let Some(known) = known.find(|one| one.from == from && one.pattern == pattern) {
            return known.files.clone();
        }
        let files = include(from, pattern, &mut left);
        includes.push(Include {
            from: from.to_owned(),
            pattern: pattern.to_owned(),
            files: files.clone(),
        });
        files
    });
    RulesText {
        name,
        text,
        includes,
    }
}

/// The files that an `include` means, in the order of their names. A pattern may mean none.
fn include(from: &str, pattern: &str, left: &mut usize) -> Result<Vec<Included>, String> {
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let is_pattern = pattern.contains(['*', '?', '[']);
    let folder = folder.display().to_string();
    // Of the folder's name nothing is a pattern.
    let folder = if is_pattern {
        glob::Pattern::escape(&folder)
    } else {
        folder
    };
    let whole = Path::new(&folder).join(pattern).display().to_string();
    let paths: Vec<PathBuf> = if is_pattern {
        // As nft: a hidden file is not meant.
        let options = glob::MatchOptions {
            require_literal_leading_dot: true,
            require_literal_separator: true,
            ..glob::MatchOptions::default()
        };
        let found = glob::glob_with(&whole, options).map_err(|error| error.to_string())?;
        let found: Result<_, _> = found.collect();
        found.map_err(|error| error.to_string())?
    } else {
        vec![whole.into()]
    };
    let mut files = Vec::new();
    for path in paths
        .into_iter()
        .filter(|path| !is_pattern || !path.is_dir())
    {
        let name = path.display().to_string();
        let text = File::open(&path).and_then(text_of);
        let text = text.map_err(|error| unreadable(&name, error).to_string())?;
        *left = left.checked_sub(text.len()).ok_or_else(too_large)?;
        files.push((name, text));
    }
    Ok(files)
}

fn text_of(stream: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One byte more tells a file that is too large.
    stream.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(good);
        let line = before.filter(|&&byte| byte == b'\n').count() + 1;
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("line {line} is not UTF-8: is this a file of rules?"),
        )
    })
}

fn unreadable(name: &str, error: io::Error) -> Unreadable {
    Unreadable {
        name: name.to_owned(),
        advice: match error.kind() {
            io::ErrorKind::InvalidData => "it is not text".to_owned(),
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::FileTooLarge => too_large(),
            _ => "it cannot be read".to_owned(),
        },
        error,
    }
}

fn too_large() -> String {
    format!(
        "more than {} MiB with all that is included",
        BYTES_MAX >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{PortNames, Ruleset};

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.nft");
        let write = |bytes: usize| std::fs::write(&path, vec![b'#'; bytes]).unwrap();
        write(BYTES_MAX);
        assert_eq!(read(&path).unwrap().text.len(), BYTES_MAX);
        write(BYTES_MAX + 1);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("more than 16 MiB"), "{error}");
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("it cannot be read"), "{error}");
    }

    #[test]
    fn files_include_files_and_errors_name_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "main.nft",
            "include \"lists/*.nft\"\ntable inet t {\n  include \"chain.nft\"\n}\n",
        );
        write("lists/a.nft", "define web = { 80, 443 }");
        write("lists/b.nft", "# none\ndefine high = 1024-65535\n");
        write("lists/.hidden.nft", "nonsense");
        write("lists/c.txt", "nonsense");
        write(
            "chain.nft",
            "chain c {\n type filter hook forward priority 0; policy drop;\n tcp dport $web accept\n}",
        );
        let ports = PortNames {
            inside: "a".to_owned(),
            outside: "b".to_owned(),
        };
        let load = || {
            Ruleset::load(
                read(&folder.path().join("main.nft")).unwrap().source(),
                &ports,
            )
        };
        assert_eq!(
            load().unwrap().summary(),
            "table inet t: 1 rule, policy drop"
        );
        write("lists/b.nft", "# none\ndefine web = 5\n");
        let error = load().unwrap_err().to_string();
        assert!(
            error.contains("lists/b.nft:2:8") && error.contains("lists/a.nft:1:8"),
            "{error}"
        );
        // What the first file lacks at its end is told there.
        write("main.nft", "include \"lists/a.nft\"\ntable inet t {\n");
        let error = load().unwrap_err().to_string();
        assert!(
            error.contains("main.nft:2:") && error.contains("ends inside a block"),
            "{error}"
        );
        write(
            "main.nft",
            "include \"lists/*.nft\"\ntable inet t {\n  include \"chain.nft\"\n}\n",
        );
        std::os::unix::fs::symlink("/nonexistent", folder.path().join("lists/z.nft")).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(
            error.contains("lists/z.nft") && error.contains("no such file"),
            "{error}"
        );
        std::fs::remove_file(folder.path().join("lists/z.nft")).unwrap();
        write("lists/b.nft", "include \"b.nft\"");
        assert!(
            load()
                .unwrap_err()
                .to_string()
                .contains("include each other")
        );
        write("lists/b.nft", "include \"missing.nft\"");
        let error = load().unwrap_err().to_string();
        assert!(
            error.contains("lists/b.nft:1:1") && error.contains("no such file"),
            "{error}"
        );
        write("lists/b.nft", "include \"missing*.nft\"");
        assert!(load().is_ok(), "a pattern may mean nothing");
    }
}
