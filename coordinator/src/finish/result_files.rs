//! The files of the results on their way to a disk that may hang.

use std::path::PathBuf;

use anyhow::Result;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use lockstep_command_line::background::spawn;
use lockstep_command_line::exit::sentence;

/// A file of the results, to be written.
pub(crate) struct ResultFile {
    /// Where it is to be.
    pub path: PathBuf,
    /// Writes it, whole or not at all.
    pub write: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// Files on their way to the disk.
pub(super) struct FileWrites {
    /// Those that nothing is known of yet, in order.
    left: Vec<PathBuf>,
    written: UnboundedReceiver<Result<()>>,
    failures: Vec<String>,
}

impl FileWrites {
    /// Begins to write them, one after the other: what becomes of one keeps no other from being tried.
    pub fn begin(files: Vec<ResultFile>) -> Self {
        let left = files.iter().rev().map(|file| file.path.clone()).collect();
        // Bounded by the files.
        let (sender, written) = unbounded_channel();
        spawn("results", move || {
            for ResultFile { write, .. } in files {
                let _ = sender.send(write());
            }
        });
        Self { left, written, failures: Vec::new() }
    }

    /// Waits until all are tried.
    pub async fn finished(&mut self) {
        while !self.left.is_empty()
            && let Some(written) = self.written.recv().await
        {
            // What fails names its path.
            self.failures.extend(written.err().map(|error| sentence(&error)));
            self.left.pop();
        }
    }

    /// What could not be written, and why; a disk that has not answered by now is one reason.
    pub fn failures(mut self) -> Vec<String> {
        let unanswered = self.left.iter().rev();
        self.failures.extend(unanswered.map(|path| format!("{}: the disk does not answer", path.display())));
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn file(name: &str, write: impl FnOnce() -> Result<()> + Send + 'static) -> ResultFile {
        ResultFile { path: name.into(), write: Box::new(write) }
    }

    #[tokio::test]
    async fn each_file_is_tried_and_each_failure_is_named() {
        let (hang, hung) = std::sync::mpsc::channel::<()>();
        let (sender, tried) = std::sync::mpsc::channel();
        let mut writing = FileWrites::begin(vec![
            file("a", || bail!("a: no space")),
            file("b", move || Ok(sender.send("b is tried")?)),
            file("c", move || Ok(hung.recv()?)),
            file("d", || Ok(())),
        ]);
        // A signal, say, takes the waiting away in between.
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), writing.finished()).await;
        assert!(waited.is_err());
        assert_eq!(tried.recv().unwrap(), "b is tried");
        while writing.left.len() > 2 {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(5), writing.finished()).await;
        }
        let expected = ["a: no space", "c: the disk does not answer", "d: the disk does not answer"];
        assert_eq!(writing.failures(), expected);
        drop(hang);
    }
}
