//! Cuts a file of JSON lines back to the point that a run was restored to, so that what follows is written once.
//!
//! Owns which lines stay and where the file ends; never writes a line and never changes one that stays. The cut is one
//! `set_len` at the border of two lines and an fsync: a crash leaves the old length or the new one, it needs no second
//! copy (a full disk is one of the reasons to resume), and since a run records in the order of its steps, what has to
//! go is always the end of the file. Lines stream through a buffer of bounded size.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
};

use lockstep_records::{End, Header, HeaderFlaw, Lines, Record, SCHEMA_VERSION, parse};

use crate::StepSums;

/// The point of a run from which it goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Restored {
    /// Steps that are part of the restored state.
    pub step: u64,
    /// Whether an epoch that ends with `step` is complete, too. A run that does not validate has nothing left to do
    /// for it, so there it always is; otherwise only after the validation. The line of an epoch that is not complete
    /// goes, since it will be written again.
    pub validated: bool,
}

/// A file of an earlier process of the run cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The system refused.
    #[error("cannot continue {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file belongs to another run.
    #[error(
        "{} is of run {found}, not of run {expected}; it is left as it is: move it away and resume again",
        path.display()
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// The run it names.
        found: String,
        /// The run to be resumed.
        expected: String,
    },
    /// The file has another shape.
    #[error(
        "{} has schema version {found} and this program writes {SCHEMA_VERSION}; it is left as it is: resume with \
         the program that wrote it, or move it away",
        path.display()
    )]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file does not begin with a header of ours.
    #[error(
        "{} does not begin with the header of a run; it is left as it is: move it away and resume again",
        path.display()
    )]
    NoHeader {
        /// The file.
        path: PathBuf,
    },
}

/// What the lines that stay have in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Kept {
    /// The last step that has a line, or that an event was recorded after.
    pub last_step: u64,
    /// The steps of an epoch that has no line of its own yet.
    pub epoch: StepSums,
    /// That epoch.
    number: u32,
}

impl Kept {
    fn add(&mut self, record: &Record) {
        self.last_step = step_of(record);
        match record {
            Record::Step(step) => {
                if step.epoch != self.number {
                    (self.epoch, self.number) = (StepSums::default(), step.epoch);
                }
                let is_finite =
                    step.loss.is_finite() && step.accuracy.is_finite() && step.seconds.is_finite();
                if is_finite {
                    self.epoch.add_step(step.examples, step.loss, step.accuracy, step.seconds);
                }
            }
            Record::Epoch(epoch) => (self.epoch, self.number) = (StepSums::default(), epoch.epoch),
            _ => {}
        }
    }
}

impl Restored {
    /// Whether the record of a step, of an epoch or of any event is part of the restored state.
    fn covers(self, record: &Record) -> bool {
        let step = step_of(record);
        step < self.step || (step == self.step && (self.validated || !matches!(record, Record::Epoch(_))))
    }
}

/// The steps that were committed when it was recorded.
fn step_of(record: &Record) -> u64 {
    match record {
        Record::Step(record) => record.step,
        Record::Epoch(record) => record.step,
        Record::Event(record) => record.step,
        Record::Norms(record) => record.step,
        Record::Picture(record) => record.step,
        Record::Workers(record) => record.step,
        Record::Evaluation(record) => record.step,
    }
}

/// A file that is ready to be appended to.
pub(crate) struct Continued {
    /// Every write goes to its end.
    pub file: File,
    /// Whether there is a header; without one the file is empty.
    pub has_header: bool,
    /// What the lines before have in the end.
    pub kept: Kept,
}

/// Opens the file at `path`, or creates it, and cuts everything after `restored`: from the first record that is beyond
/// it, and a torn end. Damage between records that stay is left where it is.
///
/// # Errors
///
/// [`ResumeError`]; the file is then as it was, unless the cut itself failed.
pub(crate) fn cut(path: &Path, run_id: &str, restored: Restored) -> Result<Continued, ResumeError> {
    let failed = |source| ResumeError::File { path: path.to_path_buf(), source };
    let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut lines = Lines::new(&file);
    let (end, kept) = match lines.read().map_err(failed)? {
        // A crash in the moment of its creation left a part of the header, or not even that.
        End::Torn if length <= header_bytes(run_id) => (0, Kept::default()),
        End::Torn => return Err(ResumeError::NoHeader { path: path.to_path_buf() }),
        End::Whole => {
            check_header(path, lines.line(), run_id)?;
            last_covered(&mut lines, restored).map_err(failed)?
        }
    };
    if end < length {
        file.set_len(end).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok(Continued { file, has_header: end > 0, kept })
}

/// The longest a header of `run_id` can be, with its line break.
fn header_bytes(run_id: &str) -> u64 {
    let longest = format!(r#"{{"kind":"header","schema_version":{},"run_id":"{run_id}"}}"#, u32::MAX);
    longest.len() as u64 + 1
}

fn check_header(path: &Path, line: &[u8], run_id: &str) -> Result<(), ResumeError> {
    let path = path.to_path_buf();
    let Some(header) = Header::parse(line) else { return Err(ResumeError::NoHeader { path }) };
    header.check(Some(run_id)).map_err(|flaw| match flaw {
        HeaderFlaw::OtherSchema { found } => ResumeError::OtherSchema { path, found },
        HeaderFlaw::OtherRun { found } => ResumeError::OtherRun { path, found, expected: run_id.to_owned() },
    })
}

/// Where the last line ends that `restored` covers, and what lies before; `lines` stands behind the header.
fn last_covered(lines: &mut Lines<impl Read>, restored: Restored) -> io::Result<(u64, Kept)> {
    let (mut end, mut kept) = (lines.offset_bytes(), Kept::default());
    while let End::Whole = lines.read()? {
        // What is no record is damage: at the end of the file it goes, elsewhere nothing is gained by moving it.
        let Some(record) = parse(lines.line()) else { continue };
        if !restored.covers(&record) {
            break;
        }
        end = lines.offset_bytes();
        kept.add(&record);
    }
    Ok((end, kept))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lockstep_records::{EpochRecord, MAX_LINE_BYTES, StepRecord, examples};
    use serde::Serialize;

    use super::*;

    const HEADER: &str = "{\"kind\":\"header\",\"schema_version\":1,\"run_id\":\"0011\"}\n";

    fn line(record: &impl Serialize) -> String {
        serde_json::to_string(record).unwrap() + "\n"
    }

    fn step(step: u64) -> String {
        line(&StepRecord { step, ..examples::step() })
    }

    fn epoch(step: u64) -> String {
        line(&EpochRecord { epoch: 1, step, ..examples::epoch() })
    }

    /// Cuts a file of `content` and returns what is left, with the last step.
    fn cut_content(content: &[u8], restored: Restored) -> Result<(Vec<u8>, u64), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        fs::write(&path, content).unwrap();
        let continued = cut(&path, "0011", restored);
        let left = fs::read(&path).unwrap();
        match continued {
            Ok(continued) => {
                assert_eq!(continued.has_header, !left.is_empty());
                Ok((left, continued.kept.last_step))
            }
            Err(error) => {
                assert_eq!(left, content, "a refused file is left as it was");
                Err(error.to_string().replace(directory.path().to_str().unwrap(), "DIR"))
            }
        }
    }

    fn kept(content: &str, step: u64, validated: bool) -> String {
        let (left, _) = cut_content(content.as_bytes(), Restored { step, validated }).unwrap();
        String::from_utf8(left).unwrap()
    }

    #[test]
    fn what_is_beyond_the_restored_step_goes() {
        let lines = [step(1), step(2), epoch(2), step(3), step(4), epoch(4), step(5)];
        let whole = format!("{HEADER}{}", lines.concat());
        for (restored, validated, expected) in [
            (0, true, 0),
            (1, false, 1),
            (2, false, 2),
            (2, true, 3),
            (3, false, 4),
            (3, true, 4),
            (4, false, 5),
            (4, true, 6),
            (5, false, 7),
            (6, true, 7),
        ] {
            let expected = format!("{HEADER}{}", lines[..expected].concat());
            assert_eq!(kept(&whole, restored, validated), expected, "step {restored}, {validated}");
            assert_eq!(kept(&expected, restored, validated), expected, "a second cut changes nothing");
        }
        // As if a process had gone on behind lines that it should have cut: each step is there once all the same.
        let rewound = format!("{HEADER}{}{}{}{}", step(1), step(2), step(3), step(2));
        assert_eq!(kept(&rewound, 2, true), format!("{HEADER}{}{}", step(1), step(2)));
    }

    #[test]
    fn a_file_torn_at_any_byte_ends_with_its_last_whole_line() {
        let lines = [HEADER.to_owned(), step(1), step(2), epoch(2), step(3)];
        let whole = lines.concat();
        for length in 0..=whole.len() {
            let mut expected = String::new();
            for line in &lines {
                if expected.len() + line.len() > length {
                    break;
                }
                expected.push_str(line);
            }
            assert_eq!(kept(&whole[..length], 3, false), expected, "torn after {length} bytes");
        }
    }

    #[test]
    fn damage_goes_at_the_end_and_is_passed_over_elsewhere() {
        let long =
            format!("{{\"kind\":\"step\",\"step\":9,\"reason\":\"{}\"}}\n", "x".repeat(MAX_LINE_BYTES));
        for damage in ["\0\0\0\0\n", "{\"kind\":\"step\",\"st\n", "\n", &long] {
            let between = format!("{HEADER}{}{damage}{}", step(1), step(2));
            assert_eq!(kept(&between, 2, false), between);
            let before_the_cut = format!("{HEADER}{}{damage}{}", step(1), step(3));
            assert_eq!(kept(&before_the_cut, 2, false), format!("{HEADER}{}", step(1)));
            let at_the_end = format!("{HEADER}{}{damage}", step(1));
            assert_eq!(kept(&at_the_end, 2, false), format!("{HEADER}{}", step(1)));
        }
    }

    #[test]
    fn the_last_step_is_that_of_the_last_line_that_stays() {
        let content = format!("{HEADER}{}{}{}", step(1), step(2), step(3));
        for (restored, expected) in [(0, 0), (2, 2), (3, 3), (9, 3)] {
            let (_, last) =
                cut_content(content.as_bytes(), Restored { step: restored, validated: false }).unwrap();
            assert_eq!(last, expected);
        }
    }

    #[test]
    fn the_steps_of_an_epoch_that_is_not_over_are_summed() {
        let step = |step: u64, epoch: u32, loss: f32| {
            let sizes = StepRecord { accuracy: 0.5, examples: 32, seconds: 0.25, ..examples::step() };
            line(&StepRecord { step, epoch, loss, ..sizes })
        };
        let lines = [step(1, 1, 9.0), step(2, 1, 9.0), epoch(2), step(3, 2, 0.5), step(4, 2, f32::NAN)];
        let content = format!("{HEADER}{}{}", lines.concat(), step(5, 2, 0.1));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let sums = |step, validated| {
            fs::write(&path, &content).unwrap();
            cut(&path, "0011", Restored { step, validated }).unwrap().kept.epoch
        };
        let expected = |losses: &[f32]| {
            let mut sums = StepSums::default();
            losses.iter().for_each(|loss| sums.add_step(32, *loss, 0.5, 0.25));
            sums
        };
        assert_eq!(sums(1, false), expected(&[9.0]));
        // Its line will be written again, for which all of its steps are wanted.
        assert_eq!(sums(2, false), expected(&[9.0, 9.0]));
        assert_eq!(sums(2, true), StepSums::default());
        assert_eq!(sums(3, true), expected(&[0.5]));
        assert_eq!(sums(5, true), expected(&[0.5, 0.1]), "what was not finite is in no mean");
    }

    #[test]
    fn a_file_of_another_run_or_shape_is_refused_and_left() {
        let restored = Restored { step: 0, validated: false };
        let refused = |content: &str| cut_content(content.as_bytes(), restored).unwrap_err();
        let other = HEADER.replace("0011", "2233");
        assert_eq!(
            refused(&format!("{other}{}", step(1))),
            "DIR/metrics.jsonl is of run 2233, not of run 0011; it is left as it is: move it away and resume again"
        );
        let newer = HEADER.replace("\"schema_version\":1", "\"schema_version\":2");
        assert!(refused(&newer).contains("has schema version 2 and this program writes 1"), "{newer}");
        for foreign in [&step(1), "\n", "a letter\n", &"no line break ".repeat(20)] {
            assert!(refused(foreign).contains("does not begin with the header of a run"), "{foreign}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_opened_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let message = match cut(directory.path(), "0011", Restored { step: 0, validated: false }) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("a folder was opened"),
        };
        assert!(message.starts_with(&format!("cannot continue {}", directory.path().display())), "{message}");
    }
}
