//! What the report takes from the records of a run: its history, and sums over all of it.
//!
//! Bounded, however long the run was.

use std::collections::BTreeMap;
use std::io;

use lockstep_proto::RunId;
use lockstep_records::{Record, RunHistory, each_record};
use lockstep_run_directory::RunDirectory;

/// Names of workers that are told apart; of a run that had more, the rest are counted only.
const MAX_MEMBERS: usize = 64;

/// The records of a run.
pub struct Records {
    /// Epochs, curves, the last events, and where the run is.
    pub history: RunHistory,
    /// Sums over all steps.
    pub totals: Totals,
    /// Who took part, by name.
    pub members: BTreeMap<String, Member>,
    /// Times that somebody joined for whose name there was no room.
    pub joined_besides: u64,
}

/// Sums over all steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Their number.
    pub steps: u64,
    /// Examples in them.
    pub examples: u64,
    /// Their length.
    pub seconds: f64,
    /// Of that: sending, waiting, adding, updating.
    pub parts: [f64; 4],
    /// Payload to workers and from them.
    pub bytes: [u64; 2],
    /// The fewest and the most workers at the end of one.
    pub workers: Option<(u32, u32)>,
}

/// A worker, or all that had this name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    /// How often it joined.
    pub joined: u64,
    /// Steps done by then, the first time.
    pub first: u64,
    /// How often it was dropped, before the end of the run.
    pub left: u64,
    /// Steps done by then, the last time, and why.
    pub last: Option<(u64, String)>,
}

impl Records {
    /// Reads them; a file that is not there has nothing to tell.
    ///
    /// # Errors
    ///
    /// If one that is there cannot be read.
    pub fn read(directory: &RunDirectory, run_id: RunId) -> io::Result<Self> {
        let mut history = RunHistory::default();
        let (mut totals, mut members, mut joined_besides) = (Totals::default(), BTreeMap::new(), 0);
        let files = [directory.metrics(), directory.events()];
        each_record(&files, &run_id.to_string(), |record| {
            match &record {
                Record::Step(step) => {
                    totals.steps += 1;
                    totals.examples += u64::from(step.examples);
                    totals.seconds += step.seconds;
                    let parts =
                        [step.send_seconds, step.wait_seconds, step.reduce_seconds, step.update_seconds];
                    totals.parts.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
                    let bytes = [step.bytes_sent, step.bytes_received];
                    totals.bytes.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum += bytes);
                    let (least, most) = totals.workers.unwrap_or((step.workers, step.workers));
                    totals.workers = Some((least.min(step.workers), most.max(step.workers)));
                }
                Record::Event(event) => {
                    let name = event.worker.clone().unwrap_or_default();
                    let room = members.len() < MAX_MEMBERS || members.contains_key(&name);
                    match &*event.kind {
                        "worker_joined" if !room => joined_besides += 1,
                        "worker_joined" => {
                            let member = members
                                .entry(name)
                                .or_insert_with(|| Member { first: event.step, ..Member::default() });
                            member.joined += 1;
                        }
                        "worker_dropped" => {
                            if let Some(member) = members.get_mut(&name) {
                                member.left += 1;
                                member.last = Some((event.step, event.reason.clone()));
                            }
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
            history.take(&record);
        })?;
        Ok(Self { history, totals, members, joined_besides })
    }
}
