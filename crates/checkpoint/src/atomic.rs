//! Writes a whole file or nothing: a temporary beside it, fsync, read back, rename, fsync of the directory.
//!
//! Never retries a failed fsync: after one, Linux may have dropped the dirty pages, and a second call would report
//! success for data that is gone. The temporary is removed and the error handed up.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::Error;

/// Replaces `path` with `bytes`, durably and in one instant: a reader, or a crash at any moment, sees the old file or
/// the new one, complete.
///
/// # Errors
///
/// [`Error::Write`] naming the part that failed, or [`Error::Corrupt`]; `path` is then as it was before, unless it is
/// the last part (the directory's fsync) that failed. No temporary file is left behind.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |action: &'static str| {
        move |source: io::Error| Error::Write { path: path.to_path_buf(), action, source }
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };

    let mut temporary = named_temporary(directory).map_err(failed("creating a temporary file beside it"))?;
    temporary.as_file_mut().write_all(bytes).map_err(failed("writing"))?;
    temporary.as_file().sync_all().map_err(failed("fsync"))?;

    let stored = fs::read(temporary.path()).map_err(failed("reading back"))?;
    let (expected, actual) = (sha256_hex(bytes), sha256_hex(&stored));
    if expected != actual {
        return Err(Error::Corrupt { path: path.to_path_buf(), expected, actual });
    }

    temporary.persist(path).map_err(|error| failed("renaming the temporary file")(error.error))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("fsync of its directory"))
}

fn named_temporary(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lockstep-").suffix(".tmp");
    // Temporaries are private by default; this one becomes a result that others may read, as the umask allows.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}

fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
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

    #[cfg(unix)]
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

    #[cfg(unix)]
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
}
