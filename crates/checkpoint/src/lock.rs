//! The lock on a run's directory: one coordinator at a time on one machine.
//!
//! Owns the file `lock` and the system's lock on it, which ends with the process, however it ends. The file stays: to
//! remove it would let two processes lock two files of one name. Does not fence other machines; the term does.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::Error;

/// The digits of a process id and a line's end.
const MAX_HOLDER_BYTES: u64 = 11;

/// A held lock; dropping it, or the end of the process, gives it back.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Locks `directory` for this process, at once or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] naming the process that holds it; [`Error::Write`] if the file cannot be made or locked.
    pub fn acquire(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("lock");
        // Not truncated: until it is locked, what is in it is another's.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(Error::write(&path, "opening"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Locked { directory: directory.to_path_buf(), holder: holder(&mut file) });
            }
            Err(error) => return Err(Error::write(&path, "locking")(error.into())),
        }
        sign(&mut file).map_err(Error::write(&path, "writing our process id"))?;
        Ok(Self { _file: file })
    }
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
