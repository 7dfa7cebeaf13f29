//! A file system in memory that forgets what POSIX lets a disk forget.
//!
//! Owns the double that the tests of crashes and failures run on: it can crash before any operation, fail any
//! operation, and lists the states in which a crash may leave the disk. Names that were not made durable survive in any
//! combination; bytes that were not are lost, torn or zero. Adversarial, not realistic: no file system is this bad.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use lockstep_checkpoint::{FileSystem, Writable};

/// Every subset of the names that are not durable is tried: a bound on their number.
const MAX_PENDING: usize = 8;
/// Up to so many bytes that are not durable, every prefix is tried.
const MAX_EVERY_PREFIX: usize = 300;

/// Stands for an inode: the name is that of a folder.
const FOLDER: usize = usize::MAX;
/// The one folder that was there before everything.
const ROOT: &str = "/run";

/// A state that the disk may be in: each name with its content; a folder has none.
type Survived = Vec<(PathBuf, Option<Vec<u8>>)>;

/// What goes wrong, by the number of the operation, counted from 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// This operation and all later ones are not done.
    pub crash_at: Option<usize>,
    /// This one fails, with this kind of error.
    pub fail_at: Option<(usize, io::ErrorKind)>,
    /// So do all later ones that would change something; a full disk still lets files be removed.
    pub fail_forever: bool,
    /// Everything written gets one wrong byte, and nothing is said about it.
    pub garble: bool,
}

/// The file system; clones are the same one.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Inode {
    content: Vec<u8>,
    /// How many bytes of the content survive a crash for certain.
    durable: usize,
    /// An fsync failed: what was not durable then never will be.
    sync_failed: bool,
}

#[derive(Clone)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending: Vec<NameChange>,
    plan: Plan,
    done: Vec<&'static str>,
    crashed: bool,
    failed: bool,
    syncs_after_a_failed_one: usize,
    /// The most bytes that one call has asked for.
    largest_read: usize,
}

struct Open {
    memory: Memory,
    inode: usize,
}

impl Memory {
    pub fn new(plan: Plan) -> Self {
        Self(Arc::new(Mutex::new(State { plan, ..State::default() })))
    }

    /// All operations asked for until now, by name.
    pub fn done(&self) -> Vec<&'static str> {
        self.lock().done.clone()
    }

    pub fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Whether anything was made to fail.
    pub fn failed(&self) -> bool {
        self.lock().failed
    }

    /// From now on this goes wrong, operations being counted from here.
    pub fn plan(&self, plan: Plan) {
        let mut state = self.lock();
        state.plan = plan;
        state.done.clear();
    }

    /// How often an fsync was asked for on a file that had a failed one.
    pub fn syncs_after_a_failed_one(&self) -> usize {
        self.lock().syncs_after_a_failed_one
    }

    /// The most bytes that one call has read, or asked for.
    pub fn largest_read(&self) -> usize {
        self.lock().largest_read
    }

    /// From now on only later reads are the largest.
    pub fn forget_reads(&self) {
        self.lock().largest_read = 0;
    }

    /// Changes a file behind everybody's back, as rot does.
    pub fn overwrite(&self, path: &Path, content: &[u8]) {
        let mut state = self.lock();
        let inode = Inode { content: content.to_vec(), durable: content.len(), sync_failed: false };
        state.inodes.push(inode);
        let at = state.inodes.len() - 1;
        state.names.insert(path.to_path_buf(), at);
        state.durable_names.insert(path.to_path_buf(), at);
    }

    /// Every state that the disk may be in after the machine crashes now.
    pub fn after_crash(&self) -> Vec<Self> {
        self.after_crash_with_prefixes(MAX_EVERY_PREFIX)
    }

    /// The same, but of the bytes that are not durable a few prefixes only: for what is torn in many places at once.
    pub fn after_crash_at_ends(&self) -> Vec<Self> {
        self.after_crash_with_prefixes(1)
    }

    fn after_crash_with_prefixes(&self, every_prefix: usize) -> Vec<Self> {
        let state = self.lock();
        assert!(state.pending.len() <= MAX_PENDING, "{} names are not durable", state.pending.len());
        let mut disks = BTreeSet::new();
        for chosen in 0..1_usize << state.pending.len() {
            let mut names = state.durable_names.clone();
            for (bit, change) in state.pending.iter().enumerate() {
                if chosen >> bit & 1 == 1 {
                    change.apply(&mut names);
                }
            }
            let survived = |path: &Path| path == Path::new(ROOT) || names.contains_key(path);
            let reachable = names.iter().filter(|(path, _)| path.parent().is_some_and(survived));
            let names = reachable.map(|(path, inode)| (path.clone(), *inode)).collect();
            add_contents(&state.inodes, every_prefix, names, &mut Vec::new(), &mut disks);
        }
        disks.into_iter().map(Self::on).collect()
    }

    fn on(disk: Survived) -> Self {
        let memory = Self::new(Plan::default());
        for (path, content) in disk {
            match content {
                Some(content) => memory.overwrite(&path, &content),
                None => {
                    memory.lock().names.insert(path.clone(), FOLDER);
                    memory.lock().durable_names.insert(path, FOLDER);
                }
            }
        }
        memory
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts an operation; what is planned for it happens.
    fn begin(&self, operation: &'static str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        let number = state.done.len();
        state.done.push(operation);
        state.crashed |= state.plan.crash_at.is_some_and(|at| at <= number);
        if state.crashed {
            return Err(io::Error::other("crashed"));
        }
        match state.plan.fail_at {
            Some((at, kind)) if at == number || (at < number && state.plan.refuses(operation, kind)) => {
                state.failed = true;
                Err(io::Error::new(kind, format!("planned failure of operation {number}, {operation}")))
            }
            _ => Ok(state),
        }
    }
}

/// Adds to `disks` each way in which the contents of the remaining `names` may have survived.
fn add_contents(
    inodes: &[Inode],
    every_prefix: usize,
    names: Vec<(PathBuf, usize)>,
    chosen: &mut Survived,
    disks: &mut BTreeSet<Survived>,
) {
    let Some((path, inode)) = names.get(chosen.len()) else {
        disks.insert(chosen.clone());
        return;
    };
    let survivals = match *inode {
        FOLDER => vec![None],
        inode => inodes[inode].survivals(every_prefix).into_iter().map(Some).collect(),
    };
    for content in survivals {
        chosen.push((path.clone(), content));
        add_contents(inodes, every_prefix, names.clone(), chosen, disks);
        chosen.pop();
    }
}

impl Inode {
    fn survivals(&self, every_prefix: usize) -> Vec<Vec<u8>> {
        let Self { content, durable, .. } = self;
        let (from, to) = (*durable, content.len());
        let prefixes: BTreeSet<usize> = match to - from {
            unsure if unsure <= every_prefix => (from..=to).collect(),
            _ => [from, from + 1, (from + to) / 2, to - 1, to].into(),
        };
        let mut survivals: Vec<_> = prefixes.into_iter().map(|length| content[..length].to_vec()).collect();
        if from < to {
            // The size reached the disk, the bytes did not.
            let mut zeros = content[..from].to_vec();
            zeros.resize(to, 0);
            survivals.push(zeros);
        }
        survivals
    }
}

impl Plan {
    fn refuses(&self, operation: &str, kind: io::ErrorKind) -> bool {
        match operation {
            "read" | "len" | "list" | "exists" => false,
            "remove" => self.fail_forever && kind != io::ErrorKind::StorageFull,
            _ => self.fail_forever,
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }

    fn is_in(&self, directory: &Path) -> bool {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, ..)) = self;
        path.parent() == Some(directory)
    }
}

impl State {
    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

impl FileSystem for Memory {
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.begin("create_dir")?;
        if !state.names.contains_key(directory) {
            state.change(NameChange::Link(directory.to_path_buf(), FOLDER));
        }
        Ok(())
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        let mut state = self.begin("create_new")?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change(NameChange::Link(path.to_path_buf(), inode));
        Ok(Box::new(Open { memory: self.clone(), inode }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        let inode = self.begin("append")?.inode(path)?;
        Ok(Box::new(Open { memory: self.clone(), inode }))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut state = self.begin("read")?;
        let content = state.inodes[state.inode(path)?].content.clone();
        if content.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        state.largest_read = state.largest_read.max(content.len());
        Ok(content)
    }

    fn read_at(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        let mut state = self.begin("read")?;
        state.largest_read = state.largest_read.max(limit);
        let content = &state.inodes[state.inode(path)?].content;
        let from = (offset as usize).min(content.len());
        Ok(content[from..content.len().min(from + limit)].to_vec())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.begin("len")?;
        Ok(state.inodes[state.inode(path)?].content.len() as u64)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.begin("list")?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin("rename")?;
        let inode = state.inode(from)?;
        state.change(NameChange::Rename(from.to_path_buf(), to.to_path_buf(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin("remove")?;
        state.inode(path)?;
        state.change(NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.begin("sync_dir")?;
        for change in std::mem::take(&mut state.pending) {
            match change.is_in(directory) {
                true => change.apply(&mut state.durable_names),
                false => state.pending.push(change),
            }
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.begin("exists")?.names.contains_key(path))
    }
}

impl Writable for Open {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let begun = self.memory.begin("write_all");
        let failed = begun.is_err();
        let error = begun.err();
        let mut state = self.memory.lock();
        if !state.crashed {
            // A write that fails has written something.
            let written = if failed { bytes.len() / 2 } else { bytes.len() };
            let garble = u8::from(state.plan.garble);
            let content = &mut state.inodes[self.inode].content;
            content.extend(&bytes[..written]);
            if let Some(last) = content.last_mut() {
                *last ^= garble;
            }
        }
        error.map_or(Ok(()), Err)
    }

    fn sync(&mut self) -> io::Result<()> {
        let error = self.memory.begin("sync").err();
        let mut state = self.memory.lock();
        let after_a_failed_one = state.inodes[self.inode].sync_failed;
        state.syncs_after_a_failed_one += usize::from(after_a_failed_one);
        let inode = &mut state.inodes[self.inode];
        match error {
            Some(error) => {
                inode.sync_failed = true;
                Err(error)
            }
            None => {
                // The pages were dropped by the failed one, and the system calls that a success.
                inode.durable = if inode.sync_failed { inode.durable } else { inode.content.len() };
                Ok(())
            }
        }
    }
}
