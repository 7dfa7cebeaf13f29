//! Two coordinators in one directory, where nothing locks it: one of them goes on, and the other knows.

use std::{io, path::Path};

use lockstep_checkpoint::{Error, FileSystem, JournalError, Writable, advance_term};

use crate::memory::{Memory, Plan};
use crate::run::{FOLDER, LOG, TERM, commit, files, open_journal, read_log, save_journal, sentences};

/// A disk on which another process claims a term just after this one has looked for claims.
struct Raced(Memory);

impl FileSystem for Raced {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.0.list(directory);
        advance_term(&self.0, Path::new(TERM), 0).map_err(io::Error::other)?;
        names
    }
    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.0.create_dir(directory)
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        self.0.create_new(path)
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn Writable>> {
        self.0.append(path)
    }
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.0.read(path, limit)
    }
    fn read_at(&self, path: &Path, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(path, offset, limit)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.0.len(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.0.sync_dir(directory)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
}

#[test]
fn of_two_claims_in_one_moment_exactly_one_wins() {
    let memory = Memory::new(Plan::default());
    assert_eq!(advance_term(&memory, Path::new(TERM), 0).unwrap(), 1);
    let before = memory.list(Path::new("/run")).unwrap();
    let error = open_journal(std::sync::Arc::new(Raced(memory.clone())), 9).err().unwrap();
    assert!(matches!(error, Error::TermTaken { term: 2, .. }), "{error}");
    assert!(error.to_string().contains("term 2 of the run in /run in this very moment"), "{error}");
    let mut after = memory.list(Path::new("/run")).unwrap();
    after.retain(|name| name != "term-2");
    assert_eq!(after, before, "who has lost has written something");
    assert_eq!(advance_term(&memory, Path::new(TERM), 0).unwrap(), 3);
}

#[test]
fn a_claim_that_a_crash_has_left_is_no_dead_end() {
    let memory = Memory::new(Plan::default());
    memory.overwrite(Path::new(TERM), b"term 7\nterm 7\n");
    for name in ["term-8", "term-010", "term-x", "termination-99", "steps.log"] {
        memory.overwrite(&Path::new("/run").join(name), b"");
    }
    assert_eq!(advance_term(&memory, Path::new(TERM), 0).unwrap(), 9);
    assert_eq!(advance_term(&memory, Path::new(TERM), 40).unwrap(), 41);
    memory.remove(Path::new(TERM)).unwrap();
    assert_eq!(advance_term(&memory, Path::new(TERM), 0).unwrap(), 42);
}

#[test]
fn a_superseded_coordinator_notices_before_it_writes() {
    let memory = Memory::new(Plan::default());
    let mut old = open_journal(files(&memory), 9).unwrap();
    commit(&mut old.journal, 1..=2);
    save_journal(&mut old.journal, 1, 2).unwrap();
    // Two later: the claim between them is gone by now.
    drop(open_journal(files(&memory), 9).unwrap());
    let mut new = open_journal(files(&memory), 9).unwrap();
    assert_eq!((old.term, new.term, new.last_logged), (1, 3, 2));
    assert!(!memory.exists(Path::new("/run/term-2")).unwrap());

    commit(&mut old.journal, 3..=4);
    let before = memory.list(Path::new(FOLDER)).unwrap();
    memory.plan(Plan::default());
    for refused in [save_journal(&mut old.journal, 1, 4), old.journal.sync()] {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, JournalError::Superseded(Error::Superseded { term: 3, own: 1, .. })),
            "{error}"
        );
        assert!(error.to_string().contains("the run in /run: it has claimed term 3"), "{error}");
    }
    assert_eq!(memory.done(), ["list", "list"], "it has only looked");
    assert_eq!(memory.list(Path::new(FOLDER)).unwrap(), before);

    commit(&mut new.journal, 3..=3);
    save_journal(&mut new.journal, 3, 3).unwrap();
    assert_eq!(sentences(&mut new.journal), [""; 0]);
    let (history, _) = read_log(&memory);
    assert_eq!((history.last_step(), history.last_term(), history.damages()), (3, 3, &[][..]));
}

#[test]
fn a_superseded_coordinator_begins_no_further_segment() {
    let memory = Memory::new(Plan::default());
    let mut old = open_journal(files(&memory), 3).unwrap().journal;
    commit(&mut old, 1..=2);
    drop(open_journal(files(&memory), 3).unwrap());
    let error = (3..=9).find_map(|step| old.committed(step, [0; 32]).err()).unwrap();
    assert!(matches!(error, JournalError::Superseded(_)), "{error}");
    let (history, _) = read_log(&memory);
    assert_eq!((history.last_step(), history.damages()), (2, &[][..]), "{LOG} is the newer one's");
}
