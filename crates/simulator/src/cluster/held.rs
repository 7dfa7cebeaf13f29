//! Work of the production journal in which a call of the disk is held: it runs on a thread of the system, since it cannot
//! stop in between. Nothing else runs while that thread does, so that a seed gives one trace.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::disk::VirtualDisk;

/// How far the work has come.
pub enum Progress<T> {
    /// To its end, with this result.
    Done(T),
    /// To a call that is held.
    Held { thread: HeldThread<T>, call: &'static str, file: &'static str },
}

/// A thread that is held at a call of the disk. Dropped, it goes on and ends.
pub struct HeldThread<T> {
    thread: Option<JoinHandle<()>>,
    /// Dropped: go on.
    go_on: Option<Sender<()>>,
    reports: Receiver<Report<T>>,
}

enum Report<T> {
    Held { call: &'static str, file: &'static str },
    Done(T),
    Panicked(Box<dyn Any + Send>),
}

impl<T: Send + 'static> HeldThread<T> {
    /// Works until all is done or the armed call is held.
    pub fn start(disk: &VirtualDisk, work: impl FnOnce() -> T + Send + 'static) -> Progress<T> {
        let (report, reports) = channel();
        let (go_on, may_go_on) = channel();
        let reached = report.clone();
        disk.hold_with(Box::new(move |call, file| {
            let _ = reached.send(Report::Held { call, file });
            // An error: the other end is dropped, which means the same.
            let _ = may_go_on.recv();
        }));
        let thread = thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            let _ = report.send(result.map_or_else(Report::Panicked, Report::Done));
        });
        let held = Self { thread: Some(thread), go_on: Some(go_on), reports };
        let progress = held.progress();
        disk.hold_no_more();
        progress
    }

    /// Lets the call go on, and the work with it.
    pub fn go_on(mut self) -> Progress<T> {
        drop(self.go_on.take());
        self.progress()
    }

    fn progress(self) -> Progress<T> {
        match self.reports.recv().expect("it reports before it ends") {
            Report::Held { call, file } => Progress::Held { thread: self, call, file },
            Report::Done(result) => Progress::Done(result),
            Report::Panicked(panic) => resume_unwind(panic),
        }
    }
}

impl<T> Drop for HeldThread<T> {
    fn drop(&mut self) {
        drop(self.go_on.take());
        if let Some(thread) = self.thread.take() {
            // What it panics with, it has reported.
            let _ = thread.join();
        }
    }
}

impl<T> std::fmt::Debug for HeldThread<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeldThread")
    }
}
