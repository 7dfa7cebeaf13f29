//! Points at which a process can be told to die, as if by `kill -9`, or its disk to fail: for tests that sweep them all.
//!
//! `LOCKSTEP_CRASH_AT=ROLE/POINT:NUMBER` names a process (`coordinator`, or a worker's name), a point, and a step (or
//! an operation's number) there. At an operation on the disk it may name another fault instead: `...:NUMBER=stall` never
//! returns from it, `=stall-FILE` once there is that file, and `=full-COUNT` finds no space for so many operations from there on. Without
//! it a point costs one load.

use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

/// The environment variable.
pub const VARIABLE: &str = "LOCKSTEP_CRASH_AT";

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

/// What an operation on the disk comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never ends, or only once there is this file.
    Stall(Option<PathBuf>),
    /// There is no space.
    Full,
}

struct Plan {
    point: String,
    number: u64,
    /// What happens instead of death, and for how many numbers.
    fault: Option<(Fault, u64)>,
}

/// Says which process this is; points before it do nothing.
pub fn arm(role: &str) {
    PLAN.get_or_init(|| Plan::parse(role, &std::env::var(VARIABLE).ok()?));
}

/// Dies here, if this is the place.
pub fn point(name: &str, number: u64) {
    if let Some(Some(plan)) = PLAN.get()
        && plan.number == number
        && plan.fault.is_none()
        && plan.point == name
    {
        // Not an exit: nothing is flushed, dropped or said.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// What is to happen to this operation on the disk instead; dies here, if this is the place.
pub fn fault(name: &str, number: u64) -> Option<Fault> {
    point(name, number);
    let plan = PLAN.get()?.as_ref()?;
    let (fault, count) = plan.fault.as_ref()?;
    let is_here = plan.point == name && (plan.number..plan.number.saturating_add(*count)).contains(&number);
    is_here.then(|| fault.clone())
}

impl Plan {
    fn parse(role: &str, text: &str) -> Option<Self> {
        let (text, fault) = match text.split_once('=') {
            Some((text, fault)) => (text, Some(parse_fault(fault)?)),
            None => (text, None),
        };
        let (place, number) = text.rsplit_once(':')?;
        let point = place.strip_prefix(role)?.strip_prefix('/')?;
        Some(Self { point: point.to_string(), number: number.parse().ok()?, fault })
    }
}

fn parse_fault(text: &str) -> Option<(Fault, u64)> {
    match text.split_once('-') {
        Some(("stall", file)) => Some((Fault::Stall(Some(file.into())), 1)),
        Some(("full", count)) => Some((Fault::Full, count.parse().ok()?)),
        _ => (text == "stall").then_some((Fault::Stall(None), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_for_one_process() {
        let plan = Plan::parse("local-1", "local-1/leaf:7").unwrap();
        assert_eq!((plan.point.as_str(), plan.number), ("leaf", 7));
        assert!(Plan::parse("local-2", "local-1/leaf:7").is_none());
        assert!(Plan::parse("local-1", "local-12/leaf:7").is_none());
        assert!(Plan::parse("coordinator", "coordinator/leaf").is_none());
    }

    #[test]
    fn a_plan_may_name_a_fault_of_the_disk() {
        let fault = |text| Plan::parse("coordinator", text).and_then(|plan| plan.fault);
        assert_eq!(fault("coordinator/disk:20"), None);
        assert_eq!(fault("coordinator/disk:20=stall"), Some((Fault::Stall(None), 1)));
        let until = Some((Fault::Stall(Some("/a-b/c".into())), 1));
        assert_eq!(fault("coordinator/disk:20=stall-/a-b/c"), until);
        assert_eq!(fault("coordinator/disk:20=full-7"), Some((Fault::Full, 7)));
        assert!(Plan::parse("coordinator", "coordinator/disk:20=melt").is_none());
    }
}
