//! A file of Chrome's trace events, which Perfetto opens: one JSON array, an event a line, written as they come.
//!
//! A viewer takes an array that lacks its end, so the file of a run that is killed is of use. Its size is bounded. A
//! disk that fails switches it off and never stops the training.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

/// The file ends at about this size: what viewers still open with ease.
const MAX_BYTES: usize = 64 << 20;

/// One event, as the format names its fields; times in microseconds.
#[derive(Serialize)]
pub(super) struct TraceEvent<'a> {
    pub name: &'a str,
    pub cat: &'static str,
    pub ph: &'static str,
    pub ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dur: Option<f64>,
    /// 0 is the coordinator, others are workers by number.
    pub pid: u32,
    pub tid: u32,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub args: Value,
}

pub(super) struct TraceFile {
    path: PathBuf,
    /// Absent once it is complete, or cannot be written.
    file: Option<Box<dyn Write + Send>>,
    pending: Vec<u8>,
    bytes: usize,
}

impl TraceFile {
    /// Creates the file, which must not exist.
    ///
    /// # Errors
    ///
    /// If it does, or the system refuses.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path, Box::new(File::create_new(path)?)))
    }

    fn new(path: &Path, file: Box<dyn Write + Send>) -> Self {
        Self { path: path.to_path_buf(), file: Some(file), pending: b"[".to_vec(), bytes: 0 }
    }

    pub(super) fn push(&mut self, event: &TraceEvent<'_>) {
        if self.file.is_none() {
            return;
        }
        let separator: &[u8] = if self.bytes + self.pending.len() == 1 { b"\n" } else { b",\n" };
        self.pending.extend_from_slice(separator);
        if let Err(error) = serde_json::to_writer(&mut self.pending, event) {
            self.fail(&error.into());
        }
    }

    /// Writes what is pending; ends the file if it is large enough.
    pub(super) fn write_out(&mut self) {
        let Some(file) = &mut self.file else { return };
        let written = file.write_all(&self.pending).and_then(|()| file.flush());
        self.bytes += self.pending.len();
        self.pending.clear();
        if let Err(error) = written {
            return self.fail(&error);
        }
        if self.bytes >= MAX_BYTES {
            tracing::warn!(
                "the timeline {} has {} MiB, and gets no more steps; choose fewer with --timeline-every",
                self.path.display(),
                MAX_BYTES >> 20
            );
            self.finish();
        }
    }

    /// Ends the array.
    pub(super) fn finish(&mut self) {
        if self.file.is_some() {
            self.pending.extend_from_slice(b"\n]\n");
            let Some(mut file) = self.file.take() else { return };
            if let Err(error) = file.write_all(&self.pending).and_then(|()| file.flush()) {
                self.fail(&error);
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.file = None;
        self.pending = Vec::new();
        tracing::warn!(
            "writing the timeline {} failed, nothing more is written to it and training goes on: {error}",
            self.path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is written, up to `room` bytes.
    #[derive(Clone)]
    struct Disk {
        content: Arc<Mutex<Vec<u8>>>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut content = self.content.lock().unwrap();
            if content.len() + bytes.len() > self.room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            content.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn file(room: usize) -> (TraceFile, Disk) {
        let disk = Disk { content: Arc::default(), room };
        (TraceFile::new(Path::new("trace.json"), Box::new(disk.clone())), disk)
    }

    fn event(name: &str) -> TraceEvent<'_> {
        TraceEvent { name, cat: "step", ph: "X", ts: 1.5, dur: Some(2.0), pid: 0, tid: 0, args: Value::Null }
    }

    fn text(disk: &Disk) -> String {
        String::from_utf8(disk.content.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_array_is_whole_at_the_end_and_lacks_only_its_bracket_before() {
        let (mut file, disk) = file(usize::MAX);
        for name in ["a", "b", "\"c\""] {
            file.push(&event(name));
            file.write_out();
            let events: Vec<Value> = serde_json::from_str(&(text(&disk) + "]")).unwrap();
            assert_eq!(events.last().unwrap()["name"], name);
        }
        file.finish();
        let events: Vec<Value> = serde_json::from_str(&text(&disk)).unwrap();
        let expected = r#"{"name":"a","cat":"step","ph":"X","ts":1.5,"dur":2.0,"pid":0,"tid":0}"#;
        assert_eq!((events.len(), text(&disk).lines().nth(1).unwrap()), (3, &format!("{expected},")[..]));
    }

    #[test]
    fn its_size_is_bounded() {
        let (mut file, disk) = file(usize::MAX);
        let name = "x".repeat(1 << 20);
        for _ in 0..70 {
            file.push(&event(&name));
            file.write_out();
        }
        file.finish();
        let content = text(&disk);
        assert!((64 << 20..66 << 20).contains(&content.len()), "{} bytes", content.len());
        assert!(content.ends_with("}\n]\n"));
    }

    #[test]
    fn a_full_disk_ends_it() {
        let (mut file, disk) = file(100);
        for _ in 0..5 {
            file.push(&event("a"));
            file.write_out();
        }
        assert!(text(&disk).len() <= 100);
        assert!(file.file.is_none() && file.pending.is_empty());
        file.finish();
    }
}
