//! The memory and the file descriptors of processes over their lives, to show that faults leak neither.
//!
//! Reads `/proc`; where there is none, it sees nothing and says so by staying empty.

use std::fs;

use serde::Serialize;

/// What one process used over its life, as far as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessUsage {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// When it was first seen, in seconds since the tool began.
    pub first_seconds: f64,
    /// When it was last seen.
    pub last_seconds: f64,
    /// Resident memory in bytes.
    pub memory_bytes: Series,
    /// Open file descriptors.
    pub descriptors: Series,
}

/// The first, the last and the greatest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Series {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The greatest.
    pub max: u64,
}

impl Series {
    fn new(value: u64) -> Self {
        Self { first: value, last: value, max: value }
    }

    fn add(&mut self, value: u64) {
        (self.last, self.max) = (value, self.max.max(value));
    }
}

/// All processes seen.
#[derive(Debug, Default)]
pub struct ProcessUsages {
    usages: Vec<ProcessUsage>,
}

impl ProcessUsages {
    /// Looks at a process; one that is gone, or not readable, is left as it was.
    pub fn sample(&mut self, name: &str, pid: u32, now_seconds: f64) {
        let Some((memory, descriptors)) = usage(pid) else { return };
        // The newest are at the end, and a number may come again after a long time.
        let known = self.usages.iter_mut().rev().find(|usage| usage.pid == pid && usage.name == name);
        match known {
            Some(usage) => {
                usage.last_seconds = now_seconds;
                usage.memory_bytes.add(memory);
                usage.descriptors.add(descriptors);
            }
            None => self.usages.push(ProcessUsage {
                name: name.to_string(),
                pid,
                first_seconds: now_seconds,
                last_seconds: now_seconds,
                memory_bytes: Series::new(memory),
                descriptors: Series::new(descriptors),
            }),
        }
    }

    /// What was seen, in the order of first sight.
    pub fn all(&self) -> &[ProcessUsage] {
        &self.usages
    }
}

/// Resident memory in bytes and the number of open descriptors.
fn usage(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some((kibibytes * 1024, descriptors as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_of_this_process_is_seen() {
        let pid = std::process::id();
        let mut usages = ProcessUsages::default();
        usages.sample("test", pid, 1.0);
        // Other tests of this process open and close files meanwhile, but not so many.
        let files: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let memory = vec![1u8; 64 << 20];
        usages.sample("test", pid, 2.0);
        drop((files, std::hint::black_box(memory)));
        usages.sample("test", pid, 3.0);
        usages.sample("another", pid, 3.0);
        let [usage, another] = usages.all() else { panic!("{usages:?}") };
        assert_eq!((usage.first_seconds, usage.last_seconds), (1.0, 3.0));
        let descriptors = usage.descriptors;
        assert!(descriptors.max >= descriptors.first + 400 && descriptors.last + 400 <= descriptors.max);
        assert!(usage.memory_bytes.max >= usage.memory_bytes.first + (48 << 20), "{usage:?}");
        assert_eq!(another.memory_bytes.first, another.memory_bytes.last);
    }

    #[test]
    fn a_process_that_is_gone_is_not_seen() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let mut usages = ProcessUsages::default();
        usages.sample("gone", child.id(), 1.0);
        assert!(usages.all().is_empty());
    }
}
