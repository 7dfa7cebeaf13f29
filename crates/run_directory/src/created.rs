//! What a start has made on the disk: taken away again if the start comes to nothing, on whatever way out.
//!
//! Removes only what was not there before and is a file or folder of the run. Whoever has one of these for a run's
//! directory holds the run's lock, and so nobody else writes there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep_checkpoint::write_atomically;

use super::{RunDirectory, is_temporary};

/// It is taken away when this is dropped, unless it is kept.
#[derive(Debug)]
pub struct Created {
    directory: RunDirectory,
    /// All that was in the directory before.
    before: BTreeSet<PathBuf>,
    /// Files elsewhere.
    others: RefCell<Vec<PathBuf>>,
    /// Files that were written anew, with what they had in them.
    replaced: RefCell<Vec<(PathBuf, Vec<u8>)>>,
    /// A descriptor for the way back: whoever came to nothing for want of one has none left to look around with.
    spare: RefCell<Option<File>>,
    kept: Arc<AtomicBool>,
}

impl Created {
    /// Everything that comes into `directory` from now on, and the directory itself if this process made it. Its lock is
    /// held by now, and is part of it unless it `was_locked_before`.
    ///
    /// # Errors
    ///
    /// If the system does not let us see what is there.
    pub fn in_directory(directory: &RunDirectory, was_locked_before: bool) -> io::Result<Self> {
        let mut before: BTreeSet<PathBuf> = below(directory.path())?.into_iter().collect();
        if !was_locked_before {
            before.remove(&directory.lock());
        }
        Ok(Self {
            directory: directory.clone(),
            before,
            others: RefCell::default(),
            replaced: RefCell::default(),
            spare: RefCell::new(Some(File::open(directory.path())?)),
            kept: Arc::default(),
        })
    }

    /// A new file that lies elsewhere is part of it, too.
    pub fn add(&self, path: &Path) {
        self.others.borrow_mut().push(path.to_path_buf());
    }

    /// The file at `path` is about to be written anew; it gets back what it has now.
    pub fn replace(&self, path: &Path) {
        if let Ok(content) = fs::read(path) {
            self.replaced.borrow_mut().push((path.to_path_buf(), content));
        }
    }

    /// The start came to something: all of it stays.
    pub fn keep(&self) {
        self.spare.take();
        self.kept.store(true, Ordering::Relaxed);
    }

    /// To be set by whoever has the start come to something later.
    pub fn when_kept(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.kept)
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        self.spare.take();
        // Whatever cannot be removed or written stays as it is: there is nobody left to tell.
        for (path, content) in self.replaced.take() {
            let _ = write_atomically(&path, &content);
        }
        for path in self.others.take() {
            let _ = fs::remove_file(path);
        }
        let lock = self.directory.lock();
        let made = |path: &&PathBuf| !self.before.contains(*path) && **path != lock;
        // What is in a folder stands behind it.
        for path in below(self.directory.path()).unwrap_or_default().iter().rev().filter(made) {
            if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                // It refuses a folder that holds anything.
                let _ = fs::remove_dir(path);
            } else if self.directory.owns(path) || is_temporary(path) {
                let _ = fs::remove_file(path);
            }
        }
        // As long as it is there, nobody else begins a run.
        if !self.before.contains(&lock) {
            let _ = fs::remove_file(lock);
        }
        self.directory.discard();
    }
}

/// All that is in a run's directory: a folder, then what is in it.
fn below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![(directory.to_path_buf(), RunDirectory::DEPTH)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            // What only the system may look into is none of a run's.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && folder != directory => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((entry.path(), depth - 1));
            }
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start in the folder `path` that has got as far as it can.
    fn start(path: &Path) -> (RunDirectory, Created) {
        let directory = RunDirectory::create(path).unwrap();
        let was_locked_before = directory.lock().exists();
        fs::write(directory.lock(), "").unwrap();
        let created = Created::in_directory(&directory, was_locked_before).unwrap();
        for file in [directory.config(), directory.token(), directory.steps_log(), directory.metrics()] {
            created.replace(&file);
            fs::write(file, "new").unwrap();
        }
        for folder in [directory.checkpoints(), directory.tensorboard().join("train"), directory.logs()] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), "new").unwrap();
        }
        fs::write(path.join(".lockstep-1"), "torn").unwrap();
        (directory, created)
    }

    #[test]
    fn what_was_made_goes_and_what_was_there_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let elsewhere = scratch.path().join("trace.json");
        let path = scratch.path().join("deep/er/run");
        let (_, created) = start(&path);
        fs::write(&elsewhere, "new").unwrap();
        created.add(&elsewhere);
        drop(created);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "the folders above it as well");

        fs::create_dir(scratch.path().join("deep")).unwrap();
        fs::create_dir(scratch.path().join("deep/er")).unwrap();
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("logs")).unwrap();
        for (name, content) in [("lost+found", "theirs"), ("token", "old"), ("logs/local-1.log", "old")] {
            fs::write(path.join(name), content).unwrap();
        }
        let before = below(&path).unwrap();
        let (directory, created) = start(&path);
        drop(created);
        let content = |name: &str| fs::read_to_string(path.join(name)).unwrap();
        assert_eq!(below(&path).unwrap().len(), before.len(), "{before:?}");
        assert_eq!([content("lost+found"), content("token")], ["theirs", "old"]);

        let (_, created) = start(&path);
        fs::write(path.join("somebody's"), "theirs").unwrap();
        drop(created);
        assert_eq!(content("somebody's"), "theirs");
        fs::remove_file(path.join("somebody's")).unwrap();

        let (_, created) = start(&path);
        created.keep();
        drop(created);
        assert!(directory.config().exists() && directory.checkpoints().join("file").exists());
    }
}
