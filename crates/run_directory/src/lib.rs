//! The run directory: its default name, its creation, finding it again, and where in it each file lies.
//!
//! Never overwrites anything: a folder that exists is refused unless it counts as empty. What a start has made there is
//! taken away again if it comes to nothing (`created`). Writes no file itself and reads no clock; the time comes in.

mod created;
pub mod identity;
pub mod micro_shards;
pub mod model_file;
pub mod newest_weights;
pub mod path_error;
mod residents;
pub mod stored_run;
pub mod user_file;
mod utc;
pub mod workers_file;

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

pub use created::Created;
pub use utc::compact_utc;

/// The file that makes a directory that of a run. It appears whole, and nothing of the run but its initial weights comes
/// before it.
const CONFIG: &str = "config.toml";

/// The log of a run's steps.
const STEPS_LOG: &str = "steps.log";

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
        "the run directory {} exists already and is never overwritten; name another one with --run-dir, leave that \
         out for a new one under runs/, or go on with the run that is there with --resume",
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
    #[error("cannot open the run directory: {}", unopened(path, source))]
    Open {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// What this process made, and may take away again: the folders above it as well, the outermost first.
    folders: Vec<PathBuf>,
}

impl RunDirectory {
    /// How many folders a file of a run is in, the run's own included, at most.
    pub const DEPTH: usize = 3;

    /// `runs/<UTC time>-<4 hex digits of the run id>` for a run that begins `unix_seconds` after 1970.
    pub fn default_path(unix_seconds: u64, run_id: &[u8; 16]) -> PathBuf {
        let time = compact_utc(unix_seconds);
        Path::new("runs").join(format!("{time}-{:02x}{:02x}", run_id[0], run_id[1]))
    }

    /// Makes the folder at `path`, and its parents as needed, or takes one that is there if it counts as empty: nothing
    /// is in it but what a file system or a launcher puts there, and what an attempt to start a run leaves.
    ///
    /// # Errors
    ///
    /// [`RunDirectoryError::Exists`] for a run, or for what is no folder; [`RunDirectoryError::Foreign`] for a folder
    /// with anything else in it; [`RunDirectoryError::Create`] or [`RunDirectoryError::Open`].
    pub fn create(path: &Path) -> Result<Self, RunDirectoryError> {
        let mut made = Self::at(path);
        // The innermost first.
        let absent: Vec<&Path> =
            path.ancestors().take_while(|folder| fs::symlink_metadata(folder).is_err()).collect();
        for folder in absent.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            match fs::create_dir(folder) {
                Ok(()) => made.folders.push(folder.to_path_buf()),
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    made.discard();
                    return Err(RunDirectoryError::Create { path: path.to_path_buf(), source });
                }
            }
        }
        made.refuse_content().map(|()| made)
    }

    fn refuse_content(&self) -> Result<(), RunDirectoryError> {
        let path = || self.path.clone();
        let refused = |source| RunDirectoryError::Open { path: path(), source };
        if !fs::metadata(&self.path).map_err(refused)?.is_dir() {
            return Err(RunDirectoryError::Exists { path: path() });
        }
        if self.config().try_exists().map_err(refused)? {
            return Err(RunDirectoryError::Exists { path: path() });
        }
        match Self::content(&self.path).map_err(refused)? {
            Some(found) => Err(RunDirectoryError::Foreign { path: path(), found }),
            None => Ok(()),
        }
    }

    /// A name in the folder at `path` for which it does not count as empty.
    ///
    /// # Errors
    ///
    /// If the system does not let us see.
    pub fn content(path: &Path) -> io::Result<Option<OsString>> {
        let names = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        // The least one, so that the message does not depend on the file system.
        Ok(names.into_iter().filter(|name| !is_leftover(name) && !residents::is_resident(name)).min())
    }

    fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), folders: Vec::new() }
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
            // A link to nothing is something.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
                return Err(RunDirectoryError::Absent { path: path.to_path_buf() });
            }
            Err(error) => return Err(refused(error)),
            Ok(found) if !found.is_dir() => return Err(refused(io::ErrorKind::NotADirectory.into())),
            Ok(_) => {}
        }
        if !Self::config_in(path).try_exists().map_err(refused)? {
            return Err(RunDirectoryError::NoRun { path: path.to_path_buf() });
        }
        Ok(Self::at(path))
    }

    /// Where the settings of a run lie whose folder is `path`.
    pub fn config_in(path: &Path) -> PathBuf {
        path.join(CONFIG)
    }

    /// Removes the folders again that this process made, if nothing is in them.
    pub fn discard(&self) {
        for folder in self.folders.iter().rev() {
            // It refuses a folder that holds anything, which is all the check this needs.
            let _ = fs::remove_dir(folder);
        }
    }

    /// Whether `path` is a file of the run, which nothing but the run may write. Its report may be written anew.
    pub fn owns(&self, path: &Path) -> bool {
        self.files().iter().any(|file| path == file)
            || self.folders().iter().any(|folder| path.starts_with(folder))
            || self.is_numbered(path)
    }

    /// Whether `path` is called like a further file of the log, or the claim of a term.
    fn is_numbered(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(OsStr::to_str).filter(|_| path.parent() == Some(self.path()));
        name.is_some_and(|name| name.starts_with("steps.log.") || name.starts_with(CLAIM_PREFIX))
    }

    /// Every file of a run but its report.
    fn files(&self) -> [PathBuf; 11] {
        [
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
        ]
    }

    /// Every folder in that of a run.
    fn folders(&self) -> [PathBuf; 3] {
        [self.checkpoints(), self.tensorboard(), self.logs()]
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
        self.path.join(STEPS_LOG)
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

    /// The folder of the logs; the first log that is written makes it.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

fn unopened(path: &Path, error: &io::Error) -> String {
    match path.is_file() {
        true => format!("{} is a file and no folder", path.display()),
        false => path_error::reason(path, error),
    }
}

fn is_leftover(name: &OsStr) -> bool {
    LEFTOVERS.iter().any(|leftover| name == *leftover)
        || is_temporary(Path::new(name))
        || name.as_encoded_bytes().starts_with(CLAIM_PREFIX.as_bytes())
}

/// Whether an atomic write that was killed has left the file.
fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()))
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

        fs::write(directory.config(), "").unwrap();
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
        directory.discard();
        assert!(!path.exists());
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
            file.starts_with("cannot open the run directory: ") && file.ends_with("is a file and no folder"),
            "{file}"
        );

        let link = scratch.path().join("link");
        std::os::unix::fs::symlink("gone", &link).unwrap();
        let expected = format!(
            "cannot open the run directory: {} is a link to gone, and nothing is there",
            link.display()
        );
        assert_eq!(message(&link), expected);
        assert_eq!(RunDirectory::create(&link).unwrap_err().to_string(), expected);
        let below = message(&path.join("config.toml/run"));
        assert!(below.ends_with("config.toml is a file and no folder"), "{below}");

        let run = RunDirectory::open(&path).unwrap();
        assert_eq!(run.path(), path);
        fs::remove_file(run.config()).unwrap();
        run.discard();
        assert!(path.exists(), "what another process made is not taken away");
    }

    #[test]
    fn a_folder_is_taken_if_nothing_is_in_it_that_anybody_put_there() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("deep/run");
        let made = RunDirectory::create(&path).unwrap();
        let taken = RunDirectory::create(&path).unwrap();
        assert_eq!(taken.path(), path);
        taken.discard();
        assert!(path.exists(), "a folder that was there is not taken away");

        for name in ["lock", "term", "term-1", "token", "initial.safetensors", ".lockstep-1.tmp"] {
            fs::write(path.join(name), "left").unwrap();
        }
        fs::create_dir(made.logs()).unwrap();
        fs::write(made.logs().join("local-0.log"), "").unwrap();
        for name in ["lost+found", ".snapshot", ".nfs0000001", ".Trash-1000", ".DS_Store", "..data"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        for name in ["..2026_11_30_17_59_01.42", ".keep", ".gitkeep", "slurm-42.out", "nohup.out", "job.log"]
        {
            fs::write(path.join(name), "theirs").unwrap();
        }
        RunDirectory::create(&path).unwrap();
        assert_eq!(fs::read(made.token()).unwrap(), b"left", "taking it writes nothing");
        assert_eq!(fs::read(path.join("slurm-42.out")).unwrap(), b"theirs");

        for name in ["steps.log", "thesis.tex", "checkpoints", ".bashrc", "data"] {
            fs::write(path.join(name), "").unwrap();
            let message = RunDirectory::create(&path).unwrap_err().to_string();
            assert!(message.contains(&format!("has no run but {name} in it")), "{message}");
            fs::remove_file(path.join(name)).unwrap();
        }
        fs::write(made.config(), "").unwrap();
        assert!(matches!(RunDirectory::create(&path), Err(RunDirectoryError::Exists { .. })));
        let file = RunDirectory::create(&made.config());
        assert!(matches!(file, Err(RunDirectoryError::Exists { .. })));
    }
}
