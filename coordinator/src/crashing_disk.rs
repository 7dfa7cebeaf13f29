//! The file system of the journal and of a run's results: the real one, which can be told to fail, to hang or to die
//! before any one of its operations.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_checkpoint::{Disk, FileSystem, Writable};
use lockstep_failpoints::crash::{self, Fault};

/// The disk.
pub struct CrashingDisk(Operations);

/// An open file on it.
struct CrashingFile {
    file: Box<dyn Writable>,
    operations: Operations,
}

/// Operations, numbered from 1 as points of this name.
#[derive(Clone)]
pub struct Operations {
    name: &'static str,
    count: Arc<AtomicU64>,
}

impl Operations {
    /// None yet.
    pub fn named(name: &'static str) -> Self {
        Self { name, count: Arc::default() }
    }

    /// The next one begins.
    ///
    /// # Errors
    ///
    /// If it is to find no space.
    pub fn next(&self) -> io::Result<()> {
        match crash::fault(self.name, self.count.fetch_add(1, Ordering::Relaxed) + 1) {
            None => Ok(()),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Stall(until)) => {
                while !until.as_ref().is_some_and(|file| file.exists()) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            }
        }
    }
}

impl CrashingDisk {
    /// What the journal is written to.
    pub fn of_journal() -> Self {
        Self(Operations::named("disk"))
    }

    /// What the results at the end are written to.
    pub fn of_results() -> Self {
        Self(Operations::named("results"))
    }

    fn open(&self, file: Box<dyn Writable>) -> Box<dyn Writable> {
        Box::new(CrashingFile { file, operations: self.0.clone() })
    }
}

impl FileSystem for CrashingDisk {
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.0.next()?;
        Disk.create_dir(directory)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        self.0.next()?;
        Disk.create_new(path).map(|file| self.open(file))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        self.0.next()?;
        Disk.append(path).map(|file| self.open(file))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        Disk.read(path, limit)
    }

    fn read_at(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        Disk.read_at(path, offset, limit)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Disk.len(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        Disk.list(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.next()?;
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.next()?;
        Disk.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.0.next()?;
        Disk.sync_dir(directory)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Disk.exists(path)
    }
}

impl Writable for CrashingFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.operations.next()?;
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.operations.next()?;
        self.file.sync()
    }
}
