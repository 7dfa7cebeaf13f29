//! The fencing counter of a run: which coordinator is the newest.
//!
//! Owns the file `term`: the line `term N`, twice, so that a damaged one is seen and a person can write one. It never
//! guesses: a counter that went back would let two coordinators train at once.
//!
//! Owns also the claims beside it, empty files `term-N`. A claim is made in one instant and by one process only, so that
//! no two coordinators have the same term, also where the file system has no locks; and a coordinator sees by a higher
//! claim that another has taken over. The highest claim is never removed by anybody but the one who made it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    Error, FileSystem,
    atomic::{folder_of, sync_folder_of},
    write_atomically_on,
};

/// Two lines with the largest number there is.
const MAX_TERM_BYTES: u64 = 2 * 26;

/// Claims the next term of the run whose counter is in the file `path`: higher than that counter (0 if there is no
/// file), than all claims and than `known`. It is durable then: no later call, after whatever crash, returns it again or
/// a lower one.
///
/// # Errors
///
/// [`Error::TermTaken`] if another process claims it in the same moment; [`Error::DamagedTerm`], which names the remedy;
/// [`Error::Read`], [`Error::Write`], or what [`write_atomically_on`] reports. Without an answer nobody may act as
/// coordinator.
pub fn advance_term(files: &dyn FileSystem, path: &Path, known: u64) -> Result<u64, Error> {
    let last = match files.read(path, MAX_TERM_BYTES) {
        Ok(bytes) => parse(&bytes).ok_or_else(|| damaged(path, &bytes))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(damaged(path, b"more than two such lines"));
        }
        Err(error) => return Err(Error::read(path)(error)),
    };
    // A crash may have left a claim that the counter does not know.
    let claimed = claims(files, path)?.into_iter().max().unwrap_or(0);
    let last = last.max(claimed).max(known);
    let term = last.checked_add(1).ok_or_else(|| damaged(path, render(last).as_bytes()))?;
    let claim = claim_path(path, term);
    match files.create_new(&claim) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::TermTaken { directory: folder_of(path).to_path_buf(), term });
        }
        Err(error) => return Err(Error::write(&claim, "claiming the term")(error)),
    }
    let kept = sync_folder_of(files, &claim)
        .and_then(|()| write_atomically_on(files, path, render(term).as_bytes()));
    if let Err(error) = kept {
        // Nobody has heard of it.
        let _ = files.remove(&claim);
        return Err(error);
    }
    Ok(term)
}

/// Whether nobody has claimed a higher term than `own`. A folder that cannot be read proves nothing, and is no reason to
/// end a run.
///
/// # Errors
///
/// [`Error::Superseded`].
pub(crate) fn check_term(files: &dyn FileSystem, path: &Path, own: u64) -> Result<(), Error> {
    match claims(files, path).ok().and_then(|claims| claims.into_iter().max()) {
        Some(term) if term > own => {
            Err(Error::Superseded { directory: folder_of(path).to_path_buf(), term, own })
        }
        _ => Ok(()),
    }
}

/// Removes the claims of earlier processes. What cannot be removed is in no way.
pub(crate) fn remove_claims_below(files: &dyn FileSystem, path: &Path, own: u64) {
    for term in claims(files, path).unwrap_or_default().into_iter().filter(|term| *term < own) {
        let _ = files.remove(&claim_path(path, term));
    }
}

/// The terms that have been claimed, in no order.
fn claims(files: &dyn FileSystem, path: &Path) -> Result<Vec<u64>, Error> {
    let folder = folder_of(path);
    let names = files.list(folder).map_err(Error::read(folder))?;
    let of = |name: &String| {
        let term = name.rsplit_once('-')?.1.parse().ok()?;
        (claim_path(path, term) == folder.join(name)).then_some(term)
    };
    Ok(names.iter().filter_map(of).collect())
}

fn claim_path(path: &Path, term: u64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("-{term}"));
    folder_of(path).join(name)
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
            assert_eq!(advance_term(&Disk, &path, 0).unwrap(), expected);
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
            let message = advance_term(&Disk, &path, 0).unwrap_err().to_string();
            assert!(
                message.contains("is damaged") && message.contains("higher than every term"),
                "{message}"
            );
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}
