//! The log files of local workers, as the loop's thread needs them: it never waits for the disk that they lie on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::finish::aside;

/// How much of the end of a dead worker's output is shown.
const LAST_WORDS_BYTES: u64 = 2048;
const LAST_WORDS_LINES: usize = 5;

/// So long a disk has to open a file or to read from it; without, a worker is started all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a worker writes what it has to say, twice: at the end of its log, or nowhere if the disk hangs.
///
/// # Errors
///
/// If the log cannot be made.
pub async fn open(path: PathBuf) -> io::Result<(Stdio, Stdio)> {
    let shown = path.display().to_string();
    let open = aside("worker log", move || {
        let log = File::options().create(true).append(true).open(path)?;
        Ok((log.try_clone()?.into(), log.into()))
    });
    match tokio::time::timeout(PATIENCE, open).await {
        Ok(opened) => opened,
        Err(_) => {
            tracing::warn!("the disk does not answer: what a worker says is not written to {shown}");
            Ok((Stdio::null(), Stdio::null()))
        }
    }
}

/// The last lines of a worker's log; one that cannot be read, or not in time, has none.
pub async fn last_words(path: PathBuf) -> Vec<String> {
    let read = aside("worker log", move || end_of(&path).unwrap_or_default());
    let text = tokio::time::timeout(PATIENCE, read).await.unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LAST_WORDS_LINES);
    lines[first..].iter().map(|line| line.trim().to_string()).collect()
}

fn end_of(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn last_words_are_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text: String = (1..=1000).map(|line| format!("line {line}\n\n")).collect();
        std::fs::write(&log, text).unwrap();
        assert_eq!(last_words(log).await, ["line 996", "line 997", "line 998", "line 999", "line 1000"]);
        assert!(last_words(folder.path().join("none")).await.is_empty());
    }

    /// A pipe without a writer opens for reading as little as a file on a disk that hangs.
    #[tokio::test]
    async fn a_disk_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("log");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(last_words(pipe.clone()).await.is_empty());
        // And for writing neither, without a reader.
        assert!(open(pipe).await.is_ok());
    }
}
