//! The run directory: its default name, its creation, and where in it each file lies.
//!
//! Never overwrites anything: a path that exists is refused. Writes no file itself and reads no clock; the time comes
//! in.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A run directory could not be made.
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
}

/// The folder of one run, made by this process.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
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
            Ok(()) => Ok(Self { path: path.to_path_buf() }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(RunDirectoryError::Exists { path: path.to_path_buf() })
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Removes the folder again if nothing was written into it; otherwise leaves it as it is.
    pub fn discard_if_empty(self) {
        // `remove_dir` refuses a folder that holds anything, which is all the check this needs.
        let _ = fs::remove_dir(self.logs());
        let _ = fs::remove_dir(&self.path);
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings and the identity of the run.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
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

    /// The final weights.
    pub fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// The folder of the logs; whoever writes the first one makes it.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

/// Seconds since 1970 as `20261123T181530Z`.
fn compact_utc(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. The algorithm of Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", for days from 1970 on: years begin in March, so that the leap day is
/// the last of its year.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        for (unix_seconds, expected) in [
            (0, "19700101T000000Z"),
            (68_169_599, "19720228T235959Z"),
            (68_169_600, "19720229T000000Z"),
            (946_684_799, "19991231T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_795_457_730, "20261123T181530Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(compact_utc(unix_seconds), expected);
        }
    }

    #[test]
    fn the_calendar_has_every_day_once() {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut days = 0;
        for year in 1970..2500 {
            let february = if leap(year) { 29 } else { 28 };
            for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
                for day in 1..=length {
                    assert_eq!(civil_from_days(days), (year, month, day));
                    days += 1;
                }
            }
        }
    }

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
}
