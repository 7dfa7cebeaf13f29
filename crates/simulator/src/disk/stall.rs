//! A call that takes long: its process is held at it until it is let go. Which call, and for how long, others decide.

use std::fmt;

use super::{State, VirtualDisk};

/// What is done at the call, with its name and its kind of file, while the disk is there for others. It returns when
/// the call goes on.
pub type Hold = Box<dyn FnOnce(&'static str, &'static str) + Send>;

/// A call to be held.
pub(super) struct Stall {
    process: usize,
    /// So many calls of the process before.
    calls: u64,
    hold: Option<Hold>,
}

impl Stall {
    pub(super) fn is_of(&self, process: usize) -> bool {
        self.process == process
    }
}

impl fmt::Debug for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} after {} calls", self.process, self.calls)
    }
}

impl VirtualDisk {
    /// Has a process held after so many calls that change something.
    pub fn arm_stall(&self, process: usize, calls: u64) {
        self.state().stall = Some(Stall { process, calls, hold: None });
    }

    /// Nobody is to be held any more.
    pub fn disarm_stall(&self) {
        self.state().stall = None;
    }

    /// Whether a process is to be held.
    pub fn is_stall_armed(&self, process: usize) -> bool {
        self.state().stall.as_ref().is_some_and(|stall| stall.is_of(process))
    }

    /// How the process is held. Until this is said, its calls are counted and none is held.
    pub fn hold_with(&self, hold: Hold) {
        if let Some(stall) = &mut self.state().stall {
            stall.hold = Some(hold);
        }
    }

    /// The process has come to the end of what it can be held in.
    pub fn hold_no_more(&self) {
        if let Some(stall) = &mut self.state().stall {
            stall.hold = None;
        }
    }
}

impl State {
    /// What holds a process at the call that it is about to make, if it is held there.
    pub(super) fn held_now(&mut self, process: usize) -> Option<Hold> {
        let stall = self.stall.as_mut().filter(|stall| stall.is_of(process))?;
        if stall.calls > 0 {
            stall.calls -= 1;
            return None;
        }
        let hold = stall.hold.take()?;
        self.stall = None;
        Some(hold)
    }
}
