//! The state machine: membership, the window of tasks, and the one mechanism that hands out work.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lockstep_reduction::Node;

use crate::deadlines::{Deadline, Deadlines, Patience};
use crate::member::Member;
use crate::shares::Candidate;
use crate::task_leaves::{Receipt, TaskLeaves};
use crate::{
    AssignmentId, Command, CommitReason, DropReason, Event, LeaveCause, Outcome, Progress, Recipient,
    RejectReason, RevokeReason, SaveReason, Task, TaskKind, TaskOrder, Time, WorkerId,
};

/// Tasks that are handed out at once: the current one, and the next, whose data travel while the current one is
/// computed.
const WINDOW: usize = 2;

/// Checkpoints that may be under way: one more than is being written, so that the end of an epoch is not missed.
const MAX_SAVES: u32 = 2;

/// What a run's control plane has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlSettings {
    /// The tasks.
    pub tasks: TaskOrder,
    /// The last task that an earlier process of the run has done, a step or a validation; `None` at the very start.
    pub done: Option<Task>,
    /// Members that the first step waits for, at least 1.
    pub expected_workers: u32,
    /// Whether only these workers, and those that are started in their place, may come.
    pub local: bool,
    /// How long the first step waits for them; `None`: for ever.
    pub join_timeout: Option<Duration>,
    /// How long a run goes on in which nothing new is computed, because there is no worker or each one breaks.
    pub patience: Duration,
    /// A member that says nothing for so long is gone; above 0.
    pub deadline: Duration,
    /// A checkpoint is due when the last one is so old.
    pub checkpoint_every: Duration,
}

/// The control plane of one process of a run.
#[derive(Debug)]
pub struct Control {
    pub(crate) settings: ControlSettings,
    pub(crate) phase: Phase,
    pub(crate) members: BTreeMap<WorkerId, Member>,
    /// Members that the first step waits for.
    awaited_workers: u32,
    /// Local workers that are there or may still come; `None`: anybody may come.
    pub(crate) local_workers: Option<u32>,
    /// The current task and those handed out ahead; empty before the start.
    pub(crate) window: VecDeque<TaskLeaves>,
    /// The last task committed that leaves something behind: a step or a validation.
    done: Option<Task>,
    pub(crate) last_assignment: AssignmentId,
    pub(crate) deadlines: Deadlines,
    pub(crate) patience: Patience,
    last_leave: Option<(WorkerId, DropReason)>,
    /// Checkpoints under way.
    saves: u32,
    /// The newest state that is saved or being saved.
    saved: Option<Task>,
    pub(crate) saved_at: Time,
    pub(crate) scratch: Scratch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Joining,
    Running,
    Finished,
}

/// Memory that is used again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) workers: Vec<WorkerId>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) times: Vec<u64>,
    pub(crate) shares: Vec<u32>,
}

impl Control {
    /// The state before the first event.
    ///
    /// # Panics
    ///
    /// If a count or duration in the settings that has to be above 0 is 0.
    pub fn new(settings: ControlSettings) -> Self {
        let ControlSettings { tasks, expected_workers, local, done, deadline, .. } = settings;
        assert!(expected_workers > 0, "a run has workers");
        assert!(tasks.steps_per_epoch > 0 && tasks.steps > 0, "a run has steps");
        assert!(!deadline.is_zero(), "nobody could be heard within no time");
        for leaves in [Some(tasks.train), tasks.validate, Some(tasks.test)].into_iter().flatten() {
            assert!(leaves.count.is_power_of_two() && leaves.per_assignment > 0, "{leaves:?}");
        }
        Self {
            settings,
            phase: Phase::Joining,
            members: BTreeMap::new(),
            awaited_workers: expected_workers,
            local_workers: local.then_some(expected_workers),
            window: VecDeque::with_capacity(WINDOW),
            done,
            last_assignment: AssignmentId(0),
            deadlines: Deadlines::default(),
            patience: Patience::default(),
            last_leave: None,
            saves: 0,
            saved: done,
            saved_at: Time::default(),
            scratch: Scratch::default(),
        }
    }

    /// Takes in an event and appends the decisions that follow from it, to be carried out in order.
    pub fn handle(&mut self, now: Time, event: Event, commands: &mut Vec<Command>) {
        if self.phase == Phase::Finished {
            return;
        }
        match event {
            Event::Started => {
                self.saved_at = now;
                self.await_joins(now, commands);
            }
            Event::Joined { worker, threads } => self.joined(now, worker, threads, commands),
            Event::ProcessEnded { worker, restarting } => {
                self.process_ended(now, worker, restarting, commands);
            }
            Event::Left { worker, cause } => {
                self.drop_member(now, worker, DropReason::Left { cause }, commands);
            }
            Event::Heard { worker, progress } => self.heard(now, worker, progress, commands),
            Event::NodeReceived { worker, assignment, task, node } => {
                self.node_received(now, worker, assignment, task, node, commands);
            }
            Event::Updated { task } => self.updated(now, task, commands),
            Event::Diverged { step } => self.finish(now, Outcome::Diverged { step }, commands),
            Event::Refuted { worker, task, node, counted } => {
                self.refuted(now, worker, task, node, counted, commands);
            }
            Event::Saved { durable } => self.save_ended(durable),
            Event::Contradicted { step } => self.finish(now, Outcome::Contradicted { step }, commands),
            Event::Superseded { term } => self.finish(now, Outcome::Superseded { term }, commands),
            Event::Timer => self.timer(now, commands),
            Event::Stopped { signal } => self.finish(now, Outcome::Interrupted { signal }, commands),
        }
    }

    fn joined(&mut self, now: Time, worker: WorkerId, threads: u32, commands: &mut Vec<Command>) {
        assert!(threads > 0, "{worker} has threads");
        let member = Member::new(now, threads, self.settings.deadline);
        let before = self.members.insert(worker, member);
        assert!(before.is_none(), "{worker} joins once");
        commands.push(Command::SendWeights { to: Recipient::One(worker), step: self.weights() });
        if let Some((at, deadline)) = self.silent_from(worker) {
            self.deadlines.arm(deadline, at, commands);
        }
        if self.phase == Phase::Running {
            self.deadlines.stop();
            self.share_out_next_task_again(worker, commands);
            self.dispatch(now, commands);
        } else {
            self.start_when_complete(now, commands);
        }
    }

    /// What was handed out ahead is not begun: a new member gets its share of it, too.
    fn share_out_next_task_again(&mut self, joined: WorkerId, commands: &mut Vec<Command>) {
        for task_leaves in self.window.iter_mut().skip(1).filter(|task_leaves| !task_leaves.held().is_empty())
        {
            for assignment in task_leaves.held() {
                let (worker, assignment) = (assignment.worker, assignment.id);
                let reason = RevokeReason::Joined { worker: joined };
                commands.push(Command::Revoke { worker, assignment, reason });
            }
            task_leaves.restart();
        }
    }

    fn process_ended(
        &mut self,
        now: Time,
        worker: Option<WorkerId>,
        restarting: bool,
        commands: &mut Vec<Command>,
    ) {
        if !restarting {
            self.local_workers = self.local_workers.map(|count| count.saturating_sub(1));
            self.awaited_workers = self.awaited_workers.saturating_sub(1);
        }
        if let Some(worker) = worker {
            self.drop_member(now, worker, DropReason::Left { cause: LeaveCause::Ended }, commands);
        }
        match (self.phase, self.last_leave) {
            (Phase::Joining, _) if self.awaited_workers == 0 => {
                let expected = self.settings.expected_workers;
                self.finish(now, Outcome::NotJoined { joined: 0, expected }, commands);
            }
            (Phase::Joining, _) => self.start_when_complete(now, commands),
            (Phase::Running, Some((last, reason)))
                if self.members.is_empty() && self.local_workers == Some(0) =>
            {
                self.finish(now, Outcome::LostWorkers { last, reason }, commands);
            }
            _ => {}
        }
    }

    fn start_when_complete(&mut self, now: Time, commands: &mut Vec<Command>) {
        // A run that goes on can begin with one worker: others get a share when they come.
        let enough = if self.settings.done.is_some() { 1 } else { self.awaited_workers };
        if self.phase == Phase::Joining && self.member_count() >= enough {
            self.phase = Phase::Running;
            self.deadlines.stop();
            self.new_progress(now);
            self.hand_out(now, self.settings.tasks.first(self.done), commands);
        }
    }

    /// A member's unfinished leaves become free, and idle members take them within the same step.
    pub(crate) fn drop_member(
        &mut self,
        now: Time,
        worker: WorkerId,
        reason: DropReason,
        commands: &mut Vec<Command>,
    ) {
        let Some(Member { joined, .. }) = self.members.remove(&worker) else { return };
        commands.push(Command::DropMember { worker, reason });
        self.last_leave = Some((worker, reason));
        for task_leaves in &mut self.window {
            task_leaves.release(worker, |_| {});
        }
        if self.phase != Phase::Running {
            return;
        }
        self.wait_or_finish(now, worker, joined, reason, commands);
        if self.phase == Phase::Running {
            self.dispatch(now, commands);
        }
    }

    fn heard(
        &mut self,
        now: Time,
        worker: WorkerId,
        progress: Option<Progress>,
        commands: &mut Vec<Command>,
    ) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        member.heard = now;
        let front = self.window.front_mut();
        if let Some((pause, further)) = front.and_then(|front| front.progress(now, worker, progress?)) {
            self.note_pause(worker, pause);
            if further {
                self.new_progress(now);
            }
        }
        if let Some(member) = self.members.get(&worker)
            && member.regains_trust(now)
        {
            self.dispatch(now, commands);
        }
    }

    fn node_received(
        &mut self,
        now: Time,
        worker: WorkerId,
        assignment: AssignmentId,
        task: Task,
        node: Node,
        commands: &mut Vec<Command>,
    ) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.heard = now;
        }
        let at = self.window.iter().position(|task_leaves| task_leaves.has(assignment));
        let receipt = match at {
            Some(0) => self.window[0].receive(now, assignment, worker, task, node),
            // The weights that it needs do not exist yet.
            Some(_) => Err(RejectReason::TooEarly),
            None => self.node_of_former_assignment(assignment, task, node),
        };
        match receipt {
            Ok(Receipt::Counted { complete, pause }) => {
                self.note_pause(worker, pause);
                self.answered(now, worker, task, complete);
                if self.window[0].raise_most_counted() {
                    self.new_progress(now);
                }
                commands.push(Command::Combine { task, worker, node });
                self.revoke_overtaken(task, commands);
                self.dispatch(now, commands);
                self.commit(commands);
            }
            Ok(Receipt::Repeated) => {
                self.answered(now, worker, task, None);
                commands.push(Command::Compare { task, worker, node });
                self.dispatch(now, commands);
            }
            Err(reason) => {
                commands.push(Command::Reject { worker, assignment, node, reason });
                // Its rest may be free again.
                if reason == RejectReason::Overlaps {
                    self.dispatch(now, commands);
                }
            }
        }
    }

    /// A node of an assignment that nobody holds any more: it may still be compared.
    fn node_of_former_assignment(
        &self,
        assignment: AssignmentId,
        task: Task,
        node: Node,
    ) -> Result<Receipt, RejectReason> {
        let given = (1..=self.last_assignment.0).contains(&assignment.0);
        match self.window.iter().find(|task_leaves| task_leaves.task == task) {
            Some(task_leaves) if given && task_leaves.has_counted(node) => Ok(Receipt::Repeated),
            None if given => Err(RejectReason::TaskOver),
            _ => Err(RejectReason::UnknownAssignment),
        }
    }

    /// A member got on with its work, after `pause`.
    fn note_pause(&mut self, worker: WorkerId, pause: Duration) {
        let known = self.members.get(&worker).map_or(pause, Member::longest_pause);
        // One that paused for longer would have been dropped: it was this process that paused.
        if pause > known
            && pause < self.stuck_after()
            && let Some(member) = self.members.get_mut(&worker)
        {
            member.note_pause(pause);
        }
    }

    /// A member answered: it is trusted, and when an assignment is complete it is known how long that took.
    fn answered(&mut self, now: Time, worker: WorkerId, task: Task, complete: Option<(Option<Time>, u32)>) {
        let deadline = self.settings.deadline;
        let Some(member) = self.members.get_mut(&worker) else { return };
        member.end_distrust(deadline);
        if let Some((Some(since), leaves)) = complete {
            member.measured(task.kind, now.since(since), leaves);
        }
    }

    fn revoke_overtaken(&mut self, task: Task, commands: &mut Vec<Command>) {
        let Some(task_leaves) = self.window.iter_mut().find(|task_leaves| task_leaves.task == task) else {
            return;
        };
        task_leaves.revoke_overtaken(|worker, assignment| {
            commands.push(Command::Revoke { worker, assignment, reason: RevokeReason::Overtaken });
        });
    }

    /// Commits the current task if it is complete. A later task waits for its turn.
    fn commit(&mut self, commands: &mut Vec<Command>) {
        let Some(task_leaves) = self.window.front_mut() else { return };
        if task_leaves.is_complete() && !task_leaves.committed {
            task_leaves.committed = true;
            let reason = CommitReason::Complete { leaves: task_leaves.leaves() };
            commands.push(Command::Commit { task: task_leaves.task, reason });
        }
    }

    fn updated(&mut self, now: Time, task: Task, commands: &mut Vec<Command>) {
        let task_leaves = self.window.pop_front();
        assert!(
            task_leaves.is_some_and(|task_leaves| task_leaves.committed && task_leaves.task == task),
            "{task} was committed"
        );
        if task.kind != TaskKind::Test {
            self.done = Some(task);
        }
        let Some(next) = self.settings.tasks.after(task) else {
            return self.finish(now, Outcome::Done, commands);
        };
        if task.kind == TaskKind::Train {
            commands.push(Command::SendWeights { to: Recipient::All, step: task.step });
        }
        self.hand_out(now, next, commands);
        let ends_epoch = next.kind != TaskKind::Validate && self.settings.tasks.ends_epoch(task.step);
        self.save(now, if ends_epoch { SaveReason::Epoch } else { SaveReason::Interval }, commands);
        self.commit(commands);
    }

    /// A wrong node's worker is dropped; a task that it was counted in is computed anew.
    fn refuted(
        &mut self,
        now: Time,
        worker: WorkerId,
        task: Task,
        node: Node,
        counted: bool,
        commands: &mut Vec<Command>,
    ) {
        let reason = DropReason::WrongNode { worker, task, node };
        let task_leaves = self.window.iter_mut().find(|task_leaves| task_leaves.task == task);
        if let Some(task_leaves) = task_leaves.filter(|_| counted) {
            task_leaves.restart();
            commands.push(Command::RollBack { task, reason });
        }
        if self.members.contains_key(&worker) {
            self.drop_member(now, worker, reason, commands);
        } else {
            self.dispatch(now, commands);
        }
    }

    fn save(&mut self, now: Time, reason: SaveReason, commands: &mut Vec<Command>) {
        let Some(after) = self.done.filter(|done| self.saved != Some(*done)) else { return };
        let due = match reason {
            SaveReason::Interval => self.saves == 0 && self.checkpoint_is_due(now),
            SaveReason::Epoch => self.saves < MAX_SAVES,
            SaveReason::End => true,
        };
        if due {
            self.saves += 1;
            self.saved = Some(after);
            self.saved_at = now;
            commands.push(Command::Save { after, reason });
        }
    }

    fn save_ended(&mut self, durable: bool) {
        self.saves = self.saves.saturating_sub(1);
        if !durable {
            // The next one tries again, with a new file.
            self.saved = None;
        }
    }

    /// Opens the current task, if it is not open yet, and those that may be handed out ahead of it.
    fn hand_out(&mut self, now: Time, current: Task, commands: &mut Vec<Command>) {
        let tasks = &self.settings.tasks;
        let mut next = Some(current);
        if let Some(last) = self.window.back() {
            assert_eq!(
                self.window.front().map(|task_leaves| task_leaves.task),
                next,
                "tasks are committed in their order"
            );
            next = tasks.ahead_of(last.task);
        }
        while self.window.len() < WINDOW
            && let Some(task) = next
        {
            self.window.push_back(TaskLeaves::new(task, tasks.leaves(task.kind).count));
            next = tasks.ahead_of(task);
        }
        if let Some(front) = self.window.front_mut() {
            front.open(now);
        }
        self.dispatch(now, commands);
    }

    /// The deadline that ends the run has come.
    pub(crate) fn finish_at_deadline(&mut self, now: Time, deadline: Deadline, commands: &mut Vec<Command>) {
        let outcome = match (deadline, self.last_leave) {
            (Deadline::Patience, Some((last, reason))) => self.out_of_patience(now, last, reason),
            _ => Outcome::NotJoined { joined: self.member_count(), expected: self.settings.expected_workers },
        };
        self.finish(now, outcome, commands);
    }

    pub(crate) fn finish(&mut self, now: Time, outcome: Outcome, commands: &mut Vec<Command>) {
        if !matches!(outcome, Outcome::Superseded { .. } | Outcome::Contradicted { .. }) {
            self.save(now, SaveReason::End, commands);
        }
        self.phase = Phase::Finished;
        commands.push(Command::Finish { outcome });
    }

    /// The step whose weights the members have.
    fn weights(&self) -> u64 {
        self.done.map_or(0, |done| done.step)
    }

    pub(crate) fn member_count(&self) -> u32 {
        // Identifiers are u32, so there are no more members.
        self.members.len() as u32
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
