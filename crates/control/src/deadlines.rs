//! Time: every deadline of a run, how long each is and from when it counts, and the one timer for all of them.
//!
//! The deadlines that end a run are set and stopped. The others follow from when members were heard and got on with
//! their work, and are derived anew whenever the timer is set: none of them can be forgotten or out of date.
//!
//! Slow and stuck are told apart by what members say that they have done: a member that does example after example is
//! not stuck, however long its leaves take.

use std::fmt;
use std::time::Duration;

use crate::control::{Control, Phase, milliseconds};
use crate::member::Member;
use crate::task_leaves::Assignment;
use crate::{AssignmentId, Command, DropReason, TaskKind, Time, WorkerId};

/// Heartbeats that a peer sends within a deadline: some may be late before it counts as silent.
pub const HEARTBEATS_PER_DEADLINE: u32 = 4;

/// A timer that is late by this part of the deadline means that the coordinator itself did not run: the silence is
/// its own.
const OWN_PAUSE: u32 = 4;

/// A member may be silent for so many of its own leaves: a machine that takes long for one is slow in everything.
const SILENT_LEAVES: u32 = 3;

/// A member that is alive and does no example of its work for so many deadlines counts as stuck.
const STUCK_DEADLINES: u32 = 8;

/// Or, where examples have been seen to take long, for so many times the longest that anybody took.
const STUCK_TIMES: u32 = 2;

/// A member may fall behind by this part of the deadline before its work is given to others, too: what a busy machine
/// does to a process now and then is no reason.
const LEAST_LATENESS: u32 = 20;

/// A member that was late is distrusted for so many deadlines at most.
const DISTRUSTED_DEADLINES: u32 = 8;

/// What happens at a time unless something else happens before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The run ends because too few workers have joined for its first step.
    Join,
    /// The run ends because all workers left and nobody has joined since.
    Patience,
    /// The member is dropped because nothing was heard of it.
    Silent(WorkerId),
    /// The member is dropped because it has done no example of the assignment.
    Stuck(WorkerId, AssignmentId),
    /// The assignment is offered to idle members, too.
    Late(WorkerId, AssignmentId),
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join => f.write_str("the workers have to join by then"),
            Self::Patience => f.write_str("all workers left, and somebody has to join by then"),
            Self::Silent(worker) => write!(f, "{worker} is silent by then"),
            Self::Stuck(worker, assignment) => write!(f, "{worker} is stuck with {assignment} by then"),
            Self::Late(worker, assignment) => write!(f, "{worker} is late with {assignment} by then"),
        }
    }
}

/// How often peers say that they are alive when they have nothing else to say.
pub fn heartbeat(deadline: Duration) -> Duration {
    deadline / HEARTBEATS_PER_DEADLINE
}

/// The deadline that ends the run, and the caller's timer.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// `Join` before the start, `Patience` after it.
    end: Option<(Time, Deadline)>,
    timer: Option<Time>,
}

impl Deadlines {
    /// Sets the deadline that ends the run, in place of the one that was set before.
    pub(crate) fn set(&mut self, deadline: Deadline, at: Time, commands: &mut Vec<Command>) {
        self.end = Some((at, deadline));
        self.arm(deadline, at, commands);
    }

    /// Sets a deadline to a later time if it is the one that is set.
    fn postpone(&mut self, deadline: Deadline, until: Time) {
        if let Some((at, set)) = &mut self.end
            && *set == deadline
        {
            *at = until;
        }
    }

    /// No time ends the run any more.
    pub(crate) fn stop(&mut self) {
        self.end = None;
    }

    /// The deadline that ends the run now.
    fn expired(&self, now: Time) -> Option<Deadline> {
        self.end.filter(|(at, _)| *at <= now).map(|(_, deadline)| deadline)
    }

    /// Has `Timer` reported at `at`, if it is not reported before anyway.
    pub(crate) fn arm(&mut self, deadline: Deadline, at: Time, commands: &mut Vec<Command>) {
        if self.timer.is_none_or(|timer| at < timer) {
            self.timer = Some(at);
            commands.push(Command::SetTimer { at, deadline });
        }
    }
}

/// Since when the run has not got on, and until when joining workers are waited for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// When something was computed that nobody had computed before.
    pub(crate) progress_at: Time,
    /// For how long since then this process itself did not run.
    own_pauses: Duration,
    /// Workers that join later are not waited for.
    pub(crate) until: Time,
    /// Somebody came since, and left.
    pub(crate) joined_and_left: bool,
    /// It was said that the run does not get on.
    pub(crate) stall_reported: bool,
}

impl Patience {
    pub(crate) fn new(now: Time, patience: Duration) -> Self {
        let (until, own_pauses) = (now.after(patience), Duration::ZERO);
        Self { progress_at: now, own_pauses, until, joined_and_left: false, stall_reported: false }
    }

    /// A member may come in the place of one that left now.
    pub(crate) fn await_joins(&mut self, now: Time, patience: Duration) {
        self.until = now.after(patience);
        self.stall_reported = false;
    }

    /// For how long the run has not got on, without the time in which this process itself did not run.
    pub(crate) fn waited(&self, now: Time) -> Duration {
        now.since(self.progress_at).saturating_sub(self.own_pauses)
    }

    /// This process itself did not run for `pause`, until now: nobody could come or get on. What came before the run
    /// got on last excuses nothing, and a patience that was over by then stays over.
    fn exclude_pause(&mut self, now: Time, pause: Duration) {
        let pause = pause.min(now.since(self.progress_at));
        self.own_pauses = self.own_pauses.saturating_add(pause);
        let until = self.until.after(pause);
        if until >= now {
            self.until = until;
        }
    }
}

/// A member that was late gets nothing until it is heard again, and not at once: each time for twice as long, until it
/// gets on with its work.
#[derive(Debug)]
pub(crate) struct Distrust {
    /// From when to when, if it is distrusted.
    interval: Option<(Time, Time)>,
    /// How long the next one lasts at least.
    next: Duration,
}

impl Distrust {
    /// Of a member that was never late, or has got on with its work since.
    pub(crate) fn none(deadline: Duration) -> Self {
        Self { interval: None, next: heartbeat(deadline) }
    }

    pub(crate) fn begin(&mut self, now: Time, deadline: Duration) {
        self.interval = Some((now, now.after(self.next)));
        self.next = (self.next * 2).min(deadline * DISTRUSTED_DEADLINES);
    }

    pub(crate) fn is_some(&self) -> bool {
        self.interval.is_some()
    }

    /// Whether a member that was last heard at `heard` may be given work.
    pub(crate) fn is_over(&self, now: Time, heard: Time) -> bool {
        self.interval.is_none_or(|(since, until)| until <= now && since < heard)
    }
}

/// An assignment that is late.
pub(crate) struct Late {
    pub(crate) worker: WorkerId,
    pub(crate) assignment: AssignmentId,
    pub(crate) leaves: u32,
    pub(crate) waited: Duration,
    pub(crate) expected: Duration,
    /// That it is late says something of its holder.
    pub(crate) first_noticed: bool,
}

impl Control {
    /// The run begins: its workers have to join in time.
    pub(crate) fn await_joins(&mut self, now: Time, commands: &mut Vec<Command>) {
        if let Some(timeout) = self.settings.join_timeout {
            self.deadlines.set(Deadline::Join, now.after(timeout), commands);
        }
    }

    /// The caller's timer went off.
    pub(crate) fn timer(&mut self, now: Time, commands: &mut Vec<Command>) {
        let Some(timer) = self.deadlines.timer.take() else { return };
        if now < timer {
            // The caller's clock was early: ask again.
            return self.set_timer(now, commands);
        }
        let pause = now.since(timer);
        if pause >= self.settings.deadline / OWN_PAUSE {
            self.restart_member_deadlines(now);
            self.patience.exclude_pause(now, pause);
            self.deadlines.postpone(Deadline::Patience, self.patience.until);
        }
        if let Some(deadline) = self.deadlines.expired(now) {
            return self.finish_at_deadline(now, deadline, commands);
        }
        while let Some((worker, reason)) = self.overdue_member(now) {
            if let DropReason::Stuck { waited_ms, .. } = reason
                && let Some(front) = self.window.front_mut()
            {
                // The next holder of its leaves is given longer.
                front.longest_stuck = front.longest_stuck.max(Duration::from_millis(waited_ms));
            }
            self.drop_member(now, worker, reason, commands);
            if self.phase == Phase::Finished {
                return;
            }
        }
        self.report_stall(now, commands);
        self.dispatch(now, commands);
        self.set_timer(now, commands);
    }

    /// Sets the timer for whatever comes next.
    fn set_timer(&mut self, now: Time, commands: &mut Vec<Command>) {
        let silent = self.members.keys().filter_map(|worker| self.silent_from(*worker));
        let limit = self.stuck_after();
        let held = self.window.front().into_iter().flat_map(|front| front.held());
        let stuck = held.filter_map(|assignment| {
            let deadline = Deadline::Stuck(assignment.worker, assignment.id);
            Some((assignment.progress_at?.after(limit), deadline))
        });
        // What is late already waits for somebody to be idle, not for a time.
        let late = self.next_late().filter(|(at, _)| now < *at);
        let next = silent.chain(stuck).chain(late).min_by_key(|(at, _)| *at);
        for (at, deadline) in next.into_iter().chain(self.deadlines.end) {
            self.deadlines.arm(deadline, at, commands);
        }
    }

    /// After a pause of its own the coordinator has heard nobody, and nobody is to blame.
    fn restart_member_deadlines(&mut self, now: Time) {
        self.members.values_mut().for_each(|member| member.heard = now);
        if let Some(front) = self.window.front_mut() {
            front.open(now);
        }
    }

    /// Whom to drop for silence, or else for doing nothing.
    fn overdue_member(&self, now: Time) -> Option<(WorkerId, DropReason)> {
        let silent = self.members.iter().find_map(|(worker, member)| {
            let silence = now.since(member.heard);
            let silent = silence >= self.silence(*worker);
            silent.then_some((*worker, DropReason::Silent { silence_ms: milliseconds(silence) }))
        });
        let stuck = || {
            let limit = self.stuck_after();
            self.window.front()?.held().iter().find_map(|assignment| {
                let waited = now.since(assignment.progress_at?);
                let reason = DropReason::Stuck { assignment: assignment.id, waited_ms: milliseconds(waited) };
                (waited >= limit).then_some((assignment.worker, reason))
            })
        };
        silent.or_else(stuck)
    }

    /// When a member counts as silent if nothing is heard of it any more.
    pub(crate) fn silent_from(&self, worker: WorkerId) -> Option<(Time, Deadline)> {
        let member = self.members.get(&worker)?;
        Some((member.heard.after(self.silence(worker)), Deadline::Silent(worker)))
    }

    /// How long a member may be silent.
    fn silence(&self, worker: WorkerId) -> Duration {
        let leaf_time = self.members.get(&worker).and_then(|member| member.leaf_time(TaskKind::Train));
        let leaves = leaf_time.map_or(0, |leaf_time| leaf_time.mean().saturating_mul(SILENT_LEAVES.into()));
        // However slow it is, not for longer than it may be stuck.
        self.settings.deadline.max(Duration::from_nanos(leaves).min(self.least_stuck()))
    }

    /// How long a member may do no example of its work.
    pub(crate) fn stuck_after(&self) -> Duration {
        let of_members = self.members.values().map(Member::longest_pause).max().unwrap_or_default();
        let of_dropped = self.window.front().map_or(Duration::ZERO, |front| front.longest_stuck);
        self.least_stuck().max(of_members.max(of_dropped).saturating_mul(STUCK_TIMES))
    }

    /// However fast the members are.
    pub(crate) fn least_stuck(&self) -> Duration {
        self.settings.deadline * STUCK_DEADLINES
    }

    /// When something of the current task is late, at the earliest, that nobody else has or may get.
    pub(crate) fn next_late(&self) -> Option<(Time, Deadline)> {
        let front = self.window.front()?;
        let lateness = front.held().iter().filter_map(|assignment| {
            let deadline = Deadline::Late(assignment.worker, assignment.id);
            if assignment.late.is_some() {
                return assignment.since.filter(|_| front.holds_alone(assignment)).zip(Some(deadline));
            }
            let (_, tolerated) = self.expected_and_tolerated(assignment, front.task.kind);
            Some((assignment.since?.after(tolerated), deadline))
        });
        lateness.min_by_key(|(at, _)| *at)
    }

    /// An assignment of the current task that is late, while another member is idle.
    pub(crate) fn late_assignment(&self, now: Time) -> Option<Late> {
        let front = self.window.front()?;
        let somebody_is_idle =
            self.members.iter().any(|(worker, member)| member.is_trusted(now) && !front.holds(*worker));
        if !somebody_is_idle {
            return None;
        }
        front.held().iter().find_map(|assignment| {
            if assignment.late.is_some() && !front.holds_alone(assignment) {
                return None;
            }
            let since = assignment.since?;
            let (expected, tolerated) = self.expected_and_tolerated(assignment, front.task.kind);
            let late = assignment.late.is_some() || now >= since.after(tolerated);
            late.then_some(Late {
                worker: assignment.worker,
                assignment: assignment.id,
                leaves: assignment.leaves,
                waited: now.since(since),
                expected: assignment.late.unwrap_or(expected),
                // Of one that is measured again nothing was expected, and of the others it is known by then.
                first_noticed: assignment.late.is_none() && !assignment.probe,
            })
        })
    }

    /// How long an assignment takes at most as a rule, and how long it may take before it is late.
    fn expected_and_tolerated(&self, assignment: &Assignment, kind: TaskKind) -> (Duration, Duration) {
        let expected = self.expected(assignment.worker, kind, assignment.leaves);
        let tolerated = match assignment.probe {
            // What a member of full speed would have taken.
            true => {
                let leaf_times = self.members.values().filter_map(|member| member.leaf_time(kind));
                let bounds =
                    leaf_times.map(|leaf_time| Duration::from_nanos(leaf_time.bound(assignment.leaves)));
                bounds.min().unwrap_or(expected)
            }
            false => expected.max(self.settings.deadline / LEAST_LATENESS),
        };
        (expected, tolerated)
    }

    /// How long leaves hardly ever take a member: as measured of it, else of the slowest of the others.
    fn expected(&self, worker: WorkerId, kind: TaskKind, leaves: u32) -> Duration {
        let own = self.members.get(&worker).and_then(|member| member.leaf_time(kind));
        let bound = match own {
            Some(leaf_time) => Some(leaf_time.bound(leaves)),
            None => {
                let others = self.members.values().filter_map(|member| member.leaf_time(kind));
                others.map(|leaf_time| leaf_time.bound(leaves)).max()
            }
        };
        bound.map_or(self.settings.deadline, Duration::from_nanos)
    }

    /// Whether the last checkpoint is so old that another one is due.
    pub(crate) fn checkpoint_is_due(&self, now: Time) -> bool {
        now.since(self.saved_at) >= self.settings.checkpoint_every
    }
}
