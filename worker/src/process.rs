//! What ties a local worker to its coordinator: it never outlives it, however the coordinator ends.

use std::io::{self, BufRead, BufReader, Read};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The coordinator that spawned this process.
pub(crate) struct Parent {
    token: String,
}

impl Parent {
    /// Asks for death with the parent, reads the join token from standard input, and watches that for its end.
    ///
    /// Two ties, because each has a gap: the signal kills a stopped worker too, but only Linux has it; the end of
    /// the pipe is seen everywhere, but not while stopped.
    pub(crate) fn bind(pid: i32) -> io::Result<Self> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the request.
        if getppid() != Pid::from_raw(pid) {
            return Err(io::Error::other(format!("the coordinator (process {pid}) is gone")));
        }
        let mut input = BufReader::new(io::stdin());
        let mut token = String::new();
        input.by_ref().take(256).read_line(&mut token)?;
        std::thread::Builder::new().name("parent".to_string()).spawn(move || {
            // Nothing more is ever written: this returns when the coordinator's end of the pipe is closed.
            let _ = io::copy(&mut input, &mut io::sink());
            std::process::exit(75);
        })?;
        Ok(Self { token: token.trim_end().to_string() })
    }

    pub(crate) fn into_token(self) -> String {
        self.token
    }
}

/// Binds this thread and those that it will start to `cores`, if there are any. A worker that cannot be bound is only
/// slower.
pub(crate) fn bind_to(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
    if set.count() > 0
        && let Err(error) = sched_setaffinity(None, &set)
    {
        tracing::warn!("cannot bind this worker to cores {cores:?}: {error}");
    }
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
