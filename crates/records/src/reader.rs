//! The one reader of `metrics.jsonl` and `events.jsonl`: lines in bounded memory, whose file they are, what they say.
//!
//! A line that is torn, too long or none of ours is damage and passed over, and so is a last line without an end: it may
//! be under way. A header of another run or another schema version is an error wherever it stands.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{EpochRecord, EventRecord, Record, SCHEMA_VERSION, StepRecord};

/// No line of ours is near this long; a longer one is damage, and is passed over without being kept in memory.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// How much of a file is read at once.
const READ_BYTES: usize = 256 << 10;

/// The first line of each file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "header")]
pub struct Header {
    schema_version: u32,
    run_id: String,
}

/// Why a file is not to be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HeaderFlaw {
    /// It has another shape.
    OtherSchema {
        /// Its version.
        found: u32,
    },
    /// It belongs to another run.
    OtherRun {
        /// The run it names.
        found: String,
    },
}

impl Header {
    /// That of a file which this program writes for the run `run_id`.
    pub fn new(run_id: &str) -> Self {
        Self { schema_version: SCHEMA_VERSION, run_id: run_id.to_owned() }
    }

    /// The header in a line; absent if the line is none.
    pub fn parse(line: &[u8]) -> Option<Self> {
        (kind(line)? == "header").then(|| serde_json::from_slice(line).ok()).flatten()
    }

    /// Whether what follows is of this schema version, and of the run `run_id` if one is expected.
    ///
    /// # Errors
    ///
    /// What it is of instead.
    pub fn check(&self, run_id: Option<&str>) -> Result<(), HeaderFlaw> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(HeaderFlaw::OtherSchema { found: self.schema_version });
        }
        match run_id {
            Some(run_id) if run_id != self.run_id => Err(HeaderFlaw::OtherRun { found: self.run_id.clone() }),
            _ => Ok(()),
        }
    }
}

/// Of which kind a line is. An enum with that tag would hold every field of every line in memory of its own.
fn kind(line: &[u8]) -> Option<&str> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        kind: &'a str,
    }
    serde_json::from_slice::<Kind<'_>>(line).ok().map(|line| line.kind)
}

/// The record in a line: a step, an epoch, or an event of any kind. Absent if the line is damaged or a header.
pub fn parse(line: &[u8]) -> Option<Record> {
    let record = match kind(line)? {
        "step" => serde_json::from_slice::<StepRecord>(line).map(Record::Step),
        "epoch" => serde_json::from_slice::<EpochRecord>(line).map(Record::Epoch),
        _ => serde_json::from_slice::<EventRecord>(line).map(Record::Event),
    };
    record.ok()
}

/// How a line ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// With a line break.
    Whole,
    /// With the file; it may be empty.
    Torn,
}

/// Lines of a file one after the other, in memory that does not grow with them.
pub struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    /// Bytes read so far: where the line ends.
    offset: u64,
}

impl<R: Read> Lines<R> {
    /// The lines of `reader`, from where it stands.
    pub fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(READ_BYTES, reader),
            line: Vec::with_capacity(MAX_LINE_BYTES),
            offset: 0,
        }
    }

    /// The line read last, without its line break; nothing of one that is longer than [`MAX_LINE_BYTES`].
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Bytes read so far, line breaks included.
    pub fn offset_bytes(&self) -> u64 {
        self.offset
    }

    /// Reads the next line.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn read(&mut self) -> io::Result<End> {
        self.line.clear();
        let mut too_long = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                return Ok(End::Torn);
            }
            let line_break = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..line_break.unwrap_or(chunk.len())];
            too_long |= part.len() > MAX_LINE_BYTES - self.line.len();
            if too_long {
                self.line.clear();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(line_break.is_some());
            self.reader.consume(used);
            self.offset += used as u64;
            if line_break.is_some() {
                return Ok(End::Whole);
            }
        }
    }
}

/// The records in a file, in its order.
pub struct RecordReader {
    lines: Lines<File>,
    path: PathBuf,
    /// The run that the file has to be of, if that is known.
    run_id: Option<String>,
    damaged: u64,
}

impl RecordReader {
    /// Opens the file at `path`, which has to be of the run `run_id` if one is given.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(path: &Path, run_id: Option<&str>) -> io::Result<Self> {
        let lines = Lines::new(File::open(path)?);
        Ok(Self { lines, path: path.to_path_buf(), run_id: run_id.map(str::to_owned), damaged: 0 })
    }

    /// The next record, and where its line begins in the file; nothing at the end.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is of another run, or has another shape.
    pub fn read(&mut self) -> io::Result<Option<(u64, Record)>> {
        loop {
            let begin_bytes = self.lines.offset_bytes();
            if self.lines.read()? == End::Torn {
                return Ok(None);
            }
            let line = self.lines.line();
            if let Some(record) = parse(line) {
                return Ok(Some((begin_bytes, record)));
            }
            match Header::parse(line) {
                Some(header) => header.check(self.run_id.as_deref()).map_err(|flaw| self.refusal(&flaw))?,
                None => self.damaged += 1,
            }
        }
    }

    fn refusal(&self, flaw: &HeaderFlaw) -> io::Error {
        let path = self.path.display();
        io::Error::other(match flaw {
            HeaderFlaw::OtherSchema { found } => format!(
                "{path} has schema version {found} and this program reads {SCHEMA_VERSION}; use the version of this \
                 program that wrote it"
            ),
            HeaderFlaw::OtherRun { found } => {
                let run_id = self.run_id.as_deref().unwrap_or_default();
                format!("{path} is of run {found}, not of run {run_id}; move it away")
            }
        })
    }
}

/// Hands over the records of the run `run_id` that the files have, in order: of a run, `metrics.jsonl` and then
/// `events.jsonl`. A file that is not there has none; lines that are damaged are passed over with a warning.
///
/// # Errors
///
/// If a file that is there cannot be read, is of another run, or has another shape.
pub fn each_record(paths: &[PathBuf], run_id: &str, mut take: impl FnMut(Record)) -> io::Result<()> {
    for path in paths {
        let mut reader = match RecordReader::open(path, Some(run_id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            reader => reader?,
        };
        while let Some((_, record)) = reader.read()? {
            take(record);
        }
        if reader.damaged > 0 {
            tracing::warn!("{} lines of {} are damaged, and are passed over", reader.damaged, path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::examples;

    fn line(record: &impl Serialize) -> String {
        serde_json::to_string(record).unwrap() + "\n"
    }

    fn read(content: &str, run_id: Option<&str>) -> Result<Vec<(u64, Record)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, content).unwrap();
        let mut reader = RecordReader::open(&path, run_id).unwrap();
        let mut records = Vec::new();
        loop {
            match reader.read() {
                Ok(Some(record)) => records.push(record),
                Ok(None) => return Ok(records),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    #[test]
    fn records_are_read_with_their_place_and_damage_is_passed_over() {
        let zeros = "\0".repeat(3 * MAX_LINE_BYTES + 5);
        let header = line(&Header::new("0011"));
        let before = format!("{header}{}{zeros}\n\n{{\"kind\":\"step\",\"st\n", line(&examples::step()));
        let torn = &line(&examples::step())[..40];
        let content = format!("{before}{}{}{torn}", line(&examples::epoch()), line(&examples::event()));
        let records = read(&content, Some("0011")).unwrap();
        let [(first, Record::Step(step)), (second, Record::Epoch(epoch)), (third, Record::Event(event))] =
            &records[..]
        else {
            panic!("{records:?}")
        };
        assert_eq!((step, epoch, event), (&examples::step(), &examples::epoch(), &examples::event()));
        let places = [header.len(), before.len(), before.len() + line(epoch).len()];
        assert_eq!([first, second, third], [&(places[0] as u64), &(places[1] as u64), &(places[2] as u64)]);
        assert_eq!(read("", None).unwrap().len(), 0);
    }

    #[test]
    fn a_file_of_another_run_or_shape_is_refused() {
        let content = line(&Header::new("2233")) + &line(&examples::step());
        let other = read(&content, Some("0011")).unwrap_err();
        assert!(other.ends_with("metrics.jsonl is of run 2233, not of run 0011; move it away"), "{other}");
        assert_eq!(read(&content, None).unwrap().len(), 1, "any run");
        let newer = content.replace("\"schema_version\":1", "\"schema_version\":9");
        let newer = read(&newer, None).unwrap_err();
        assert!(newer.contains("has schema version 9 and this program reads 1"), "{newer}");
    }

    #[test]
    fn a_step_needs_what_every_version_has_written() {
        let whole = serde_json::to_value(examples::step()).unwrap();
        for (field, is_needed) in
            [("loss", false), ("compute_seconds_max", false), ("seconds", true), ("workers", true)]
        {
            let mut line = whole.clone();
            line.as_object_mut().unwrap().remove(field);
            assert_eq!(parse(line.to_string().as_bytes()).is_none(), is_needed, "{field}");
        }
    }

    #[test]
    fn a_line_longer_than_a_buffer_takes_no_more_memory() {
        let content = format!("first\n{}\nlast", "x".repeat(MAX_LINE_BYTES + 1));
        let mut lines = Lines::new(content.as_bytes());
        let capacity = lines.line.capacity();
        assert_eq!((lines.read().unwrap(), lines.line(), lines.offset), (End::Whole, &b"first"[..], 6));
        assert_eq!((lines.read().unwrap(), lines.line().len()), (End::Whole, 0));
        assert_eq!((lines.read().unwrap(), lines.line()), (End::Torn, &b"last"[..]));
        assert_eq!((lines.offset, lines.line.capacity()), (content.len() as u64, capacity));
    }
}
