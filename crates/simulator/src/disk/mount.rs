//! The calls of the file system, on a virtual disk.

use std::io;
use std::path::{Path, PathBuf};

use lockstep_checkpoint::{FileSystem, Writable};

use super::{Change, Content, Mount};

struct Handle {
    mount: Mount,
    path: PathBuf,
    content: u64,
}

impl FileSystem for Mount {
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let (mut state, entered) = self.begin("before a folder is made", directory);
        entered?;
        if state.folders.insert(directory.to_path_buf()) {
            state.pending.push(Change::Folder { path: directory.to_path_buf() });
        }
        Ok(())
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        let (mut state, entered) = self.begin("before a file is made", path);
        entered?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|folder| state.folders.contains(folder)) {
            return Err(not_found());
        }
        let content = state.next;
        state.next += 1;
        state.contents.insert(content, Content::default());
        state.names.insert(path.to_path_buf(), content);
        state.pending.push(Change::Link { path: path.to_path_buf(), content });
        Ok(Box::new(Handle { mount: self.clone(), path: path.to_path_buf(), content }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        let (state, entered) = self.begin("before a file is opened", path);
        entered?;
        let content = *state.names.get(path).ok_or_else(not_found)?;
        Ok(Box::new(Handle { mount: self.clone(), path: path.to_path_buf(), content }))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let state = &mut *state;
        if state.dead.contains(&self.process) {
            return Err(io::Error::other("the process is dead"));
        }
        let content = state.names.get(path).and_then(|content| state.contents.get(content));
        let content = content.ok_or_else(not_found)?;
        if content.bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if state.rng.happens(state.errors / 4) {
            *state.faults.entry("read failed").or_default() += 1;
            return Err(io::Error::other("input/output error"));
        }
        Ok(content.bytes.clone())
    }

    fn read_at(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        let whole = self.read(path, u64::MAX)?;
        let from = usize::try_from(offset).map_or(whole.len(), |offset| offset.min(whole.len()));
        let to = from.saturating_add(limit).min(whole.len());
        Ok(whole[from..to].to_vec())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.read(path, u64::MAX)?.len() as u64)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_string())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, entered) = self.begin("at a renaming", to);
        if entered.is_err() && !(state.was_killed(self.process) && state.rng.happens(500)) {
            return entered;
        }
        let content = state.names.remove(from).ok_or_else(not_found)?;
        state.names.insert(to.to_path_buf(), content);
        state.pending.push(Change::Rename { from: from.to_path_buf(), to: to.to_path_buf(), content });
        entered
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, entered) = self.begin("before a file is removed", path);
        entered?;
        state.names.remove(path).ok_or_else(not_found)?;
        state.pending.push(Change::Unlink { path: path.to_path_buf() });
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let (mut state, entered) = self.begin("before a folder's sync", directory);
        entered?;
        let state = &mut *state;
        let failed = state.rng.happens(state.failed_syncs);
        let pending = std::mem::take(&mut state.pending);
        for change in pending {
            let path = match &change {
                Change::Link { path, .. } | Change::Unlink { path } | Change::Folder { path } => path,
                Change::Rename { to, .. } => to,
            };
            // A disk that forgot a new folder for good would leave nothing to do but to take another folder.
            let waits = failed && matches!(change, Change::Folder { .. });
            if path.parent() != Some(directory) || waits {
                state.pending.push(change);
            } else if !failed || state.rng.happens(500) {
                // After a failed one some are durable, and the others never will be.
                state.make_durable(change);
            }
        }
        if failed {
            *state.faults.entry("folder's sync failed").or_default() += 1;
            return Err(io::Error::other("input/output error at the folder's sync"));
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        Ok(state.names.contains_key(path) || state.folders.contains(path))
    }
}

impl Writable for Handle {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let process = self.mount.process;
        let (mut state, mut entered) = self.mount.begin("in the middle of a write", &self.path);
        let state = &mut *state;
        if state.full {
            *state.faults.entry("write to a full disk").or_default() += 1;
            entered = entered.and(Err(io::ErrorKind::StorageFull.into()));
        }
        let written = match &entered {
            Ok(()) => bytes.len(),
            Err(_) if state.dead.contains(&process) && !state.was_killed(process) => 0,
            Err(_) => state.rng.below(bytes.len() as u64 + 1) as usize,
        };
        if let Some(content) = state.contents.get_mut(&self.content) {
            content.bytes.extend_from_slice(&bytes[..written]);
        }
        entered
    }

    fn sync(&mut self) -> io::Result<()> {
        let (mut state, entered) = self.mount.begin("before a file's sync", &self.path);
        entered?;
        let state = &mut *state;
        let failed = state.rng.happens(state.failed_syncs);
        if let Some(content) = state.contents.get_mut(&self.content) {
            if failed {
                // The system forgets that these bytes are not on the disk.
                content.lost.push(content.synced..content.bytes.len());
            }
            content.synced = content.bytes.len();
        }
        if failed {
            *state.faults.entry("file's sync failed").or_default() += 1;
            return Err(io::Error::other("input/output error at the file's sync"));
        }
        Ok(())
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}
