//! `workers.json`: what each worker of the process that ended a run did over its whole time, for who looks at the run
//! later. Nothing depends on it.

use std::fs::File;
use std::io::{self, Read};

use lockstep_checkpoint::write_atomically;
use lockstep_proto::RunId;
use lockstep_records::{SchemaVersion, WorkersRecord};
use serde::{Deserialize, Serialize};

use crate::RunDirectory;

/// More than as many workers as there may be need; what is longer is none of ours.
const MAX_BYTES: u64 = 4 << 20;

#[derive(Deserialize, Serialize)]
struct WorkersFile {
    schema_version: SchemaVersion,
    run_id: String,
    workers: WorkersRecord,
}

/// Writes it; a disk that refuses is a warning.
pub fn write(directory: &RunDirectory, run_id: RunId, workers: &WorkersRecord) {
    let content =
        WorkersFile { schema_version: SchemaVersion, run_id: run_id.to_string(), workers: workers.clone() };
    let written = serde_json::to_vec(&content).map_err(io::Error::from);
    let written =
        written.and_then(|json| write_atomically(&directory.workers(), &json).map_err(io::Error::other));
    if let Err(error) = written {
        tracing::warn!("what each worker did is not kept: {error}");
    }
}

/// What it tells of a run that has done `steps`; nothing, if there is none, or the run has gone on since.
pub fn read(directory: &RunDirectory, run_id: RunId, steps: u64) -> Option<WorkersRecord> {
    let path = directory.workers();
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("cannot read {}, so the workers are not shown: {error}", path.display());
            return None;
        }
        Ok(_) => {}
    }
    match serde_json::from_str::<WorkersFile>(&text) {
        Ok(found) => {
            (found.run_id == run_id.to_string() && found.workers.step >= steps).then_some(found.workers)
        }
        Err(error) => {
            tracing::warn!("{} cannot be understood, so the workers are not shown: {error}", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_unless_it_is_of_another_time() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(&scratch.path().join("run")).unwrap();
        let (run, other) = (RunId([1; 16]), RunId([2; 16]));
        assert_eq!(read(&directory, run, 0), None);
        let workers = WorkersRecord { seconds: 2.5, step: 7, window_seconds: 2.0, workers: Vec::new() };
        write(&directory, run, &workers);
        assert_eq!(read(&directory, run, 7), Some(workers));
        assert_eq!((read(&directory, run, 8), read(&directory, other, 7)), (None, None));
        std::fs::write(directory.workers(), "{\"schema_version\":99}").unwrap();
        assert_eq!(read(&directory, run, 0), None);
    }
}
