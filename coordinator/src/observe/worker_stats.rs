//! Statistics of each worker: what it holds, its rate, its latency, and whether it is late.
//!
//! Each event costs a few integers; four times a second they give a `WorkersRecord`. The time is always an argument.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use lockstep_control::{AssignmentId, Task, TaskKind, WorkerId};
use lockstep_proto::Hello;
use lockstep_records::{WorkerRecord, WorkerState, WorkersRecord};
use lockstep_reduction::Node;

/// The time between two records.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// Workers that left and are still shown.
const MAX_GONE: usize = 32;

/// Once late, a worker is shown as late for so long at least: a person has to see it.
const LATE_FOR: Duration = Duration::from_secs(1);

/// So many times the median time for an example make a straggler.
const STRAGGLER_TIMES: f64 = 2.0;

/// With fewer examples in the window than these a worker's speed is not judged.
const FEWEST_EXAMPLES: u64 = 32;

/// The workers of this process of the run.
pub(super) struct WorkerStats {
    /// When it was made.
    begin: Instant,
    members: BTreeMap<WorkerId, Entry>,
    /// As they were when they left, the last ones, and how long each was a member.
    gone: VecDeque<(WorkerRecord, Duration)>,
    /// Somebody left in the window.
    left: bool,
    /// The beginning of the window.
    since: Instant,
}

/// What is known of one member.
struct Entry {
    hello: Hello,
    /// When it was given work for the first time.
    begun: Option<Instant>,
    held: Vec<Held>,
    total: Counts,
    window: Counts,
    /// Leaves of its last assignment.
    share: u32,
    /// When it was late last, and how.
    late: Option<(Instant, String)>,
    /// Steps committed when it joined, until its first node counts.
    joined_after: Option<u64>,
}

/// An assignment that is not answered whole.
struct Held {
    assignment: AssignmentId,
    task: Task,
    leaves: Range<u32>,
    leaves_left: u32,
    /// When it and its weights were handed over.
    ready: Option<Instant>,
}

/// Sums over answers.
#[derive(Clone, Copy, Default)]
struct Counts {
    examples: u64,
    evaluated: u64,
    answers: u64,
    latency: Duration,
    compute: Duration,
}

impl Counts {
    fn all_examples(&self) -> u64 {
        self.examples + self.evaluated
    }

    fn transfer(&self) -> Duration {
        self.latency.saturating_sub(self.compute)
    }
}

impl WorkerStats {
    /// Nobody, from `now` on.
    pub fn new(now: Instant) -> Self {
        Self { begin: now, members: BTreeMap::new(), gone: VecDeque::new(), left: false, since: now }
    }

    /// A worker joined after `steps` steps; one of the same name that left is no longer shown.
    pub fn joined(&mut self, worker: WorkerId, hello: Hello, steps: u64) {
        self.gone.retain(|(gone, _)| gone.name != hello.name || gone.host != hello.host);
        let entry = Entry {
            hello,
            begun: None,
            held: Vec::new(),
            total: Counts::default(),
            window: Counts::default(),
            share: 0,
            late: None,
            joined_after: Some(steps),
        };
        self.members.insert(worker, entry);
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// What a member calls itself; `None` if the worker is no member.
    pub fn member_name(&self, worker: WorkerId) -> Option<&str> {
        self.members.get(&worker).map(|entry| entry.hello.name.as_str())
    }

    /// What a worker calls itself, as long as it is a member or shown.
    pub fn name(&self, worker: WorkerId) -> Option<&str> {
        let gone = || self.gone.iter().find(|(gone, _)| gone.worker == worker.0);
        self.member_name(worker).or_else(|| gone().map(|(gone, _)| gone.name.as_str()))
    }

    /// A worker was given leaves; they wait for weights if `weights`, the newest, are not those that they need.
    pub fn assigned(
        &mut self,
        now: Instant,
        worker: WorkerId,
        assignment: AssignmentId,
        task: Task,
        leaves: Range<u32>,
        weights: u64,
    ) {
        let Some(entry) = self.members.get_mut(&worker) else { return };
        let leaves_left = leaves.end - leaves.start;
        if task.kind == TaskKind::Train {
            entry.share = leaves_left;
        }
        entry.begun.get_or_insert(now);
        let ready = (task.weights() <= weights).then_some(now);
        // Two tasks are under way at most: older assignments will not be answered any more.
        entry.held.retain(|held| held.task.weights() + 1 >= task.weights());
        entry.held.push(Held { assignment, task, leaves, leaves_left, ready });
    }

    /// The leaves of an assignment that a worker holds.
    pub fn held(&self, worker: WorkerId, assignment: AssignmentId) -> Option<(Task, Range<u32>)> {
        let held = &self.members.get(&worker)?.held;
        let held = held.iter().find(|held| held.assignment == assignment)?;
        Some((held.task, held.leaves.clone()))
    }

    /// An assignment was taken back.
    pub fn revoked(&mut self, worker: WorkerId, assignment: AssignmentId) {
        if let Some(entry) = self.members.get_mut(&worker) {
            entry.held.retain(|held| held.assignment != assignment);
        }
    }

    /// The weights after a step went out.
    pub fn weights(&mut self, now: Instant, step: u64) {
        for held in self.members.values_mut().flat_map(|entry| &mut entry.held) {
            if held.ready.is_none() && held.task.weights() <= step {
                held.ready = Some(now);
            }
        }
    }

    /// A node came, `compute` after the worker had begun with its assignment; whether it counts is not known yet.
    pub fn answered(
        &mut self,
        now: Instant,
        worker: WorkerId,
        assignment: AssignmentId,
        node: Node,
        compute: Duration,
    ) {
        let Some(entry) = self.members.get_mut(&worker) else { return };
        let Some(at) = entry.held.iter().position(|held| held.assignment == assignment) else { return };
        let held = &mut entry.held[at];
        held.leaves_left = held.leaves_left.saturating_sub(node.leaf_count());
        if held.leaves_left > 0 {
            return;
        }
        let held = entry.held.swap_remove(at);
        let latency = held.ready.map_or(compute, |ready| now.saturating_duration_since(ready));
        for counts in [&mut entry.total, &mut entry.window] {
            counts.answers += 1;
            counts.latency += latency;
            // What a worker says is not believed beyond what is possible.
            counts.compute += compute.min(latency);
        }
    }

    /// A node of so many examples counts.
    pub fn counted(&mut self, worker: WorkerId, kind: TaskKind, examples: u32) {
        let Some(entry) = self.members.get_mut(&worker) else { return };
        for counts in [&mut entry.total, &mut entry.window] {
            match kind {
                TaskKind::Train => counts.examples += u64::from(examples),
                TaskKind::Validate | TaskKind::Test => counts.evaluated += u64::from(examples),
            }
        }
    }

    /// Steps committed when a worker joined, if this is the first of its nodes that counts.
    pub fn first_result(&mut self, worker: WorkerId) -> Option<u64> {
        self.members.get_mut(&worker)?.joined_after.take()
    }

    /// A worker's work was given to another one, too.
    pub fn late(&mut self, now: Instant, worker: WorkerId, reason: String) {
        if let Some(entry) = self.members.get_mut(&worker) {
            entry.late = Some((now, reason));
        }
    }

    /// A worker is a member no longer.
    pub fn left(&mut self, now: Instant, worker: WorkerId, reason: String) {
        let Some(entry) = self.members.remove(&worker) else { return };
        self.left = true;
        let gone =
            WorkerRecord { state: WorkerState::Gone, reason, ..entry.record(now, worker, Duration::MAX) };
        if self.gone.len() == MAX_GONE {
            self.gone.pop_front();
        }
        let gone = WorkerRecord {
            straggler: false,
            examples_per_second: 0.0,
            latency_seconds: None,
            wait_share: 0.0,
            ..gone
        };
        self.gone.push_back((gone, entry.age(now)));
    }

    /// All of them over their whole time, from the first assignment of each on, instead of over a window.
    pub fn whole_run(&self, now: Instant, seconds: f64, step: u64) -> WorkersRecord {
        let members = self.members.iter().map(|(worker, entry)| {
            let age = entry.age(now);
            let record = entry.record(now, *worker, Duration::MAX);
            let reason = "was there at the end".to_string();
            over_all(WorkerRecord { state: WorkerState::Idle, reason, straggler: false, ..record }, age)
        });
        let gone = self.gone.iter().map(|(gone, age)| over_all(gone.clone(), *age));
        let mut workers: Vec<_> = members.chain(gone).collect();
        let all: u64 = workers.iter().map(|worker| worker.examples + worker.evaluated).sum();
        workers.iter_mut().for_each(|worker| worker.share = share(worker.examples + worker.evaluated, all));
        let window_seconds = now.saturating_duration_since(self.begin).as_secs_f64();
        WorkersRecord { seconds, step, window_seconds, workers }
    }

    /// The record, if one is due: `seconds` after the run began, `step` steps committed.
    pub fn sample(&mut self, now: Instant, seconds: f64, step: u64) -> Option<WorkersRecord> {
        let window = now.saturating_duration_since(self.since);
        // When the last one has left, nothing may happen for long.
        let all_left = self.left && self.members.is_empty();
        if window < SAMPLE_EVERY && !all_left {
            return None;
        }
        self.left = false;
        let mut workers: Vec<_> =
            self.members.iter().map(|(worker, entry)| entry.record(now, *worker, window)).collect();
        let all: u64 = self.members.values().map(|entry| entry.window.all_examples()).sum();
        let median = median_seconds(self.members.values());
        for (record, entry) in workers.iter_mut().zip(self.members.values_mut()) {
            record.share = share(entry.window.all_examples(), all);
            if let (Some(median), Some(own)) = (median, entry.seconds_per_example())
                && own > STRAGGLER_TIMES * median
                && record.state == WorkerState::Working
            {
                record.straggler = true;
                record.reason = format!("needs {:.1} times the median time for an example", own / median);
            }
            let answered = entry.window.answers > 0;
            entry.late.take_if(|(since, _)| answered && now.saturating_duration_since(*since) >= LATE_FOR);
            entry.window = Counts::default();
        }
        self.since = now;
        workers.extend(self.gone.iter().map(|(gone, _)| gone.clone()));
        Some(WorkersRecord { seconds, step, window_seconds: window.as_secs_f64(), workers })
    }
}

/// A worker's record with rates and shares over `age` instead of a window.
fn over_all(record: WorkerRecord, age: Duration) -> WorkerRecord {
    let (seconds, answers) = (age.as_secs_f64(), record.answers as f64);
    let of_age = |part: f64| if seconds > 0.0 { part / seconds } else { 0.0 };
    let latency = (record.compute_seconds + record.transfer_seconds) / answers;
    let compute_share = of_age(record.compute_seconds).min(1.0);
    let transfer_share = of_age(record.transfer_seconds).min(1.0 - compute_share);
    WorkerRecord {
        examples_per_second: of_age((record.examples + record.evaluated) as f64),
        latency_seconds: latency.is_finite().then_some(latency),
        compute_share,
        transfer_share,
        wait_share: 1.0 - compute_share - transfer_share,
        ..record
    }
}

impl Entry {
    fn age(&self, now: Instant) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun))
    }

    fn record(&self, now: Instant, worker: WorkerId, window: Duration) -> WorkerRecord {
        let Self { hello, total, .. } = self;
        let (state, reason) = self.state(now);
        let part = |time: Duration| (time.as_secs_f64() / window.as_secs_f64()).min(1.0);
        let compute_share = part(self.window.compute);
        let transfer_share = part(self.window.transfer()).min(1.0 - compute_share);
        let answers = u32::try_from(self.window.answers).unwrap_or(u32::MAX);
        WorkerRecord {
            worker: worker.0,
            name: hello.name.clone(),
            host: hello.host.clone(),
            pid: hello.pid,
            threads: hello.threads,
            cpu: hello.cpu.split_whitespace().next().unwrap_or("unknown").to_string(),
            state,
            reason,
            straggler: state == WorkerState::Late,
            share: 0.0,
            examples_per_second: self.window.all_examples() as f64 / window.as_secs_f64(),
            latency_seconds: self.window.latency.checked_div(answers).map(|mean| mean.as_secs_f64()),
            compute_share,
            transfer_share,
            wait_share: 1.0 - compute_share - transfer_share,
            examples: total.examples,
            evaluated: total.evaluated,
            answers: total.answers,
            compute_seconds: total.compute.as_secs_f64(),
            transfer_seconds: total.transfer().as_secs_f64(),
        }
    }

    fn state(&self, now: Instant) -> (WorkerState, String) {
        if let Some((since, reason)) = &self.late {
            let seconds = now.saturating_duration_since(*since).as_secs_f64();
            return (WorkerState::Late, format!("late {seconds:.1} s ago: {reason}"));
        }
        if self.window.answers > 0 || self.held.iter().any(|held| held.ready.is_some()) {
            let unit = if self.share == 1 { "micro-shard" } else { "micro-shards" };
            return (WorkerState::Working, format!("has its share: {} {unit} of a batch", self.share));
        }
        let reason = if self.total.answers == 0 {
            "joined, and has no work yet"
        } else {
            "has no work: others have all of it, or the run waits"
        };
        (WorkerState::Idle, reason.to_string())
    }

    /// Seconds of one thread for an example of the window.
    fn seconds_per_example(&self) -> Option<f64> {
        let examples = self.window.all_examples();
        let seconds = self.window.compute.as_secs_f64() * f64::from(self.hello.threads);
        (examples >= FEWEST_EXAMPLES && seconds > 0.0).then(|| seconds / examples as f64)
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// The lower median; of fewer than three there is none to compare with but the faster one.
fn median_seconds<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<f64> {
    let mut seconds: Vec<f64> = entries.filter_map(Entry::seconds_per_example).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use lockstep_proto::Token;

    use super::*;

    const ONE: WorkerId = WorkerId(1);
    const TWO: WorkerId = WorkerId(2);
    const THREE: WorkerId = WorkerId(3);

    fn hello(name: &str) -> Hello {
        Hello {
            protocol_version: 3,
            numerics_version: 1,
            token: Token::new("t").unwrap(),
            name: name.to_string(),
            host: "here".to_string(),
            pid: 7,
            threads: 1,
            cpu: "avx2 and more".to_string(),
            join_test_digest: [0; 32],
            known: None,
        }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn step(step: u64) -> Task {
        Task { kind: TaskKind::Train, step }
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    /// A worker answers an assignment of one leaf that could be begun at `ready`.
    fn answer(
        stats: &mut WorkerStats,
        worker: WorkerId,
        id: u64,
        ready: Instant,
        took: u64,
        computed: u64,
        examples: u32,
    ) {
        let id = AssignmentId(id);
        stats.assigned(ready, worker, id, step(1), 0..1, 0);
        stats.answered(ready + ms(took), worker, id, Node::new(0, 0).unwrap(), ms(computed));
        stats.counted(worker, TaskKind::Train, examples);
    }

    #[test]
    fn a_record_has_shares_rates_and_where_the_time_went() {
        let begin = Instant::now();
        let mut stats = WorkerStats::new(begin);
        stats.joined(ONE, hello("a"), 0);
        stats.joined(TWO, hello("b"), 0);
        assert_eq!(stats.sample(begin + ms(249), 0.0, 0), None, "not yet");
        answer(&mut stats, ONE, 1, begin, 100, 60, 96);
        answer(&mut stats, TWO, 2, begin, 50, 40, 32);
        let record = stats.sample(begin + ms(400), 1.5, 3).unwrap();
        assert_eq!((record.seconds, record.step, record.window_seconds), (1.5, 3, 0.4));
        let [one, two] = &record.workers[..] else { panic!("{record:?}") };
        assert_eq!((one.worker, &*one.name, &*one.cpu, one.state), (1, "a", "avx2", WorkerState::Working));
        assert!(close(one.share, 0.75) && close(two.share, 0.25), "{record:?}");
        assert!(close(one.examples_per_second, 240.0), "{one:?}");
        assert!(close(one.latency_seconds.unwrap(), 0.1), "{one:?}");
        assert!(close(one.compute_share, 0.15) && close(one.transfer_share, 0.1), "{one:?}");
        assert!(close(one.wait_share, 0.75), "{one:?}");
        assert_eq!((one.examples, one.answers, one.compute_seconds), (96, 1, 0.06));

        // The next window begins with nothing, the totals go on.
        let record = stats.sample(begin + ms(800), 2.0, 3).unwrap();
        let one = &record.workers[0];
        assert_eq!((one.state, one.examples_per_second, one.latency_seconds), (WorkerState::Idle, 0.0, None));
        assert_eq!((one.examples, one.share), (96, 0.0));
    }

    #[test]
    fn work_that_is_sent_ahead_is_not_late_until_its_weights_are_there() {
        let begin = Instant::now();
        let mut stats = WorkerStats::new(begin);
        stats.joined(ONE, hello("a"), 0);
        stats.assigned(begin, ONE, AssignmentId(1), step(2), 0..3, 0);
        stats.weights(begin + ms(100), 1);
        let node = |level, index| Node::new(level, index).unwrap();
        stats.answered(begin + ms(110), ONE, AssignmentId(1), node(1, 0), ms(8));
        stats.answered(begin + ms(120), ONE, AssignmentId(1), node(0, 2), ms(12));
        // What was never answered is forgotten with its task.
        for number in 3..100 {
            stats.assigned(begin, ONE, AssignmentId(number), step(number), 0..1, number);
        }
        assert_eq!(stats.members[&ONE].held.len(), 2);
        let record = stats.sample(begin + ms(300), 0.0, 2).unwrap();
        assert!(close(record.workers[0].latency_seconds.unwrap(), 0.02), "{record:?}");
        assert_eq!(record.workers[0].answers, 1);
        assert!(close(record.workers[0].compute_seconds, 0.012));
    }

    #[test]
    fn slow_and_late_workers_are_marked_with_the_reason() {
        let begin = Instant::now();
        let mut stats = WorkerStats::new(begin);
        for (worker, name) in [(ONE, "a"), (TWO, "b"), (THREE, "c")] {
            stats.joined(worker, hello(name), 0);
        }
        answer(&mut stats, ONE, 1, begin, 10, 10, 64);
        answer(&mut stats, TWO, 2, begin, 50, 50, 64);
        answer(&mut stats, THREE, 3, begin, 10, 10, 64);
        stats.late(begin + ms(100), THREE, "its leaves went to worker 1".to_string());
        let record = stats.sample(begin + ms(300), 0.0, 1).unwrap();
        let stragglers: Vec<bool> = record.workers.iter().map(|worker| worker.straggler).collect();
        assert_eq!(stragglers, [false, true, true]);
        assert_eq!(record.workers[1].reason, "needs 5.0 times the median time for an example");
        assert_eq!(record.workers[2].state, WorkerState::Late);
        assert_eq!(record.workers[2].reason, "late 0.2 s ago: its leaves went to worker 1");
        // It answers again, and a second later all is well.
        answer(&mut stats, THREE, 4, begin + ms(1200), 10, 10, 64);
        stats.sample(begin + ms(1300), 0.0, 1).unwrap();
        answer(&mut stats, THREE, 5, begin + ms(1400), 10, 10, 64);
        let record = stats.sample(begin + ms(1600), 0.0, 1).unwrap();
        assert_eq!(record.workers[2].state, WorkerState::Working);
    }

    #[test]
    fn the_whole_time_has_everybody_s_part() {
        let begin = Instant::now();
        let mut stats = WorkerStats::new(begin);
        stats.joined(ONE, hello("a"), 0);
        stats.joined(TWO, hello("b"), 0);
        answer(&mut stats, ONE, 1, begin + ms(1000), 100, 60, 96);
        stats.sample(begin + ms(1100), 0.0, 1).unwrap();
        answer(&mut stats, TWO, 2, begin + ms(1500), 100, 50, 32);
        stats.left(begin + ms(2000), TWO, "it was killed".to_string());
        let record = stats.whole_run(begin + ms(3000), 3.5, 7);
        assert_eq!((record.seconds, record.step, record.window_seconds), (3.5, 7, 3.0));
        let [one, two] = &record.workers[..] else { panic!("{record:?}") };
        assert!(close(one.share, 0.75) && close(two.share, 0.25), "{record:?}");
        // Two seconds since it had its first work, and half of one.
        assert!(close(one.examples_per_second, 48.0) && close(two.examples_per_second, 64.0), "{record:?}");
        assert!(close(one.compute_share, 0.03) && close(two.compute_share, 0.1), "{record:?}");
        assert!(close(one.transfer_share, 0.02) && close(two.wait_share, 0.8), "{record:?}");
        assert!(close(one.latency_seconds.unwrap(), 0.1), "{record:?}");
        assert_eq!((two.state, &*two.reason), (WorkerState::Gone, "it was killed"));
        // One that never had work has nothing to divide by.
        let mut idle = WorkerStats::new(begin);
        idle.joined(ONE, hello("a"), 0);
        let record = idle.whole_run(begin + ms(1), 0.0, 0);
        let one = &record.workers[0];
        assert_eq!((one.examples_per_second, one.latency_seconds, one.wait_share), (0.0, None, 1.0));
    }

    #[test]
    fn who_left_is_shown_with_the_reason_until_its_name_comes_back() {
        let begin = Instant::now();
        let mut stats = WorkerStats::new(begin);
        stats.joined(ONE, hello("a"), 0);
        stats.joined(TWO, hello("b"), 0);
        stats.left(begin, ONE, "its stream was reset".to_string());
        let record = stats.sample(begin + ms(300), 0.0, 1).unwrap();
        let states: Vec<_> = record.workers.iter().map(|worker| (worker.worker, worker.state)).collect();
        assert_eq!(states, [(2, WorkerState::Idle), (1, WorkerState::Gone)]);
        assert_eq!(record.workers[1].reason, "its stream was reset");
        stats.joined(THREE, hello("a"), 0);
        let record = stats.sample(begin + ms(600), 0.0, 1).unwrap();
        let workers: Vec<u32> = record.workers.iter().map(|worker| worker.worker).collect();
        assert_eq!(workers, [2, 3]);
        stats.left(begin, TWO, String::new());
        stats.left(begin, THREE, String::new());
        assert!(
            stats.sample(begin + ms(601), 0.0, 1).is_some(),
            "after the last one nothing may happen for long"
        );
        for number in 10..100 {
            stats.joined(WorkerId(number), hello(&format!("w{number}")), 0);
            stats.left(begin, WorkerId(number), String::new());
        }
        let record = stats.sample(begin + ms(900), 0.0, 1).unwrap();
        assert_eq!(record.workers.len(), MAX_GONE, "however many leave");
    }
}
