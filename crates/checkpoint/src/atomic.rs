//! Writes a whole file or nothing: a temporary beside it, fsync, read back, rename, fsync of the folder.
//!
//! Never retries a failed fsync: after one, Linux may have dropped the dirty pages, and a second call would report
//! success for data that is gone. The temporary is removed and the error handed up. Only a crash leaves a temporary
//! behind; [`sweep_temporaries`] removes it.

use std::{
    ffi::OsString,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Disk, Error, FileSystem, Writable, records::CHUNK_BYTES};

const PREFIX: &str = ".lockstep-";
const SUFFIX: &str = ".tmp";
/// Every crash in the middle of a write leaves at most one, and sweeping removes them: so many mean another fault.
const MAX_TEMPORARIES: u32 = 64;

/// Replaces `path` with `bytes` on the real disk; see [`write_atomically_on`].
///
/// # Errors
///
/// As [`write_atomically_on`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomically_on(&Disk, path, bytes)
}

/// Replaces `path` with `bytes`, durably and in one instant: a reader, or a crash at any moment, sees the old file or
/// the new one, complete.
///
/// # Errors
///
/// [`Error::Write`] naming the part that failed, or [`Error::Corrupt`]; `path` is then as it was before, unless it is
/// the last part (the folder's fsync) that failed. No temporary file is left behind.
pub fn write_atomically_on(files: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace(files, path, bytes)?;
    sync_folder_of(files, path)
}

/// Removes what crashes in the middle of writes have left in `directory`, and says how many files that were. Nobody
/// else may be writing there: the caller holds the run's lock.
///
/// # Errors
///
/// [`Error::Read`] or [`Error::Write`] with the system's reason.
pub fn sweep_temporaries(files: &dyn FileSystem, directory: &Path) -> Result<usize, Error> {
    let mut swept = 0;
    for name in files.list(directory).map_err(Error::read(directory))? {
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            let path = directory.join(&name);
            files.remove(&path).map_err(Error::write(&path, "removing a stale temporary file"))?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// All of [`write_atomically_on`] but the last part: the content is durable, its name is not until
/// [`sync_folder_of`]. So that two files in one folder cost one fsync of it.
pub(crate) fn replace(files: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    by_a_temporary(files, path, |file, temporary| fill(files, file, temporary, path, bytes))
}

/// Replaces `to`, like [`replace`], with the bytes `range` of the file `from`, which may be `to` itself. Holds no more
/// than a chunk of them in memory.
pub(crate) fn copy(files: &dyn FileSystem, from: &Path, range: Range<u64>, to: &Path) -> Result<(), Error> {
    by_a_temporary(files, to, |mut file, temporary| {
        let written = for_each_chunk(files, from, range.clone(), |chunk| {
            file.write_all(chunk).map_err(Error::write(to, "writing"))
        })?;
        file.sync().map_err(Error::write(to, "fsync"))?;
        drop(file);
        let stored = for_each_chunk(files, temporary, 0..range.end - range.start, |_| Ok(()))?;
        if stored == written { Ok(()) } else { Err(Error::corrupt(to, &written, &stored)) }
    })
}

/// Shows `visit` the bytes `range` of a file and gives their SHA-256.
fn for_each_chunk(
    files: &dyn FileSystem,
    path: &Path,
    range: Range<u64>,
    mut visit: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<[u8; 32], Error> {
    let mut hasher = Sha256::new();
    let mut at = range.start;
    while at < range.end {
        let limit = CHUNK_BYTES.min(usize::try_from(range.end - at).unwrap_or(CHUNK_BYTES));
        let chunk = files.read_at(path, at, limit).map_err(Error::read(path))?;
        if chunk.is_empty() {
            return Err(Error::read(path)(io::ErrorKind::UnexpectedEof.into()));
        }
        visit(&chunk)?;
        hasher.update(&chunk);
        at += chunk.len() as u64;
    }
    Ok(hasher.finalize().into())
}

/// Has `fill` write and prove a temporary file, and gives it the name `path`.
fn by_a_temporary(
    files: &dyn FileSystem,
    path: &Path,
    fill: impl FnOnce(Box<dyn Writable>, &Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let (temporary, file) = create_temporary(files, path)?;
    let replaced = fill(file, &temporary).and_then(|()| {
        files.rename(&temporary, path).map_err(Error::write(path, "renaming the temporary file"))
    });
    if replaced.is_err() {
        // The first error is the one to report; what cannot be removed now is swept later.
        let _ = files.remove(&temporary);
    }
    replaced
}

pub(crate) fn sync_folder_of(files: &dyn FileSystem, path: &Path) -> Result<(), Error> {
    files.sync_dir(folder_of(path)).map_err(Error::write(path, "fsync of its folder"))
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes the temporary and proves that the disk gives the same bytes back.
fn fill(
    files: &dyn FileSystem,
    mut file: Box<dyn Writable>,
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<(), Error> {
    file.write_all(bytes).map_err(Error::write(path, "writing"))?;
    file.sync().map_err(Error::write(path, "fsync"))?;
    drop(file);
    let stored = files.read(temporary, bytes.len() as u64).map_err(Error::write(path, "reading back"))?;
    let sha256 = |bytes: &[u8]| Sha256::digest(bytes).into();
    if stored == bytes { Ok(()) } else { Err(Error::corrupt(path, &sha256(bytes), &sha256(&stored))) }
}

/// The first free name of a fixed sequence: without randomness a simulated run is the same each time.
fn create_temporary(files: &dyn FileSystem, path: &Path) -> Result<(PathBuf, Box<dyn Writable>), Error> {
    let failed = Error::write(path, "creating a temporary file beside it");
    let Some(name) = path.file_name() else {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it has no file name")));
    };
    for attempt in 0..MAX_TEMPORARIES {
        let mut temporary = OsString::from(PREFIX);
        temporary.push(name);
        temporary.push(format!("-{attempt}{SUFFIX}"));
        let temporary = folder_of(path).join(temporary);
        match files.create_new(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{MAX_TEMPORARIES} stale ones are there, remove {PREFIX}*{SUFFIX}"),
    )))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_the_whole_file_and_leaves_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.json");
        write_atomically(&path, b"a long first version").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(directory.path()), ["summary.json"]);
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("absent").join("summary.json");
        let message = write_atomically(&path, b"{}").unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains("creating a temporary file"), "{message}");
    }

    #[test]
    fn an_unwritable_directory_is_an_error_that_names_the_path() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let closed = directory.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
        let path = closed.join("summary.json");
        // The superuser may write anywhere; then there is nothing to refuse.
        if let Err(error) = write_atomically(&path, b"{}") {
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert_eq!(names(&closed), Vec::<String>::new());
        }
    }

    #[test]
    fn a_failed_rename_keeps_what_was_there_and_removes_the_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.json");
        fs::create_dir(&path).unwrap();
        let message = write_atomically(&path, b"{}").unwrap_err().to_string();
        assert!(message.contains("renaming") && message.contains(path.to_str().unwrap()), "{message}");
        assert_eq!(names(directory.path()), ["summary.json"]);
        assert!(path.is_dir());
    }

    #[test]
    fn a_result_is_readable_as_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (plain, atomic) = (directory.path().join("plain"), directory.path().join("atomic"));
        fs::write(&plain, b"").unwrap();
        write_atomically(&atomic, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&atomic), mode(&plain));
    }

    #[test]
    fn a_stale_temporary_stands_in_no_way_and_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("term");
        fs::write(directory.path().join(".lockstep-term-0.tmp"), b"half").unwrap();
        fs::write(directory.path().join(".hidden"), b"mine").unwrap();
        write_atomically(&path, b"whole").unwrap();
        assert_eq!(names(directory.path()), [".hidden", ".lockstep-term-0.tmp", "term"]);
        assert_eq!(sweep_temporaries(&Disk, directory.path()).unwrap(), 1);
        assert_eq!(names(directory.path()), [".hidden", "term"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn the_search_for_a_free_name_ends() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..MAX_TEMPORARIES {
            fs::write(directory.path().join(format!(".lockstep-term-{number}.tmp")), b"").unwrap();
        }
        let message = write_atomically(&directory.path().join("term"), b"x").unwrap_err().to_string();
        assert!(message.contains("64 stale ones are there, remove .lockstep-*.tmp"), "{message}");
        assert!(write_atomically(Path::new("/"), b"x").unwrap_err().to_string().contains("no file name"));
    }
}
