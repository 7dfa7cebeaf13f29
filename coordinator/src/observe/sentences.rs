//! Decisions of the control plane as sentences for people: with the names of workers, without the numbers that only the
//! machine needs. Pure functions.

use std::fmt::Display;
use std::ops::Range;

use lockstep_control::{
    AssignReason, Command, DropReason, Outcome, RejectReason, RevokeReason, Task, WorkerId,
};

/// What a command does, and why; `name` puts a worker into words.
pub fn of_command(command: &Command, name: impl Fn(WorkerId) -> String) -> String {
    match command {
        Command::Assign { worker, task, leaves, reason, .. } => {
            of_assignment(*worker, *task, leaves, reason, &name)
        }
        Command::Revoke { worker, reason, .. } => {
            let why = match reason {
                RevokeReason::Overtaken => "others were faster with them".to_string(),
                RevokeReason::Late { .. } => "it is late with others".to_string(),
                RevokeReason::Joined { worker } => format!("{} joined, and gets a share", name(*worker)),
            };
            format!("{} is told to leave some of its micro-shards: {why}", name(*worker))
        }
        Command::Reject { worker, reason, .. } => of_rejection(*worker, reason, &name),
        Command::RollBack { task, reason } => {
            format!("{task} is computed anew: {}", of_drop(reason, &name))
        }
        Command::DropMember { worker, reason } => {
            format!("{} is dropped: {}", name(*worker), of_drop(reason, &name))
        }
        Command::Wait { patience_ms, last } => {
            let seconds = *patience_ms as f64 / 1e3;
            format!("waiting {seconds} s for a worker to join: {} was the last to leave", name(*last))
        }
        Command::Finish { outcome: Outcome::LostWorkers { last, reason } } => {
            format!("{END}no worker is left; {} was the last: {}", name(*last), of_drop(reason, &name))
        }
        Command::Finish { outcome: Outcome::NoProgress { task, waited_ms, last, reason } } => format!(
            "{END}nothing new of {task} was computed for {waited_ms} ms, though workers came; {} was the last to leave: {}",
            name(*last),
            of_drop(reason, &name)
        ),
        Command::Finish { outcome } => format!("{END}{outcome}"),
        // The others are not recorded for people.
        other => other.to_string(),
    }
}

fn of_assignment(
    worker: WorkerId,
    task: Task,
    leaves: &Range<u32>,
    reason: &AssignReason,
    name: impl Fn(WorkerId) -> String,
) -> String {
    let (who, part) = (name(worker), part(leaves, task));
    match reason {
        // It was asked to leave them before.
        AssignReason::Reassigned { from } if *from == worker => {
            format!("{who} gets {part} again, which it had left")
        }
        AssignReason::Reassigned { from } => {
            format!("{who} gets {part}: {} left {} unfinished", name(*from), it(leaves))
        }
        AssignReason::Copy { holder, waited_ms, expected_ms, .. } => format!(
            "{who} computes {part}, too: {} has had {} for {waited_ms} ms, and {expected_ms} ms were expected; the first \
             answer counts",
            name(*holder),
            it(leaves)
        ),
        AssignReason::Share { .. } => format!("{who} gets {part}: {reason}"),
    }
}

fn of_rejection(worker: WorkerId, reason: &RejectReason, name: impl Fn(WorkerId) -> String) -> String {
    let (what, kept) = match reason {
        RejectReason::UnknownAssignment => {
            ("for work that was complete already or had been given to others".to_string(), "")
        }
        RejectReason::TaskOver => ("after its step was complete".to_string(), UNCHECKED),
        RejectReason::Overlaps => ("that others had sent a part of before".to_string(), UNCHECKED),
        RejectReason::TooEarly => ("for a step that cannot have begun yet".to_string(), ""),
        RejectReason::NotTheHolder { holder } => (format!("for work of {}", name(*holder)), ""),
        RejectReason::WrongTask { expected } => {
            (format!("for another step than its work is of, {expected}"), "")
        }
        RejectReason::NotExpected => ("that is no part of its work".to_string(), ""),
    };
    format!("{} sent a result {what}: it is ignored{kept}", name(worker))
}

/// What the last sentence of a run begins with.
const END: &str = lockstep_records::FINISH_PREFIX;

/// What is added where nothing was at hand to compare a result with.
const UNCHECKED: &str = ", and could not be compared with what counts";

/// Why a worker is a member no longer.
pub fn of_drop(reason: &DropReason, name: impl Fn(WorkerId) -> String) -> String {
    match reason {
        DropReason::Stuck { waited_ms, .. } => {
            format!(
                "it is alive, and did no example of its work for {waited_ms} ms (if one takes so long, raise --deadline)"
            )
        }
        DropReason::WrongNode { worker, task, .. } => {
            format!("a result of {} for {task} differs from its recomputation", name(*worker))
        }
        other => other.to_string(),
    }
}

/// A worker by its number, which nobody else has, and its name, if it is known.
pub fn worker(worker: WorkerId, name: Option<impl Display>) -> String {
    name.map_or_else(|| worker.to_string(), |name| format!("{worker} ({name})"))
}

/// Leaves are the micro-shards of a batch, and the blocks of examples of an evaluation.
fn part(leaves: &Range<u32>, task: Task) -> String {
    let unit = match (task.kind, leaves.len()) {
        (lockstep_control::TaskKind::Train, 1) => "micro-shard",
        (lockstep_control::TaskKind::Train, _) => "micro-shards",
        (_, 1) => "block",
        _ => "blocks",
    };
    format!("{} {unit} of {task}", leaves.len())
}

fn it(leaves: &Range<u32>) -> &'static str {
    if leaves.len() == 1 { "it" } else { "them" }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{AssignmentId, LeaveCause, TaskKind};
    use lockstep_reduction::Node;

    use super::*;

    const ONE: WorkerId = WorkerId(1);
    const TWO: WorkerId = WorkerId(2);
    const STEP: Task = Task { kind: TaskKind::Train, step: 19 };
    const TEST: Task = Task { kind: TaskKind::Test, step: 20 };
    const WORK: AssignmentId = AssignmentId(19133);

    fn sentence(command: &Command) -> String {
        of_command(command, |id| worker(id, (id == ONE).then_some("local-1")))
    }

    fn node() -> Node {
        Node::new(2, 0).unwrap()
    }

    fn assign(task: Task, leaves: Range<u32>, reason: AssignReason) -> Command {
        Command::Assign { worker: ONE, assignment: WORK, task, leaves, reason }
    }

    fn reject(reason: RejectReason) -> Command {
        Command::Reject { worker: ONE, assignment: WORK, node: node(), reason }
    }

    fn drop_for(reason: DropReason) -> Command {
        Command::DropMember { worker: ONE, reason }
    }

    /// All that is recorded for people.
    fn commands() -> Vec<(Command, &'static str)> {
        let copy = AssignReason::Copy { holder: TWO, of: WORK, waited_ms: 30, expected_ms: 12 };
        let wrong = DropReason::WrongNode { worker: ONE, task: STEP, node: node() };
        vec![
            (
                assign(STEP, 4..8, AssignReason::Reassigned { from: TWO }),
                "worker 1 (local-1) gets 4 micro-shards of step 19: worker 2 left them unfinished",
            ),
            (
                assign(TEST, 4..5, AssignReason::Reassigned { from: TWO }),
                "worker 1 (local-1) gets 1 block of the test after step 20: worker 2 left it unfinished",
            ),
            (
                assign(STEP, 4..8, AssignReason::Reassigned { from: ONE }),
                "worker 1 (local-1) gets 4 micro-shards of step 19 again, which it had left",
            ),
            (
                assign(STEP, 0..1, copy),
                "worker 1 (local-1) computes 1 micro-shard of step 19, too: worker 2 has had it for 30 ms, and 12 ms were \
                 expected; the first answer counts",
            ),
            (
                Command::Revoke { worker: ONE, assignment: WORK, reason: RevokeReason::Overtaken },
                "worker 1 (local-1) is told to leave some of its micro-shards: others were faster with them",
            ),
            (
                Command::Revoke { worker: ONE, assignment: WORK, reason: RevokeReason::Late { with: WORK } },
                "worker 1 (local-1) is told to leave some of its micro-shards: it is late with others",
            ),
            (
                Command::Revoke {
                    worker: TWO,
                    assignment: WORK,
                    reason: RevokeReason::Joined { worker: ONE },
                },
                "worker 2 is told to leave some of its micro-shards: worker 1 (local-1) joined, and gets a share",
            ),
            (
                reject(RejectReason::UnknownAssignment),
                "worker 1 (local-1) sent a result for work that was complete already or had been given to others: it is \
                 ignored",
            ),
            (
                reject(RejectReason::TaskOver),
                "worker 1 (local-1) sent a result after its step was complete: it is ignored, and could not be compared \
                 with what counts",
            ),
            (
                reject(RejectReason::Overlaps),
                "worker 1 (local-1) sent a result that others had sent a part of before: it is ignored, and could not be \
                 compared with what counts",
            ),
            (
                reject(RejectReason::TooEarly),
                "worker 1 (local-1) sent a result for a step that cannot have begun yet: it is ignored",
            ),
            (
                reject(RejectReason::NotTheHolder { holder: TWO }),
                "worker 1 (local-1) sent a result for work of worker 2: it is ignored",
            ),
            (
                reject(RejectReason::WrongTask { expected: STEP }),
                "worker 1 (local-1) sent a result for another step than its work is of, step 19: it is ignored",
            ),
            (
                reject(RejectReason::NotExpected),
                "worker 1 (local-1) sent a result that is no part of its work: it is ignored",
            ),
            (
                Command::RollBack { task: STEP, reason: wrong },
                "step 19 is computed anew: a result of worker 1 (local-1) for step 19 differs from its recomputation",
            ),
            (
                drop_for(DropReason::Left { cause: LeaveCause::Closed }),
                "worker 1 (local-1) is dropped: its stream ended",
            ),
            (
                drop_for(DropReason::Silent { silence_ms: 1003 }),
                "worker 1 (local-1) is dropped: nothing was heard of it for 1003 ms",
            ),
            (
                drop_for(DropReason::Stuck { assignment: WORK, waited_ms: 1003 }),
                "worker 1 (local-1) is dropped: it is alive, and did no example of its work for 1003 ms (if one takes so \
                 long, raise --deadline)",
            ),
            (
                Command::Wait { patience_ms: 60_000, last: ONE },
                "waiting 60 s for a worker to join: worker 1 (local-1) was the last to leave",
            ),
            (Command::Finish { outcome: Outcome::Done }, "the run ends: all tasks are committed"),
            (
                Command::Finish { outcome: Outcome::LostWorkers { last: ONE, reason: wrong } },
                "the run ends: no worker is left; worker 1 (local-1) was the last: a result of worker 1 (local-1) for step \
                 19 differs from its recomputation",
            ),
        ]
    }

    #[test]
    fn every_decision_that_is_recorded_has_a_sentence_for_people() {
        for (command, expected) in commands() {
            let sentence = sentence(&command);
            assert_eq!(sentence, expected);
            // Neither nodes of the tree nor numbers of assignments.
            let has_numbers = ["(2,0)", "19133", "#"].iter().any(|number| sentence.contains(number));
            assert!(!has_numbers, "{sentence}");
        }
    }
}
