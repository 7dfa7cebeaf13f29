//! A file of Chrome's trace events, which Perfetto opens: one JSON array, an event a line, written as they come.
//!
//! Viewers accept an array that lacks its end, so the file of a run that is killed is of use. Its size is bounded. The
//! pieces are handed to the journal's thread, which writes them.

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
    /// Takes each piece; absent once the file is complete.
    write: Option<Box<dyn FnMut(Vec<u8>) + Send>>,
    pending: Vec<u8>,
    bytes: usize,
}

impl TraceFile {
    pub(super) fn new(path: &Path, write: Box<dyn FnMut(Vec<u8>) + Send>) -> Self {
        Self { path: path.to_path_buf(), write: Some(write), pending: b"[".to_vec(), bytes: 0 }
    }

    pub(super) fn push(&mut self, event: &TraceEvent<'_>) {
        if self.write.is_none() {
            return;
        }
        let separator: &[u8] = if self.bytes + self.pending.len() == 1 { b"\n" } else { b",\n" };
        self.pending.extend_from_slice(separator);
        serde_json::to_writer(&mut self.pending, event)
            .expect("names and numbers are always expressible as JSON");
    }

    /// Writes what is pending; ends the file if it is large enough.
    pub(super) fn write_out(&mut self) {
        let Some(write) = &mut self.write else { return };
        self.bytes += self.pending.len();
        write(std::mem::take(&mut self.pending));
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
        if let Some(mut write) = self.write.take() {
            self.pending.extend_from_slice(b"\n]\n");
            write(std::mem::take(&mut self.pending));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Written = Arc<Mutex<Vec<u8>>>;

    fn file() -> (TraceFile, Written) {
        let written = Written::default();
        let disk = Arc::clone(&written);
        let write = move |bytes: Vec<u8>| disk.lock().unwrap().extend(bytes);
        (TraceFile::new(Path::new("trace.json"), Box::new(write)), written)
    }

    fn event(name: &str) -> TraceEvent<'_> {
        TraceEvent { name, cat: "step", ph: "X", ts: 1.5, dur: Some(2.0), pid: 0, tid: 0, args: Value::Null }
    }

    fn text(disk: &Written) -> String {
        String::from_utf8(disk.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_array_is_whole_at_the_end_and_lacks_only_its_bracket_before() {
        let (mut file, disk) = file();
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
        let (mut file, disk) = file();
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
}
