//! The log files of local workers: opened and read on threads of their own, so that the loop never waits for the disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lockstep_command_line::background::in_background;

/// How much of the end of a dead worker's output is shown.
const OUTPUT_TAIL_BYTES: u64 = 2048;
const OUTPUT_TAIL_LINES: usize = 5;

/// How long the disk may take to open or read a file. A worker whose log cannot be opened in time is started without.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a worker writes what it has to say, twice: at the end of its log, or nowhere if the disk hangs.
///
/// # Errors
///
/// If the log cannot be made.
pub async fn open(path: PathBuf) -> io::Result<(Stdio, Stdio)> {
    let shown = path.display().to_string();
    let open = in_background("worker log", move || {
        let log = File::options().create(true).append(true).open(path)?;
        Ok((log.try_clone()?.into(), log.into()))
    });
    match tokio::time::timeout(DISK_TIMEOUT, open).await {
        Ok(opened) => opened,
        Err(_) => {
            tracing::warn!("the disk does not answer: what a worker says is not written to {shown}");
            Ok((Stdio::null(), Stdio::null()))
        }
    }
}

/// The last lines of a worker's log; one that cannot be read, or not in time, has none.
pub async fn output_tail(path: PathBuf) -> Vec<String> {
    let read = in_background("worker log", move || end_of(&path).unwrap_or_default());
    let text = tokio::time::timeout(DISK_TIMEOUT, read).await.unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(OUTPUT_TAIL_LINES);
    lines[first..].iter().map(|line| line.trim().to_string()).collect()
}

fn end_of(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text: String = (1..=1000).map(|line| format!("line {line}\n\n")).collect();
        std::fs::write(&log, text).unwrap();
        assert_eq!(output_tail(log).await, ["line 996", "line 997", "line 998", "line 999", "line 1000"]);
        assert!(output_tail(folder.path().join("none")).await.is_empty());
    }

    /// A pipe without a writer opens for reading as little as a file on a disk that hangs.
    #[tokio::test]
    async fn a_disk_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("log");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(output_tail(pipe.clone()).await.is_empty());
        // And for writing neither, without a reader.
        assert!(open(pipe).await.is_ok());
    }
}
