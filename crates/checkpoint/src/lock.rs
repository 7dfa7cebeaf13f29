//! The lock on a run's directory: one coordinator at a time on one machine.
//!
//! Owns the file `lock` and the system's lock on it, which ends with the process, however it ends. The file stays: it is
//! removed only where locking fails and this process had made it. Does not fence other machines, nor this one where the
//! file system has no locks; the term does.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use crate::Error;

/// The digits of a process id and a line's end.
const MAX_HOLDER_BYTES: u64 = 11;

/// Each try again means that another process has just failed to start here.
const MAX_TRIES: u32 = 16;

/// A lock, held unless the file system has none; dropping it, or the end of the process, gives it back.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
    /// The directory, if nothing locks it.
    unlocked: Option<PathBuf>,
}

impl RunLock {
    /// Locks `directory` for this process, at once or not at all. Where the file system has no locks, this succeeds
    /// without one; see [`RunLock::note`].
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] naming the process that holds it; [`Error::Write`] if the file cannot be made or locked. No
    /// file is left behind that was not there before.
    pub fn acquire(directory: &Path) -> Result<Self, Error> {
        Self::acquire_by(directory, |file| flock(file, FlockOperation::NonBlockingLockExclusive))
    }

    /// What people should know: a sentence where nothing is locked.
    pub fn note(&self) -> Option<String> {
        let directory = self.unlocked.as_ref()?.display();
        Some(format!(
            "the file system of {directory} has no locks: see that no second coordinator is started there; the run \
             would go on in the newest, and all others end"
        ))
    }

    fn acquire_by(directory: &Path, lock: impl Fn(&File) -> rustix::io::Result<()>) -> Result<Self, Error> {
        let path = directory.join("lock");
        for _ in 0..MAX_TRIES {
            let (mut file, made_here) = open(&path).map_err(Error::write(&path, "opening"))?;
            let mut unlocked = None;
            match lock(&file) {
                // Another process may have removed the file since it was opened here.
                Ok(()) if !is_at(&file, &path) => continue,
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let holder = holder(&mut file);
                    return Err(Error::Locked { directory: directory.to_path_buf(), holder });
                }
                Err(Errno::NOSYS | Errno::NOLCK | Errno::OPNOTSUPP) => {
                    unlocked = Some(directory.to_path_buf());
                }
                Err(error) => return Err(refused(&path, made_here, "locking", error.into())),
            }
            if let Err(error) = sign(&mut file) {
                return Err(refused(&path, made_here, "writing our process id", error));
            }
            return Ok(Self { _file: file, unlocked });
        }
        let changing = io::Error::other("other processes make and remove it all the time");
        Err(Error::write(&path, "locking")(changing))
    }
}

/// Opens the file, and says whether it was made by that.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    // Not truncated: until it is locked, what is in it is another's.
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return Ok((opened?, false)),
    }
    match options.clone().create_new(true).open(path) {
        // Made in between, by another process.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok((options.open(path)?, false)),
        made => Ok((made?, true)),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(opened), Ok(named)) => identity(opened) == identity(named),
        _ => false,
    }
}

/// The disk is as it was before. Who has opened the file by now sees that it is gone, and tries again.
fn refused(path: &Path, made_here: bool, action: &'static str, error: io::Error) -> Error {
    if made_here {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
    }
    Error::write(path, action)(error)
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", process::id())
}

/// The process that has written its id; nobody may have, in the instant between locking and writing.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_HOLDER_BYTES).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_second_one_is_refused_by_pid_until_the_first_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        // A longer id of an earlier holder must not shine through.
        fs::write(directory.path().join("lock"), "4294967295\n").unwrap();
        let lock = RunLock::acquire(directory.path()).unwrap();
        let error = RunLock::acquire(directory.path()).unwrap_err();
        let Error::Locked { directory: named, holder } = &error else { panic!("{error}") };
        assert_eq!((named.as_path(), *holder), (directory.path(), Some(process::id())));
        assert!(error.to_string().contains(&format!("by process {}", process::id())), "{error}");
        drop(lock);
        RunLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_file_system_without_locks_is_another_thing_than_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        for missing in [Errno::NOSYS, Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOTSUP] {
            let lock = RunLock::acquire_by(directory.path(), |_| Err(missing)).unwrap();
            let note = lock.note().unwrap();
            assert!(note.contains(directory.path().to_str().unwrap()) && note.contains("no locks"), "{note}");
        }
        assert_eq!(RunLock::acquire(directory.path()).unwrap().note(), None);
        // What was there before stays.
        RunLock::acquire_by(directory.path(), |_| Err(Errno::IO)).unwrap_err();
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        let error = RunLock::acquire_by(directory.path(), |_| Err(Errno::IO)).unwrap_err();
        assert!(matches!(error, Error::Write { action: "locking", .. }), "{error}");
        assert!(!path.exists(), "a failed start leaves the directory as it was");
    }

    #[test]
    fn a_file_that_is_removed_while_it_is_locked_is_not_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let tries = std::cell::Cell::new(0);
        let lock = RunLock::acquire_by(directory.path(), |_| {
            tries.set(tries.get() + 1);
            if tries.get() == 1 { fs::remove_file(&path).map_err(|_| Errno::IO) } else { Ok(()) }
        });
        assert!(lock.is_ok() && path.exists() && tries.get() == 2);
    }

    #[test]
    fn an_unsigned_lock_and_a_missing_directory_are_errors_too() {
        let directory = tempfile::tempdir().unwrap();
        let _lock = RunLock::acquire(directory.path()).unwrap();
        fs::write(directory.path().join("lock"), "").unwrap();
        let message = RunLock::acquire(directory.path()).unwrap_err().to_string();
        assert!(message.contains("is in use: only one"), "{message}");
        let absent = directory.path().join("absent");
        assert!(matches!(RunLock::acquire(&absent), Err(Error::Write { action: "opening", .. })));
    }
}
