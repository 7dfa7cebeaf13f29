//! The words in which a scenario says what happens.

use std::str::FromStr;

use lockstep_control::{AssignmentId, Event, LeaveCause, Progress, Signal, Task, TaskKind, WorkerId};
use lockstep_reduction::Node;

use crate::Mistake;

/// The events that a sentence stands for: `workers 1 to 3 join` is three of them.
///
/// # Errors
///
/// If it is none of the sentences below.
pub fn parse(sentence: &str) -> Result<Vec<Event>, Mistake> {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let event = match words[..] {
        ["workers", first, "to", last, "join"] => {
            let joined = |number| Event::Joined { worker: WorkerId(number), threads: 1 };
            return Ok((number(first)?..=number(last)?).map(joined).collect());
        }
        ["worker", id, "joins"] => Event::Joined { worker: worker(id)?, threads: 1 },
        ["worker", id, "joins", "with", threads, "threads"] => {
            Event::Joined { worker: worker(id)?, threads: number(threads)? }
        }
        ["worker", id, "is", "heard"] => Event::Heard { worker: worker(id)?, progress: None },
        ["worker", id, "has", "done", examples, "example" | "examples", "of", of] => {
            let progress = Progress { assignment: assignment(of)?, examples: number(examples)? };
            Event::Heard { worker: worker(id)?, progress: Some(progress) }
        }
        ["worker", id, "sends", "node", address, "of", of, "for", ref what @ ..] => Event::NodeReceived {
            worker: worker(id)?,
            assignment: assignment(of)?,
            task: task(what)?,
            node: node(address)?,
        },
        ["worker", id, "leaves:", ref cause @ ..] => {
            Event::Left { worker: worker(id)?, cause: leave_cause(&cause.join(" "))? }
        }
        ["a", "local", "process", "ends"] => Event::ProcessEnded { worker: None, restarting: false },
        ["the", "process", "of", "worker", id, "ends"] => {
            Event::ProcessEnded { worker: Some(worker(id)?), restarting: false }
        }
        ["the", "process", "of", "worker", id, "ends", "and", "is", "restarted"] => {
            Event::ProcessEnded { worker: Some(worker(id)?), restarting: true }
        }
        [ref what @ .., "is", "carried", "out"] => Event::Updated { task: task(what)? },
        ["step", step, "diverges"] => Event::Diverged { step: number(step)? },
        ["step", step, "contradicts", "the", "log"] => Event::Contradicted { step: number(step)? },
        ["node", address, "of", ref what @ .., "from", "worker", id, "was", how, "and", "is", "wrong"] => {
            Event::Refuted {
                worker: worker(id)?,
                task: task(what)?,
                node: node(address)?,
                counted: match how {
                    "counted" => true,
                    "compared" => false,
                    _ => return Err(format!("a node is counted or compared, not {how}")),
                },
            }
        }
        ["the", "checkpoint", "is", "saved"] => Event::Saved { durable: true },
        ["the", "checkpoint", "is", "not", "saved"] => Event::Saved { durable: false },
        ["a", "worker", "knows", "a", "coordinator", "of", "term", term] => {
            Event::Superseded { term: number(term)? }
        }
        ["the", "timer", "fires"] => Event::Timer,
        ["the", "operator", "sends", name] => Event::Stopped { signal: signal(name)? },
        _ => return Err("no such event".to_owned()),
    };
    Ok(vec![event])
}

fn number<N: FromStr>(word: &str) -> Result<N, Mistake> {
    word.parse().map_err(|_| format!("{word} is not a number"))
}

fn worker(word: &str) -> Result<WorkerId, Mistake> {
    Ok(WorkerId(number(word)?))
}

/// `#3`
fn assignment(word: &str) -> Result<AssignmentId, Mistake> {
    let digits = word.strip_prefix('#').ok_or_else(|| format!("{word} is no assignment"))?;
    Ok(AssignmentId(number(digits)?))
}

/// `(1,0)`
fn node(word: &str) -> Result<Node, Mistake> {
    let inner = word.strip_prefix('(').and_then(|word| word.strip_suffix(')'));
    let (level, index) =
        inner.and_then(|inner| inner.split_once(',')).ok_or_else(|| format!("{word} is no node"))?;
    Node::new(number(level)?, number(index)?).ok_or_else(|| format!("{word} is no node"))
}

/// A task in the words of its `Display`.
fn task(words: &[&str]) -> Result<Task, Mistake> {
    let (kind, step) = match words {
        ["step", step] => (TaskKind::Train, step),
        ["the", "validation", "after", "step", step] => (TaskKind::Validate, step),
        ["the", "test", "after", "step", step] => (TaskKind::Test, step),
        _ => return Err(format!("no such task: {}", words.join(" "))),
    };
    Ok(Task { kind, step: number(step)? })
}

/// A cause in the words of its `Display`.
fn leave_cause(words: &str) -> Result<LeaveCause, Mistake> {
    let causes =
        [LeaveCause::Closed, LeaveCause::Reset, LeaveCause::Stalled, LeaveCause::Protocol, LeaveCause::Ended];
    causes
        .into_iter()
        .find(|cause| cause.to_string() == words)
        .ok_or_else(|| format!("no such cause: {words}"))
}

/// A signal in the words of its `Display`.
fn signal(word: &str) -> Result<Signal, Mistake> {
    let signals = [Signal::Interrupt, Signal::Terminate, Signal::Hangup];
    signals
        .into_iter()
        .find(|signal| signal.to_string() == word)
        .ok_or_else(|| format!("no such signal: {word}"))
}
