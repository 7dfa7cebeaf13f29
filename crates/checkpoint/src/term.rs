//! The fencing counter of a run: which coordinator is the newest.
//!
//! Owns the file `term`: the line `term N`, twice, so that a damaged one is seen and a person can write one. It never
//! guesses: a counter that went back would let two coordinators train at once.

use std::{io, path::Path};

use crate::{Error, Files, write_atomically_on};

/// Two lines with the largest number there is.
const MAX_TERM_BYTES: u64 = 2 * 26;

/// Raises the counter in the file `path` by one (to 1, if there is no file) and returns it. It is durable then: no
/// later call, after whatever crash, returns it again or a lower one.
///
/// # Errors
///
/// [`Error::DamagedTerm`], which names the remedy; [`Error::Read`], or what [`write_atomically_on`] reports. Without
/// an answer nobody may act as coordinator.
pub fn advance_term(files: &dyn Files, path: &Path) -> Result<u64, Error> {
    let last = match files.read(path, MAX_TERM_BYTES) {
        Ok(bytes) => parse(&bytes).ok_or_else(|| damaged(path, &bytes))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(damaged(path, b"more than two such lines"));
        }
        Err(error) => return Err(Error::read(path)(error)),
    };
    let term = last.checked_add(1).ok_or_else(|| damaged(path, render(last).as_bytes()))?;
    write_atomically_on(files, path, render(term).as_bytes())?;
    Ok(term)
}

fn render(term: u64) -> String {
    format!("term {term}\nterm {term}\n")
}

/// Only what [`render`] writes.
fn parse(bytes: &[u8]) -> Option<u64> {
    let text = str::from_utf8(bytes).ok()?;
    let term = text.lines().next()?.strip_prefix("term ")?.parse().ok()?;
    (text == render(term)).then_some(term)
}

fn damaged(path: &Path, found: &[u8]) -> Error {
    let found = String::from_utf8_lossy(found).chars().take(80).collect();
    Error::DamagedTerm { path: path.to_path_buf(), found }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Disk;

    #[test]
    fn counts_from_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("term");
        for expected in 1..=12 {
            assert_eq!(advance_term(&Disk, &path).unwrap(), expected);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "term 12\nterm 12\n");
    }

    #[test]
    fn each_changed_byte_and_each_torn_end_is_seen() {
        let whole = render(37).into_bytes();
        assert_eq!(parse(&whole), Some(37));
        for place in 0..whole.len() {
            for change in 1..=255 {
                let mut rotten = whole.clone();
                rotten[place] ^= change;
                assert_eq!(parse(&rotten), None, "byte {place} ^ {change}");
            }
            assert_eq!(parse(&whole[..place]), None, "{place} bytes");
        }
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("term");
        let last = render(u64::MAX).into_bytes();
        assert_eq!(last.len() as u64, MAX_TERM_BYTES);
        let torn = b"term 37\nterm 3".to_vec();
        for content in [vec![], torn, b"term 09\nterm 09\n".to_vec(), vec![b'1'; 1000], last] {
            fs::write(&path, &content).unwrap();
            let message = advance_term(&Disk, &path).unwrap_err().to_string();
            assert!(
                message.contains("is damaged") && message.contains("higher than every term"),
                "{message}"
            );
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}
