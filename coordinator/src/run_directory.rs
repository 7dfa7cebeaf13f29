//! The run directory: its default name, its creation, finding it again, and where in it each file lies.
//!
//! Never overwrites anything: a path that exists is refused, unless it was left by an attempt to start that wrote
//! nothing of a run, and the caller says that it may be. Writes no file itself and reads no clock; the time comes in.

mod utc;

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

pub(crate) use utc::compact_utc;

/// The file that makes a directory that of a run. It appears whole, and nothing of the run but its initial weights comes
/// before it.
const CONFIG: &str = "config.toml";

/// The weights of a run that was begun from a file.
pub const INITIAL_WEIGHTS: &str = "initial.safetensors";

/// What an attempt to start a run leaves if it ends before there is a `config.toml`.
const LEFTOVERS: [&str; 5] = ["lock", "term", "token", "logs", INITIAL_WEIGHTS];

/// The claim of a term by a process, whose number follows.
const CLAIM_PREFIX: &str = "term-";

/// Files that an atomic write leaves if it is killed.
const TEMPORARY_PREFIX: &str = ".lockstep-";

/// A run directory could not be made, or not be found.
#[derive(Debug, thiserror::Error)]
pub enum RunDirectoryError {
    /// There is something at the path already.
    #[error(
        "the run directory {} exists already and is never overwritten; name another one with --run-dir, or leave \
         that out for a new one under runs/",
        path.display()
    )]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error(
        "cannot create the run directory {}: {source}; choose a place you may write to with --run-dir",
        path.display()
    )]
    Create {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is something in the folder, but no run.
    #[error(
        "the folder {} has no run but {} in it, and is never overwritten; name a new or empty one",
        path.display(),
        Path::new(found).display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// A name in it.
        found: OsString,
    },
    /// There is nothing to go on with, not even a folder.
    #[error(
        "there is no run directory {}; name that of the run to go on with, or start it with --resume-or-start",
        path.display()
    )]
    Absent {
        /// The path.
        path: PathBuf,
    },
    /// The folder is not that of a run.
    #[error(
        "{} is no run directory, it has no {CONFIG}; name that of the run to go on with, or start one there with \
         --resume-or-start",
        path.display()
    )]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// The system refused to show it.
    #[error("cannot open the run directory {}: {source}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The folder of one run.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Whether this process made it, and may take it away again.
    made_here: bool,
}

impl RunDirectory {
    /// How many folders a file of a run is in, the run's own included, at most.
    pub const DEPTH: usize = 3;

    /// `runs/<UTC time>-<4 hex digits of the run id>` for a run that begins `unix_seconds` after 1970.
    pub fn default_path(unix_seconds: u64, run_id: &[u8; 16]) -> PathBuf {
        let time = compact_utc(unix_seconds);
        Path::new("runs").join(format!("{time}-{:02x}{:02x}", run_id[0], run_id[1]))
    }

    /// Makes the folder at `path`, and its parents as needed.
    ///
    /// # Errors
    ///
    /// [`RunDirectoryError::Exists`] or [`RunDirectoryError::Create`].
    pub fn create(path: &Path) -> Result<Self, RunDirectoryError> {
        let refused = |source: io::Error| RunDirectoryError::Create { path: path.to_path_buf(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(refused)?;
        }
        match fs::create_dir(path) {
            Ok(()) => Ok(Self { path: path.to_path_buf(), made_here: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(RunDirectoryError::Exists { path: path.to_path_buf() })
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Makes the folder at `path` like [`RunDirectory::create`], or takes one that is there if there is nothing in it,
    /// or nothing but what an attempt to start leaves.
    ///
    /// # Errors
    ///
    /// [`RunDirectoryError::Exists`] for a run, or for what is no folder; [`RunDirectoryError::Foreign`] for a folder
    /// with anything else in it; [`RunDirectoryError::Create`] or [`RunDirectoryError::Open`].
    pub fn create_or_adopt(path: &Path) -> Result<Self, RunDirectoryError> {
        match Self::create(path) {
            Err(RunDirectoryError::Exists { path }) if path.is_dir() => Self::adopt(path),
            result => result,
        }
    }

    fn adopt(path: PathBuf) -> Result<Self, RunDirectoryError> {
        let names = fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let names = match names {
            Ok(names) => names,
            Err(source) => return Err(RunDirectoryError::Open { path, source }),
        };
        if names.iter().any(|name| name == CONFIG) {
            return Err(RunDirectoryError::Exists { path });
        }
        // The least name, so that the message does not depend on the file system.
        match names.into_iter().filter(|name| !is_leftover(name)).min() {
            Some(found) => Err(RunDirectoryError::Foreign { path, found }),
            None => Ok(Self { path, made_here: false }),
        }
    }

    /// Finds the folder of a run that exists.
    ///
    /// # Errors
    ///
    /// [`RunDirectoryError::Absent`] if there is nothing at `path`, [`RunDirectoryError::NoRun`] if there is a folder
    /// but no run in it, [`RunDirectoryError::Open`] if the system does not let us see.
    pub fn open(path: &Path) -> Result<Self, RunDirectoryError> {
        let refused = |source| RunDirectoryError::Open { path: path.to_path_buf(), source };
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RunDirectoryError::Absent { path: path.to_path_buf() });
            }
            Err(error) => return Err(refused(error)),
            Ok(found) if !found.is_dir() => return Err(refused(io::ErrorKind::NotADirectory.into())),
            Ok(_) => {}
        }
        if !Self::config_in(path).try_exists().map_err(refused)? {
            return Err(RunDirectoryError::NoRun { path: path.to_path_buf() });
        }
        Ok(Self { path: path.to_path_buf(), made_here: false })
    }

    /// Where the settings of a run lie whose folder is `path`.
    pub fn config_in(path: &Path) -> PathBuf {
        path.join(CONFIG)
    }

    /// Removes the folder again if this process made it and nothing was written into it; otherwise leaves it as it is.
    pub fn discard_if_empty(self) {
        if !self.made_here {
            return;
        }
        // `remove_dir` refuses a folder that holds anything, which is all the check this needs.
        let _ = fs::remove_dir(self.logs());
        let _ = fs::remove_dir(&self.path);
    }

    /// Whether `path` is a file of the run, which nothing but the run may write. Its report may be written anew.
    pub fn owns(&self, path: &Path) -> bool {
        let files = [
            self.config(),
            self.metrics(),
            self.events(),
            self.summary(),
            self.workers(),
            self.model(),
            self.initial_weights(),
            self.steps_log(),
            self.term(),
            self.lock(),
            self.token(),
        ];
        let folders = [self.checkpoints(), self.tensorboard(), self.logs()];
        files.iter().any(|file| path == file)
            || folders.iter().any(|folder| path.starts_with(folder))
            || self.is_numbered(path)
    }

    /// Whether `path` is called like a further file of the log, or the claim of a term.
    fn is_numbered(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(OsStr::to_str).filter(|_| path.parent() == Some(self.path()));
        name.is_some_and(|name| name.starts_with("steps.log.") || name.starts_with(CLAIM_PREFIX))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings and the identity of the run.
    pub fn config(&self) -> PathBuf {
        Self::config_in(&self.path)
    }

    /// A line per step and per epoch.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// A line per event.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// What the run found out.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// What each worker did, at the end.
    pub fn workers(&self) -> PathBuf {
        self.path.join("workers.json")
    }

    /// The run on one page, for people.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The final weights.
    pub fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// The weights that the run was begun with, if they came from a file.
    pub fn initial_weights(&self) -> PathBuf {
        self.path.join(INITIAL_WEIGHTS)
    }

    /// The folder of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// A record per step, checksummed.
    pub fn steps_log(&self) -> PathBuf {
        self.path.join("steps.log")
    }

    /// The fencing counter of the run's coordinators.
    pub fn term(&self) -> PathBuf {
        self.path.join("term")
    }

    /// What the one coordinator of the run holds locked.
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The join token, a secret, for the workers that come back after a restart.
    pub fn token(&self) -> PathBuf {
        self.path.join("token")
    }

    /// The folder of TensorBoard's event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// The folder of the logs; whoever writes the first one makes it.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

fn is_leftover(name: &OsStr) -> bool {
    LEFTOVERS.iter().any(|leftover| name == *leftover)
        || [TEMPORARY_PREFIX, CLAIM_PREFIX]
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_has_the_time_and_four_digits_of_the_id() {
        let mut run_id = [0xff; 16];
        run_id[..2].copy_from_slice(&[0x0a, 0xb1]);
        let path = RunDirectory::default_path(1_795_457_730, &run_id);
        assert_eq!(path, Path::new("runs/20261123T181530Z-0ab1"));
    }

    #[test]
    fn parents_are_made_and_an_existing_path_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("runs/first");
        let directory = RunDirectory::create(&path).unwrap();
        assert_eq!(directory.path(), path);
        assert_eq!(directory.metrics(), path.join("metrics.jsonl"));

        let message = RunDirectory::create(&path).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()) && message.contains("--run-dir"), "{message}");
        let file = scratch.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(matches!(RunDirectory::create(&file), Err(RunDirectoryError::Exists { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"kept");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_with_a_remedy() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        let message = RunDirectory::create(&file.join("runs/first")).unwrap_err().to_string();
        assert!(message.starts_with("cannot create the run directory"), "{message}");
        assert!(message.contains("runs/first") && message.contains("--run-dir"), "{message}");
    }

    #[test]
    fn a_bare_name_needs_no_parent() {
        let path = PathBuf::from(format!("run-directory-test-{}", std::process::id()));
        let directory = RunDirectory::create(&path).unwrap();
        directory.discard_if_empty();
        assert!(!path.exists());
    }

    #[test]
    fn only_an_empty_directory_is_discarded() {
        let scratch = tempfile::tempdir().unwrap();
        let empty = RunDirectory::create(&scratch.path().join("empty")).unwrap();
        fs::create_dir(empty.logs()).unwrap();
        let path = empty.path().to_path_buf();
        empty.discard_if_empty();
        assert!(!path.exists());

        let used = RunDirectory::create(&scratch.path().join("used")).unwrap();
        fs::write(used.metrics(), "{}").unwrap();
        let metrics = used.metrics();
        used.discard_if_empty();
        assert!(metrics.exists());
    }

    #[test]
    fn every_path_lies_in_the_folder_and_is_its_own() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(&scratch.path().join("run")).unwrap();
        let paths = [
            (run.config(), "config.toml"),
            (run.metrics(), "metrics.jsonl"),
            (run.events(), "events.jsonl"),
            (run.summary(), "summary.json"),
            (run.report(), "report.html"),
            (run.model(), "model.safetensors"),
            (run.initial_weights(), "initial.safetensors"),
            (run.checkpoints(), "checkpoints"),
            (run.steps_log(), "steps.log"),
            (run.term(), "term"),
            (run.lock(), "lock"),
            (run.token(), "token"),
            (run.logs(), "logs"),
            (run.tensorboard(), "tensorboard"),
        ];
        for (path, name) in paths {
            assert_eq!(path, run.path().join(name));
        }
    }

    #[test]
    fn only_the_directory_of_a_run_is_opened() {
        let scratch = tempfile::tempdir().unwrap();
        let message = |path: &Path| RunDirectory::open(path).unwrap_err().to_string();
        let path = scratch.path().join("run");
        let absent = message(&path);
        assert!(absent.starts_with(&format!("there is no run directory {}; ", path.display())), "{absent}");
        assert!(absent.contains("--resume-or-start"), "{absent}");

        fs::create_dir(&path).unwrap();
        let empty = message(&path);
        assert!(
            empty.starts_with(&format!("{} is no run directory, it has no config.toml; ", path.display())),
            "{empty}"
        );
        fs::write(path.join("config.toml"), "").unwrap();
        let file = message(&path.join("config.toml"));
        assert!(
            file.starts_with("cannot open the run directory") && file.contains("not a directory"),
            "{file}"
        );

        let run = RunDirectory::open(&path).unwrap();
        assert_eq!(run.path(), path);
        fs::remove_file(run.config()).unwrap();
        run.discard_if_empty();
        assert!(path.exists(), "what another process made is not taken away");
    }

    #[test]
    fn a_folder_is_adopted_if_nothing_of_a_run_is_in_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("deep/run");
        let made = RunDirectory::create_or_adopt(&path).unwrap();
        let adopted = RunDirectory::create_or_adopt(&path).unwrap();
        assert_eq!(adopted.path(), path);
        adopted.discard_if_empty();
        assert!(path.exists(), "an adopted folder is not taken away");

        for name in ["lock", "term", "term-1", "token", "initial.safetensors", ".lockstep-1.tmp"] {
            fs::write(path.join(name), "left").unwrap();
        }
        fs::create_dir(made.logs()).unwrap();
        fs::write(made.logs().join("local-0.log"), "").unwrap();
        RunDirectory::create_or_adopt(&path).unwrap();
        assert_eq!(fs::read(made.token()).unwrap(), b"left", "adopting writes nothing");

        for name in ["steps.log", "thesis.tex", "checkpoints"] {
            fs::write(path.join(name), "").unwrap();
            let message = RunDirectory::create_or_adopt(&path).unwrap_err().to_string();
            assert!(message.contains(&format!("has no run but {name} in it")), "{message}");
            fs::remove_file(path.join(name)).unwrap();
        }
        fs::write(made.config(), "").unwrap();
        assert!(matches!(RunDirectory::create_or_adopt(&path), Err(RunDirectoryError::Exists { .. })));
        let file = RunDirectory::create_or_adopt(&made.config());
        assert!(matches!(file, Err(RunDirectoryError::Exists { .. })));
    }
}
