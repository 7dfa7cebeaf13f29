//! Points at which a process can be told to die, as if by `kill -9`: for tests that sweep them all.
//!
//! `LOCKSTEP_CRASH_AT=ROLE/POINT:NUMBER` names a process (`coordinator`, or a worker's name), a point, and a step (or
//! an operation's number) there. Without it a point costs one load.

use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

/// The environment variable.
pub const VARIABLE: &str = "LOCKSTEP_CRASH_AT";

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

struct Plan {
    point: String,
    number: u64,
}

/// Says which process this is; points before it do nothing.
pub fn arm(role: &str) {
    PLAN.get_or_init(|| Plan::parse(role, &std::env::var(VARIABLE).ok()?));
}

/// Dies here, if this is the place.
pub fn point(name: &str, number: u64) {
    if let Some(Some(plan)) = PLAN.get()
        && plan.number == number
        && plan.point == name
    {
        // Not an exit: nothing is flushed, dropped or said.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

impl Plan {
    fn parse(role: &str, text: &str) -> Option<Self> {
        let (place, number) = text.rsplit_once(':')?;
        let point = place.strip_prefix(role)?.strip_prefix('/')?;
        Some(Self { point: point.to_string(), number: number.parse().ok()? })
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
}
