//! The journal's file system: the real one, which can be told to die before any one of its operations.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_checkpoint::{Disk, Files, Writable};
use lockstep_worker::crash;

/// The disk; its operations are numbered from 1, as points named `disk`.
#[derive(Default)]
pub struct CrashingDisk {
    operations: Arc<AtomicU64>,
}

/// An open file on it.
struct CrashingFile {
    file: Box<dyn Writable>,
    operations: Arc<AtomicU64>,
}

fn count(operations: &AtomicU64) {
    crash::point("disk", operations.fetch_add(1, Ordering::Relaxed) + 1);
}

impl CrashingDisk {
    fn open(&self, file: Box<dyn Writable>) -> Box<dyn Writable> {
        Box::new(CrashingFile { file, operations: Arc::clone(&self.operations) })
    }
}

impl Files for CrashingDisk {
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        count(&self.operations);
        Disk.create_dir(directory)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        count(&self.operations);
        Disk.create_new(path).map(|file| self.open(file))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        count(&self.operations);
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
        count(&self.operations);
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        count(&self.operations);
        Disk.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        count(&self.operations);
        Disk.sync_dir(directory)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Disk.exists(path)
    }
}

impl Writable for CrashingFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        count(&self.operations);
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        count(&self.operations);
        self.file.sync()
    }
}
