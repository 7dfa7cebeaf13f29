//! A virtual disk: what was not synced may be lost or torn in a crash, calls may fail, files may rot.
//!
//! It promises what POSIX promises and no more: a file's bytes after its sync, a name after the sync of its folder.
//! Nothing here knows what the files are for.

mod mount;
mod stall;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rng::Rng;

/// A disk; processes see it through their mounts.
#[derive(Clone, Debug)]
pub struct VirtualDisk(Arc<Mutex<State>>);

/// A disk as one process sees it.
#[derive(Clone, Debug)]
pub struct Mount {
    disk: VirtualDisk,
    process: usize,
}

/// What is on the disk, what would be after a crash, and what is about to go wrong.
#[derive(Debug)]
struct State {
    contents: BTreeMap<u64, Content>,
    next: u64,
    names: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
    durable_names: BTreeMap<PathBuf, u64>,
    durable_folders: BTreeSet<PathBuf>,
    /// Changes of names that no sync of their folder has made durable, in order.
    pending: Vec<Change>,
    rng: Rng,
    /// Calls in a thousand that fail.
    errors: u32,
    /// Syncs in a thousand that fail.
    failed_syncs: u32,
    full: bool,
    /// The process to be killed, and so many calls before.
    armed: Option<(usize, u64)>,
    killed: Option<(usize, &'static str, &'static str)>,
    stall: Option<stall::Stall>,
    dead: BTreeSet<usize>,
    faults: BTreeMap<&'static str, u64>,
}

/// The bytes of a file. Files are only appended to.
#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// So many bytes are durable, but for those that a failed sync lost.
    synced: usize,
    lost: Vec<Range<usize>>,
}

#[derive(Clone, Debug)]
enum Change {
    Link { path: PathBuf, content: u64 },
    Rename { from: PathBuf, to: PathBuf, content: u64 },
    Unlink { path: PathBuf },
    Folder { path: PathBuf },
}

/// What a crash loses of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: it was no crash.
    Nothing,
    /// All of it.
    Everything,
    /// Whatever chance takes: what is left is a prefix, zeros, some of the names.
    Some,
}

impl VirtualDisk {
    /// An empty disk with one folder.
    pub fn new(folder: &Path, rng: Rng) -> Self {
        let folders = BTreeSet::from([folder.to_path_buf()]);
        Self(Arc::new(Mutex::new(State {
            contents: BTreeMap::new(),
            next: 0,
            names: BTreeMap::new(),
            durable_folders: folders.clone(),
            folders,
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            rng,
            errors: 0,
            failed_syncs: 0,
            full: false,
            armed: None,
            killed: None,
            stall: None,
            dead: BTreeSet::new(),
            faults: BTreeMap::new(),
        })))
    }

    /// The disk as a process sees it.
    pub fn open(&self, process: usize) -> Mount {
        Mount { disk: self.clone(), process }
    }

    /// How many calls, and how many syncs, in a thousand fail from now on.
    pub fn set_faults(&self, errors: u32, failed_syncs: u32) {
        let mut state = self.state();
        (state.errors, state.failed_syncs) = (errors, failed_syncs);
    }

    /// Whether there is no room any more.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Has a process killed after so many calls that change something.
    pub fn arm(&self, process: usize, calls: u64) {
        self.state().armed = Some((process, calls));
    }

    /// Nobody is to be killed any more.
    pub fn disarm(&self) {
        self.state().armed = None;
    }

    /// At which call a process was killed, and what kind of file that was about.
    pub fn killed(&self, process: usize) -> Option<(&'static str, &'static str)> {
        let mut state = self.state();
        let (_, point, file) = state.killed.take_if(|(killed, _, _)| *killed == process)?;
        Some((point, file))
    }

    /// A process is no more.
    pub fn close(&self, process: usize) {
        let mut state = self.state();
        state.dead.insert(process);
        state.armed = None;
        state.stall.take_if(|stall| stall.is_of(process));
    }

    /// The machine loses its power: what was not synced is lost, or some of it.
    pub fn crash(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let loss = if state.rng.happens(400) { Loss::Everything } else { Loss::Some };
        let mut rng = Rng::new(state.rng.below(u64::MAX), crate::rng::Subject::Disk);
        state.crash(loss, &mut rng);
        *state.faults.entry("unsynced writes lost").or_default() += 1;
    }

    /// A copy of the disk as it would be after a crash now; nothing fails there.
    pub fn after_crash(&self, loss: Loss, rng: &mut Rng) -> Self {
        let state = self.state();
        let mut copy = State {
            contents: state.contents.clone(),
            next: state.next,
            names: state.names.clone(),
            folders: state.folders.clone(),
            durable_names: state.durable_names.clone(),
            durable_folders: state.durable_folders.clone(),
            pending: state.pending.clone(),
            rng: Rng::new(0, crate::rng::Subject::Disk),
            errors: 0,
            failed_syncs: 0,
            full: false,
            armed: None,
            killed: None,
            stall: None,
            dead: BTreeSet::new(),
            faults: BTreeMap::new(),
        };
        if loss != Loss::Nothing {
            copy.crash(loss, rng);
        }
        Self(Arc::new(Mutex::new(copy)))
    }

    /// Flips one bit of a file at rest, in the part of it that `part` picks; says which one, if there is such a part.
    pub fn rot(&self, path: &Path, part: impl Fn(&[u8]) -> Range<usize>) -> Option<String> {
        let mut state = self.state();
        let state = &mut *state;
        let content = state.contents.get_mut(state.names.get(path)?)?;
        let part = part(&content.bytes);
        if part.is_empty() {
            return None;
        }
        let bit = 8 * part.start as u64 + state.rng.below(8 * part.len() as u64);
        content.bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        Some(format!("bit {bit} of {}", path.display()))
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.state().full
    }

    /// How many calls have failed so far.
    pub fn failed_calls(&self) -> u64 {
        self.state().faults.values().sum()
    }

    /// Every file's name.
    pub fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// What went wrong so far, by class.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.state().faults.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn crash(&mut self, loss: Loss, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let kept = match loss {
            Loss::Nothing | Loss::Everything => 0,
            Loss::Some => rng.below(pending.len() as u64 + 1) as usize,
        };
        // Mostly a prefix, as of a journal; sometimes whatever the disk got to.
        let any = loss == Loss::Some && rng.happens(300);
        for (place, change) in pending.into_iter().enumerate() {
            if if any { rng.happens(500) } else { place < kept } {
                self.make_durable(change);
            }
        }
        self.folders = self.durable_folders.clone();
        let folders = &self.folders;
        self.durable_names.retain(|path, _| path.parent().is_some_and(|folder| folders.contains(folder)));
        self.names = self.durable_names.clone();
        let linked: BTreeSet<u64> = self.names.values().copied().collect();
        self.contents.retain(|content, _| linked.contains(content));
        for content in self.contents.values_mut() {
            content.crash(loss, rng);
        }
    }

    fn make_durable(&mut self, change: Change) {
        match change {
            Change::Link { path, content } => drop(self.durable_names.insert(path, content)),
            Change::Rename { from, to, content } => {
                if self.durable_names.get(&from) == Some(&content) {
                    self.durable_names.remove(&from);
                }
                self.durable_names.insert(to, content);
            }
            Change::Unlink { path } => drop(self.durable_names.remove(&path)),
            Change::Folder { path } => drop(self.durable_folders.insert(path)),
        }
    }

    /// The call that is about to change something: whether it fails, or its process is killed at it.
    fn enter(&mut self, process: usize, call: &'static str, path: &Path) -> io::Result<()> {
        if self.dead.contains(&process) {
            return Err(io::Error::other("the process is dead"));
        }
        if let Some((armed, calls)) = &mut self.armed
            && *armed == process
        {
            if *calls == 0 {
                self.armed = None;
                self.killed = Some((process, call, kind(path)));
                self.dead.insert(process);
                return Err(io::Error::other("the process is killed"));
            }
            *calls -= 1;
        }
        if self.rng.happens(self.errors) {
            *self.faults.entry("call of the disk failed").or_default() += 1;
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }

    fn was_killed(&self, process: usize) -> bool {
        self.killed.is_some_and(|(killed, ..)| killed == process)
    }
}

impl Content {
    fn crash(&mut self, loss: Loss, rng: &mut Rng) {
        let unsynced = (self.bytes.len() - self.synced) as u64;
        let kept = match loss {
            Loss::Nothing | Loss::Everything => 0,
            Loss::Some => rng.below(unsynced + 1) as usize,
        };
        self.bytes.truncate(self.synced + kept);
        // The length was written and the bytes were not.
        if kept > 0 && rng.happens(300) {
            self.bytes[self.synced..].fill(0);
        }
        for lost in std::mem::take(&mut self.lost) {
            self.bytes[lost].fill(0);
        }
        self.synced = self.bytes.len();
    }
}

impl Mount {
    fn state(&self) -> MutexGuard<'_, State> {
        self.disk.state()
    }

    /// A call that is about to change something, after its process was held at it if it was to be: whether it fails.
    fn begin(&self, call: &'static str, path: &Path) -> (MutexGuard<'_, State>, io::Result<()>) {
        let hold = self.state().held_now(self.process);
        if let Some(hold) = hold {
            hold(call, kind(path));
        }
        let mut state = self.state();
        let entered = state.enter(self.process, call, path);
        (state, entered)
    }
}

/// What kind of file a path names, for the table.
fn kind(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is = |part: &str| name.contains(part);
    match () {
        () if is(".json") => "a checkpoint's manifest",
        () if is(".safetensors") => "a checkpoint's weights",
        () if is("damaged") => "what is set aside of the log",
        () if is("steps.log") => "the log",
        () if is("term") => "the term",
        () if is("checkpoints") => "the checkpoints' folder",
        () => "the run's folder",
    }
}

#[cfg(test)]
mod tests {
    use lockstep_checkpoint::FileSystem;

    use super::*;
    use crate::rng::Subject;

    fn disk() -> (VirtualDisk, Mount) {
        let disk = VirtualDisk::new(Path::new("/run"), Rng::new(1, Subject::Disk));
        let mount = disk.open(0);
        (disk, mount)
    }

    fn content(disk: &VirtualDisk, path: &str) -> Option<Vec<u8>> {
        disk.open(9).read(Path::new(path), 1000).ok()
    }

    #[test]
    fn only_what_was_synced_survives_the_worst_crash() {
        let (disk, mount) = disk();
        let mut file = mount.create_new(Path::new("/run/a")).unwrap();
        file.write_all(b"one").unwrap();
        file.sync().unwrap();
        let rng = &mut Rng::new(2, Subject::Probe);
        assert_eq!(content(&disk.after_crash(Loss::Everything, rng), "/run/a"), None);
        mount.sync_dir(Path::new("/run")).unwrap();
        file.write_all(b"two").unwrap();
        assert_eq!(content(&disk, "/run/a").unwrap(), b"onetwo");
        assert_eq!(content(&disk.after_crash(Loss::Everything, rng), "/run/a").unwrap(), b"one");
        mount.rename(Path::new("/run/a"), Path::new("/run/b")).unwrap();
        let crashed = disk.after_crash(Loss::Everything, rng);
        assert_eq!(
            (content(&crashed, "/run/a").unwrap(), content(&crashed, "/run/b")),
            (b"one".to_vec(), None)
        );
    }

    #[test]
    fn a_crash_may_tear_and_may_keep() {
        let (disk, mount) = disk();
        let mut file = mount.create_new(Path::new("/run/a")).unwrap();
        mount.sync_dir(Path::new("/run")).unwrap();
        file.write_all(&[7; 20]).unwrap();
        let rng = &mut Rng::new(2, Subject::Probe);
        let left: BTreeSet<Vec<u8>> =
            (0..200).filter_map(|_| content(&disk.after_crash(Loss::Some, rng), "/run/a")).collect();
        assert!(left.contains(&vec![7; 20]) && left.contains(&vec![]) && left.contains(&vec![7; 9]));
        assert!(left.contains(&vec![0; 9]), "the length without the bytes");
    }

    #[test]
    fn a_failed_sync_loses_for_good_what_can_still_be_read() {
        let (disk, mount) = disk();
        let mut file = mount.create_new(Path::new("/run/a")).unwrap();
        mount.sync_dir(Path::new("/run")).unwrap();
        file.write_all(b"lost").unwrap();
        disk.set_faults(0, 1000);
        file.sync().unwrap_err();
        disk.set_faults(0, 0);
        file.sync().unwrap();
        assert_eq!(content(&disk, "/run/a").unwrap(), b"lost");
        let crashed = disk.after_crash(Loss::Everything, &mut Rng::new(2, Subject::Probe));
        assert_eq!(content(&crashed, "/run/a").unwrap(), [0; 4]);
    }

    #[test]
    fn a_process_is_killed_at_the_chosen_call_and_does_nothing_after() {
        let (disk, mount) = disk();
        disk.arm(0, 1);
        let mut file = mount.create_new(Path::new("/run/steps.log")).unwrap();
        file.write_all(&[1; 1000]).unwrap_err();
        assert_eq!(disk.killed(0), Some(("in the middle of a write", "the log")));
        assert_eq!(disk.killed(0), None);
        let length = content(&disk, "/run/steps.log").unwrap().len();
        assert!(length < 1000);
        file.write_all(&[1; 1000]).unwrap_err();
        assert_eq!(content(&disk, "/run/steps.log").unwrap().len(), length);
        disk.open(1).create_new(Path::new("/run/b")).unwrap();
    }

    #[test]
    fn a_lost_folder_takes_its_files_along() {
        let (disk, mount) = disk();
        mount.create_dir(Path::new("/run/c")).unwrap();
        mount.create_new(Path::new("/run/c/a")).unwrap();
        mount.sync_dir(Path::new("/run/c")).unwrap();
        let rng = &mut Rng::new(2, Subject::Probe);
        assert_eq!(content(&disk.after_crash(Loss::Everything, rng), "/run/c/a"), None);
        mount.sync_dir(Path::new("/run")).unwrap();
        assert!(content(&disk.after_crash(Loss::Everything, rng), "/run/c/a").is_some());
    }

    #[test]
    fn a_process_is_held_at_the_chosen_call_while_others_go_on() {
        let (disk, mount) = disk();
        disk.arm_stall(0, 1);
        let mut file = mount.create_new(Path::new("/run/steps.log")).unwrap();
        file.sync().unwrap();
        let (seen, other) = (Arc::new(Mutex::new(Vec::new())), disk.open(1));
        let held = Arc::clone(&seen);
        disk.hold_with(Box::new(move |call, file| {
            held.lock().unwrap().push((call, file));
            other.create_new(Path::new("/run/b")).unwrap();
        }));
        assert!(disk.is_stall_armed(0) && !disk.is_stall_armed(1));
        for _ in 0..2 {
            file.write_all(&[1; 10]).unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [("in the middle of a write", "the log")], "once");
        assert_eq!(content(&disk, "/run/steps.log").unwrap().len(), 20);
        assert!(content(&disk, "/run/b").is_some() && !disk.is_stall_armed(0));
    }
}
