//! Everything this crate asks of a file system, and the real one.
//!
//! Owns the line between what is decided here and what a disk may do to it: a simulator supplies another [`FileSystem`] with
//! torn and lost writes, failed fsyncs, a full disk and crashes. Never decides what is written when.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// A file system. What is promised after a crash is no more than POSIX promises: a file's bytes are there once
/// [`Writable::sync`] has returned, its name (or the loss of it) once [`FileSystem::sync_dir`] of its folder has.
pub trait FileSystem: Send + Sync {
    /// Makes the folder `directory`; one that is there already is fine, a missing parent is not.
    ///
    /// # Errors
    /// The system's reason.
    fn create_dir(&self, directory: &Path) -> io::Result<()>;

    /// Makes a new, empty file, open for writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if anything, a symbolic link included, is called so; or the system's reason.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Writable>>;

    /// Opens a file that exists, for writing at its end.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or the system's reason; a symbolic link is refused.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Writable>>;

    /// The whole content of a file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::FileTooLarge`] if it has more than `limit`, before they are read; or the system's reason.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// At most `limit` bytes of a file from byte `offset` on; fewer only where the file ends.
    ///
    /// # Errors
    /// The system's reason.
    fn read_at(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>>;

    /// How many bytes a file has.
    ///
    /// # Errors
    /// The system's reason.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// The names in a folder, sorted. Names that are not UTF-8 are left out: this program gives no such names.
    ///
    /// # Errors
    /// The system's reason.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Gives a file another name in the same folder, in one instant, in place of a file that has that name.
    ///
    /// # Errors
    /// The system's reason.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The system's reason.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable: what was created, renamed and removed there until now.
    ///
    /// # Errors
    /// The system's reason; the names are then as after a crash, and asking again proves nothing.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Whether anything is called so.
    ///
    /// # Errors
    /// The system's reason why this cannot be told.
    fn exists(&self, path: &Path) -> io::Result<bool>;
}

/// A file open for writing at its end; closed when dropped.
pub trait Writable: Send {
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// The system's reason; any prefix of `bytes` may then be in the file.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable.
    ///
    /// # Errors
    /// The system's reason. What was not durable before may be lost for good, although it can be read until the next
    /// crash, and although a second call would succeed: never ask again, write another file.
    fn sync(&mut self) -> io::Result<()>;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl FileSystem for Disk {
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
            made => made,
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        let mut options = OpenOptions::new();
        // The system's own mode: what is written here becomes a result that others may read, as the umask allows.
        options.write(true).create_new(true).custom_flags(no_follow());
        Ok(Box::new(options.open(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        Ok(Box::new(OpenOptions::new().append(true).custom_flags(no_follow()).open(path)?))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        if bytes > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut content = Vec::with_capacity(bytes as usize);
        // The file may grow, or be no regular file: the bound holds for what is read, too.
        file.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(content) }
    }

    fn read_at(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let mut bytes = vec![0; limit];
        let mut filled = 0;
        while filled < limit {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Writable for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_new_file_replaces_nothing_and_follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        Disk.create_new(&path).unwrap().write_all(b"first").unwrap();
        symlink(&path, &link).unwrap();
        symlink(directory.path().join("elsewhere"), directory.path().join("dangling")).unwrap();
        for taken in ["file", "link", "dangling"] {
            let error = Disk.create_new(&directory.path().join(taken)).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{taken}");
            assert!(Disk.exists(&directory.path().join(taken)).unwrap());
        }
        assert!(Disk.append(&link).is_err());
        Disk.append(&path).unwrap().write_all(b", second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first, second");
        assert!(!directory.path().join("elsewhere").exists());
    }

    #[test]
    fn reads_no_more_than_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(Disk.read(&path, 5).unwrap(), b"12345");
        assert_eq!(Disk.read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        // A device has no size of its own.
        assert_eq!(Disk.read(Path::new("/dev/zero"), 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn reads_a_part_and_less_only_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(Disk.read_at(&path, 1, 3).unwrap(), b"234");
        assert_eq!(Disk.read_at(&path, 3, 9).unwrap(), b"45");
        assert_eq!((Disk.read_at(&path, 7, 9).unwrap(), Disk.len(&path).unwrap()), (vec![], 5));
    }

    #[test]
    fn lists_names_in_order_and_keeps_folders_that_are_there() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b", "a"] {
            Disk.create_dir(&directory.path().join(name)).unwrap();
            Disk.create_dir(&directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("c"), b"").unwrap();
        assert_eq!(Disk.list(directory.path()).unwrap(), ["a", "b", "c"]);
        assert!(Disk.create_dir(&directory.path().join("c")).is_err());
        assert!(Disk.create_dir(&directory.path().join("x/y")).is_err());
    }
}
