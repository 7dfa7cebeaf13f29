//! An entry in which a call of the disk is held: it runs on a thread of the system, since the production journal cannot
//! stop in between. Nothing else runs while that thread does, so that a seed gives one trace.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::{Waiting, Wrote, write_entry};
use crate::disk::VirtualDisk;
use crate::storage::Storage;

/// How far an entry has come.
pub(super) enum Progress {
    Wrote(Box<Storage>, Wrote),
    Held { thread: HeldThread, call: &'static str, file: &'static str },
}

/// A thread that writes an entry and is held at a call of the disk. Dropped, it goes on and ends.
pub(super) struct HeldThread {
    thread: Option<JoinHandle<()>>,
    /// Dropped: go on.
    go_on: Option<Sender<()>>,
    reports: Receiver<Report>,
}

enum Report {
    Held { call: &'static str, file: &'static str },
    Wrote(Box<Storage>, Wrote),
    Panicked(Box<dyn Any + Send>),
}

impl HeldThread {
    /// Writes an entry until it is done or a call of it is held.
    pub(super) fn start(disk: &VirtualDisk, storage: Box<Storage>, entry: Waiting) -> Progress {
        let (report, reports) = channel();
        let (go_on, may_go_on) = channel();
        let reached = report.clone();
        disk.hold_with(Box::new(move |call, file| {
            let _ = reached.send(Report::Held { call, file });
            // An error: the other end is dropped, which means the same.
            let _ = may_go_on.recv();
        }));
        let thread = thread::spawn(move || {
            let report_of = catch_unwind(AssertUnwindSafe(|| write_entry(storage, entry)));
            let _ = report.send(match report_of {
                Ok((storage, wrote)) => Report::Wrote(storage, wrote),
                Err(panic) => Report::Panicked(panic),
            });
        });
        let held = Self { thread: Some(thread), go_on: Some(go_on), reports };
        let progress = held.progress();
        disk.hold_no_more();
        progress
    }

    /// Lets the call go on, and the entry with it.
    pub(super) fn go_on(mut self) -> Progress {
        drop(self.go_on.take());
        self.progress()
    }

    fn progress(self) -> Progress {
        match self.reports.recv().expect("it reports before it ends") {
            Report::Held { call, file } => Progress::Held { thread: self, call, file },
            Report::Wrote(storage, wrote) => Progress::Wrote(storage, wrote),
            Report::Panicked(panic) => resume_unwind(panic),
        }
    }
}

impl Drop for HeldThread {
    fn drop(&mut self) {
        drop(self.go_on.take());
        if let Some(thread) = self.thread.take() {
            // What it panics with, it has reported.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for HeldThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeldThread")
    }
}
