//! The state machine: membership, the window of tasks, and the one mechanism that hands out work.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lockstep_reduction::Node;

use crate::work::Work;
use crate::{
    AssignReason, AssignmentId, Command, CommitReason, DropReason, Event, LeaveCause, Outcome, Plan,
    Recipient, RejectReason, Task, TaskKind, Time, TimerReason, WorkerId,
};

/// Tasks that are handed out at once: the current one, and the next, whose data travel while the current one is
/// computed.
const WINDOW: usize = 2;

/// What a run's control plane has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The tasks.
    pub plan: Plan,
    /// Members that the first step waits for, at least 1.
    pub expected_workers: u32,
    /// How long the first step waits for them; `None`: for ever.
    pub join_timeout: Option<Duration>,
    /// How long a run without members waits for one.
    pub patience: Duration,
}

/// The control plane of one run.
#[derive(Debug)]
pub struct Control {
    settings: Settings,
    phase: Phase,
    members: BTreeMap<WorkerId, Member>,
    /// Members that the first step waits for.
    awaited: u32,
    /// The current task and those handed out ahead; empty before the start.
    window: VecDeque<Work>,
    /// The step whose weights the members have.
    weights: u64,
    last_assignment: AssignmentId,
    deadline: Option<(Time, TimerReason)>,
    last_leave: Option<(WorkerId, LeaveCause)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Joining,
    Running,
    Finished,
}

#[derive(Debug)]
struct Member {
    threads: u32,
}

impl Control {
    /// The state before the first event.
    ///
    /// # Panics
    ///
    /// If a count in the settings that has to be at least 1 is 0.
    pub fn new(settings: Settings) -> Self {
        let Settings { plan, expected_workers, .. } = settings;
        assert!(expected_workers > 0, "a run has workers");
        assert!(plan.steps_per_epoch > 0 && plan.steps > 0, "a run has steps");
        for leaves in [Some(plan.train), plan.validate, Some(plan.test)].into_iter().flatten() {
            assert!(leaves.count.is_power_of_two() && leaves.per_assignment > 0, "{leaves:?}");
        }
        Self {
            settings,
            phase: Phase::Joining,
            members: BTreeMap::new(),
            awaited: expected_workers,
            window: VecDeque::with_capacity(WINDOW),
            weights: 0,
            last_assignment: AssignmentId(0),
            deadline: None,
            last_leave: None,
        }
    }

    /// Takes in an event and appends the decisions that follow from it, to be carried out in order.
    pub fn handle(&mut self, now: Time, event: Event, commands: &mut Vec<Command>) {
        if self.phase == Phase::Finished {
            return;
        }
        match event {
            Event::Started => {
                if let Some(timeout) = self.settings.join_timeout {
                    self.set_timer(now.after(timeout), TimerReason::Join, commands);
                }
            }
            Event::Joined { worker, threads } => self.joined(worker, threads, commands),
            Event::ProcessEnded { worker } => self.process_ended(now, worker, commands),
            Event::Left { worker, cause } => {
                self.drop_member(now, worker, DropReason::Left { cause }, cause, commands);
            }
            Event::NodeReceived { worker, assignment, task, node } => {
                self.node_received(worker, assignment, task, node, commands);
            }
            Event::Updated { task } => self.updated(task, commands),
            Event::Diverged { step } => self.finish(Outcome::Diverged { step }, commands),
            Event::Refuted { worker, node } => self.refuted(now, worker, node, commands),
            Event::Timer => self.timer(now, commands),
            Event::Stopped { signal } => self.finish(Outcome::Interrupted { signal }, commands),
        }
    }

    fn joined(&mut self, worker: WorkerId, threads: u32, commands: &mut Vec<Command>) {
        assert!(threads > 0, "{worker} has threads");
        let before = self.members.insert(worker, Member { threads });
        assert!(before.is_none(), "{worker} joins once");
        commands.push(Command::SendWeights { to: Recipient::One(worker), step: self.weights });
        if self.phase == Phase::Running {
            self.deadline = None;
            self.dispatch(commands);
        } else {
            self.start_when_complete(commands);
        }
    }

    fn process_ended(&mut self, now: Time, worker: Option<WorkerId>, commands: &mut Vec<Command>) {
        if let Some(worker) = worker {
            let cause = LeaveCause::Ended;
            self.drop_member(now, worker, DropReason::Left { cause }, cause, commands);
        }
        self.awaited = self.awaited.saturating_sub(1);
        if self.awaited == 0 && self.phase == Phase::Joining {
            let expected = self.settings.expected_workers;
            self.finish(Outcome::NotJoined { joined: 0, expected }, commands);
        } else {
            self.start_when_complete(commands);
        }
    }

    fn start_when_complete(&mut self, commands: &mut Vec<Command>) {
        if self.phase == Phase::Joining && self.member_count() >= self.awaited {
            self.phase = Phase::Running;
            self.deadline = None;
            self.hand_out(self.settings.plan.first(), commands);
        }
    }

    /// A member's unfinished leaves become free, and idle members take them within the same step.
    fn drop_member(
        &mut self,
        now: Time,
        worker: WorkerId,
        reason: DropReason,
        cause: LeaveCause,
        commands: &mut Vec<Command>,
    ) {
        if self.members.remove(&worker).is_none() {
            return;
        }
        commands.push(Command::DropMember { worker, reason });
        self.last_leave = Some((worker, cause));
        for work in &mut self.window {
            work.release(worker);
        }
        if self.phase != Phase::Running {
            return;
        }
        if !self.members.is_empty() {
            self.dispatch(commands);
        } else if self.settings.patience.is_zero() {
            self.finish(Outcome::LostWorkers { last: worker, cause }, commands);
        } else {
            self.set_timer(now.after(self.settings.patience), TimerReason::Patience, commands);
        }
    }

    fn node_received(
        &mut self,
        worker: WorkerId,
        assignment: AssignmentId,
        task: Task,
        node: Node,
        commands: &mut Vec<Command>,
    ) {
        let result = match self.window.iter_mut().find(|work| work.has(assignment)) {
            Some(work) => work.receive(assignment, worker, task, node),
            None => Err(RejectReason::UnknownAssignment),
        };
        match result {
            Ok(()) => {
                commands.push(Command::Combine { task, worker, node });
                self.dispatch(commands);
                self.commit(commands);
            }
            Err(reason) => commands.push(Command::Reject { worker, assignment, node, reason }),
        }
    }

    /// Commits the current task if it is complete. A later task waits for its turn.
    fn commit(&mut self, commands: &mut Vec<Command>) {
        let Some(work) = self.window.front_mut() else { return };
        if work.is_complete() && !work.committed {
            work.committed = true;
            let reason = CommitReason::Complete { leaves: work.leaves() };
            commands.push(Command::Commit { task: work.task, reason });
        }
    }

    fn updated(&mut self, task: Task, commands: &mut Vec<Command>) {
        let work = self.window.pop_front();
        assert!(work.is_some_and(|work| work.committed && work.task == task), "{task} was committed");
        if task.kind == TaskKind::Train {
            self.weights = task.step;
        }
        let Some(next) = self.settings.plan.after(task) else {
            return self.finish(Outcome::Done, commands);
        };
        if task.kind == TaskKind::Train {
            commands.push(Command::SendWeights { to: Recipient::All, step: task.step });
        }
        self.hand_out(next, commands);
        self.commit(commands);
    }

    /// The committed task is computed anew without the worker that sent a wrong node.
    fn refuted(&mut self, now: Time, worker: WorkerId, node: Node, commands: &mut Vec<Command>) {
        let Some(work) = self.window.front_mut() else { return };
        let task = work.task;
        assert!(work.committed, "{task} was committed");
        work.restart();
        let reason = DropReason::WrongNode { worker, task, node };
        commands.push(Command::RollBack { task, reason });
        if self.members.contains_key(&worker) {
            self.drop_member(now, worker, reason, LeaveCause::Protocol, commands);
        } else {
            self.dispatch(commands);
        }
    }

    fn timer(&mut self, now: Time, commands: &mut Vec<Command>) {
        let Some((at, reason)) = self.deadline else { return };
        if now < at {
            // The caller's clock was early: ask again.
            return self.set_timer(at, reason, commands);
        }
        self.deadline = None;
        match (reason, self.last_leave) {
            (TimerReason::Patience, Some((last, cause))) => {
                self.finish(Outcome::LostWorkers { last, cause }, commands);
            }
            _ => {
                let (joined, expected) = (self.member_count(), self.settings.expected_workers);
                self.finish(Outcome::NotJoined { joined, expected }, commands);
            }
        }
    }

    /// Opens the current task, if it is not open yet, and those that may be handed out ahead of it.
    fn hand_out(&mut self, current: Task, commands: &mut Vec<Command>) {
        let plan = &self.settings.plan;
        let mut next = Some(current);
        if let Some(last) = self.window.back() {
            assert_eq!(
                self.window.front().map(|work| work.task),
                next,
                "tasks are committed in the plan's order"
            );
            next = plan.ahead_of(last.task);
        }
        while self.window.len() < WINDOW
            && let Some(task) = next
        {
            self.window.push_back(Work::new(task, plan.leaves(task.kind).count));
            next = plan.ahead_of(task);
        }
        self.dispatch(commands);
    }

    /// Gives free leaves to members that hold nothing of the same task: each its share by threads of what is free.
    ///
    /// The start of a task, the leaves of a dead worker, a late joiner and an evaluation in portions are all this.
    fn dispatch(&mut self, commands: &mut Vec<Command>) {
        let members = self.member_count();
        for work in &mut self.window {
            let per_assignment = self.settings.plan.leaves(work.task.kind).per_assignment;
            let mut threads: u64 = self.members.values().map(|member| u64::from(member.threads)).sum();
            for (&worker, member) in &self.members {
                let free = u64::from(work.free_leaves());
                if free == 0 {
                    break;
                }
                if work.holds(worker) {
                    continue;
                }
                // At most `free`, which is a u32; at least 1, so that nothing stays free while somebody is idle.
                let share = (free * u64::from(member.threads)).div_ceil(threads) as u32;
                threads -= u64::from(member.threads);
                let assignment = AssignmentId(self.last_assignment.0 + 1);
                let Some((leaves, from)) = work.assign(assignment, worker, share.min(per_assignment)) else {
                    break;
                };
                self.last_assignment = assignment;
                let reason = match from {
                    Some(from) => AssignReason::Reassigned { from },
                    None => AssignReason::Share { members },
                };
                commands.push(Command::Assign { worker, assignment, task: work.task, leaves, reason });
            }
        }
    }

    fn set_timer(&mut self, at: Time, reason: TimerReason, commands: &mut Vec<Command>) {
        self.deadline = Some((at, reason));
        commands.push(Command::SetTimer { at, reason });
    }

    fn finish(&mut self, outcome: Outcome, commands: &mut Vec<Command>) {
        self.phase = Phase::Finished;
        commands.push(Command::Finish { outcome });
    }

    fn member_count(&self) -> u32 {
        // Identifiers are u32, so there are no more members.
        self.members.len() as u32
    }
}
