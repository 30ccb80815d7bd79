//! A file of rules as text. This is the one place where it is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of a file of rules, in MiB: a set of a hundred thousand IPv6 prefixes takes 5 of them.
const MIB_MAX: usize = 16;
/// The same in bytes.
pub const BYTES_MAX: usize = MIB_MAX << 20;

/// Rules as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesText {
    /// The file's name for messages.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// A file of rules that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {advice} ({error})")]
pub struct Unreadable {
    name: String,
    advice: String,
    error: io::Error,
}

/// Reads a file of rules.
///
/// # Errors
///
/// It is not there, too large, or no text.
pub fn read(path: &Path) -> Result<RulesText, Unreadable> {
    let name = path.display().to_string();
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        // One byte more tells a file that is too large.
        file.take(BYTES_MAX as u64 + 1).read_to_string(&mut text)
    });
    let read = read.and_then(|bytes| match bytes > BYTES_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(()),
    });
    match read {
        Ok(()) => Ok(RulesText { name, text }),
        Err(error) => Err(Unreadable {
            name,
            advice: match error.kind() {
                io::ErrorKind::InvalidData => "it is not text".to_owned(),
                io::ErrorKind::NotFound => "there is no such file; see --rules".to_owned(),
                io::ErrorKind::FileTooLarge => format!("it has more than {MIB_MAX} MiB"),
                _ => "cannot read the rule file".to_owned(),
            },
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(error.contains("cannot read the rule file"), "{error}");
    }
}
