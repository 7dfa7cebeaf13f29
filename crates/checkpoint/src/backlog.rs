//! What waits for the disk: a bounded queue between a run's loop, which puts in and never waits, and whoever writes.
//!
//! Owns what is lost when the disk does not keep up, and what is to be said about it. Steps wait up to a bound in
//! number and in bytes, other records up to a number; what comes beyond is lost, until the queue is half empty again,
//! and then it goes on. Saves are never lost: the control plane bounds them. Has no thread, no lock and no clock.
//!
//! Losing steps is said once, with the first step lost, and its end once, when whoever writes has caught up with all
//! that waited. A disk that is always a little too slow loses steps again and again, but never catches up in between:
//! that, too, is said once.

use std::collections::VecDeque;

/// Saves that wait at most: the control plane has two under way, and one more at the end of the run.
const MAX_SAVES: usize = 3;

/// How much may wait. The caller gives the reason of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps.
    pub steps: usize,
    /// Bytes of the weights of all steps. One step may wait, however large it is.
    pub step_bytes: usize,
    /// Other records.
    pub records: usize,
}

/// The queue; `W` are the weights after a step, `S` is a state to be saved, `R` another record.
#[derive(Debug)]
pub struct Backlog<W, S, R> {
    limits: Limits,
    waiting: VecDeque<Waiting<W, S, R>>,
    steps: usize,
    step_bytes: usize,
    saves: usize,
    records: usize,
    /// Steps are lost until the queue is half empty.
    losing_steps: bool,
    /// Since all that waited was written last.
    lost_steps: Option<LostSteps>,
    /// Records are lost until half of theirs are gone.
    losing_records: bool,
    /// Since the last record that was let in.
    lost_records: u64,
}

#[derive(Debug)]
enum Waiting<W, S, R> {
    Step { step: u64, weights: W, bytes: usize },
    Save(S),
    Record { record: R, lost_before: u64 },
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<W, S, R> {
    /// Record a step. Its number is not the next one after steps were lost.
    Step {
        /// The step.
        step: u64,
        /// The weights after it.
        weights: W,
    },
    /// Save a state.
    Save(S),
    /// Write another record.
    Record(R),
    /// Say that so many records are missing here.
    LostRecords(u64),
    /// Say that all that waited is written, and that steps were lost before.
    CaughtUp(LostSteps),
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It waits.
    Waits,
    /// It is lost, the first one since all that waited was written: to be said.
    FirstLost,
    /// It is lost like others before, of which it was said.
    Lost,
}

/// Steps that were lost; some between the first and the last may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostSteps {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// How many.
    pub count: u64,
}

impl<W, S, R> Backlog<W, S, R> {
    /// An empty queue.
    ///
    /// # Panics
    ///
    /// If a limit is 0.
    pub fn new(limits: Limits) -> Self {
        assert!(limits.steps > 0 && limits.step_bytes > 0 && limits.records > 0, "something may wait");
        Self {
            limits,
            waiting: VecDeque::new(),
            steps: 0,
            step_bytes: 0,
            saves: 0,
            records: 0,
            losing_steps: false,
            lost_steps: None,
            losing_records: false,
            lost_records: 0,
        }
    }

    /// Has a step recorded, if there is room; the weights after it have `bytes` bytes.
    pub fn push_step(&mut self, step: u64, weights: W, bytes: usize) -> Pushed {
        let half_empty = 2 * self.steps <= self.limits.steps && 2 * self.step_bytes <= self.limits.step_bytes;
        self.losing_steps &= !half_empty;
        let fits = self.steps < self.limits.steps && self.step_bytes + bytes <= self.limits.step_bytes;
        if !self.losing_steps && (fits || self.steps == 0) {
            self.steps += 1;
            self.step_bytes += bytes;
            self.waiting.push_back(Waiting::Step { step, weights, bytes });
            return Pushed::Waits;
        }
        self.losing_steps = true;
        match &mut self.lost_steps {
            Some(lost) => {
                lost.last = step;
                lost.count += 1;
                Pushed::Lost
            }
            None => {
                self.lost_steps = Some(LostSteps { first: step, last: step, count: 1 });
                Pushed::FirstLost
            }
        }
    }

    /// Has a state saved; never lost.
    ///
    /// # Panics
    ///
    /// If more saves wait than the control plane has under way.
    pub fn push_save(&mut self, save: S) {
        assert!(self.saves < MAX_SAVES, "{MAX_SAVES} saves wait at most");
        self.saves += 1;
        self.waiting.push_back(Waiting::Save(save));
    }

    /// Has another record written, if there is room; the next one that is let in tells how many were lost.
    pub fn push_record(&mut self, record: R) {
        self.losing_records &= 2 * self.records > self.limits.records;
        if self.losing_records || self.records == self.limits.records {
            self.losing_records = true;
            self.lost_records += 1;
            return;
        }
        self.records += 1;
        let lost_before = std::mem::take(&mut self.lost_records);
        self.waiting.push_back(Waiting::Record { record, lost_before });
    }

    /// What is to be done next, to be asked for when the last one is done; `None`: wait until something is pushed.
    pub fn pop(&mut self) -> Option<Entry<W, S, R>> {
        if let Some(Waiting::Record { lost_before, .. }) = self.waiting.front_mut()
            && *lost_before > 0
        {
            return Some(Entry::LostRecords(std::mem::take(lost_before)));
        }
        match self.waiting.pop_front() {
            Some(Waiting::Step { step, weights, bytes }) => {
                self.steps -= 1;
                self.step_bytes -= bytes;
                Some(Entry::Step { step, weights })
            }
            Some(Waiting::Save(save)) => {
                self.saves -= 1;
                Some(Entry::Save(save))
            }
            Some(Waiting::Record { record, .. }) => {
                self.records -= 1;
                Some(Entry::Record(record))
            }
            None if self.lost_records > 0 => Some(Entry::LostRecords(std::mem::take(&mut self.lost_records))),
            None => self.lost_steps.take().map(Entry::CaughtUp),
        }
    }

    /// Steps, saves and records that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits; there may be something to be said still.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the weights of the steps that wait.
    pub fn step_bytes(&self) -> usize {
        self.step_bytes
    }

    /// The steps lost since all that waited was written last: the disk is behind.
    pub fn lost_steps(&self) -> Option<LostSteps> {
        self.lost_steps
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    type Small = Backlog<&'static str, &'static str, u64>;

    const LIMITS: Limits = Limits { steps: 4, step_bytes: 100, records: 4 };

    fn filled(steps: u64) -> Small {
        let mut backlog = Small::new(LIMITS);
        for step in 1..=steps {
            assert_eq!(backlog.push_step(step, "w", 10), Pushed::Waits);
        }
        backlog
    }

    fn drain(backlog: &mut Small) -> Vec<Entry<&'static str, &'static str, u64>> {
        std::iter::from_fn(|| backlog.pop()).collect()
    }

    fn steps(entries: &[Entry<&'static str, &'static str, u64>]) -> Vec<u64> {
        let step = |entry: &Entry<_, _, _>| match entry {
            Entry::Step { step, .. } => Some(*step),
            _ => None,
        };
        entries.iter().filter_map(step).collect()
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let mut backlog = filled(1);
        backlog.push_record(7);
        backlog.push_save("state");
        backlog.push_record(8);
        assert_eq!((backlog.len(), backlog.step_bytes(), backlog.is_empty()), (4, 10, false));
        let step = Entry::Step { step: 1, weights: "w" };
        assert_eq!(drain(&mut backlog), [step, Entry::Record(7), Entry::Save("state"), Entry::Record(8)]);
        assert_eq!((backlog.len(), backlog.step_bytes(), backlog.is_empty()), (0, 0, true));
    }

    #[test]
    fn an_overflow_loses_new_steps_until_the_queue_is_half_empty_and_goes_on() {
        let mut backlog = filled(4);
        assert_eq!(backlog.push_step(5, "w", 10), Pushed::FirstLost);
        assert_eq!(backlog.push_step(6, "w", 10), Pushed::Lost);
        backlog.push_save("passes");
        backlog.push_record(9);
        assert!(matches!(backlog.pop(), Some(Entry::Step { step: 1, .. })));
        assert_eq!(backlog.push_step(7, "w", 10), Pushed::Lost, "three of four wait");
        assert!(matches!(backlog.pop(), Some(Entry::Step { step: 2, .. })));
        assert_eq!(backlog.push_step(8, "w", 10), Pushed::Waits);
        let rest = drain(&mut backlog);
        assert_eq!(steps(&rest), [3, 4, 8]);
        assert!(rest.contains(&Entry::Save("passes")) && rest.contains(&Entry::Record(9)));
        assert_eq!(rest.last(), Some(&Entry::CaughtUp(LostSteps { first: 5, last: 7, count: 3 })));
        assert_eq!((backlog.lost_steps(), backlog.pop()), (None, None), "said once");
        assert_eq!(backlog.push_step(9, "w", 10), Pushed::Waits);
    }

    #[test]
    fn a_disk_that_is_always_too_slow_is_said_once() {
        let mut backlog = Small::new(LIMITS);
        let mut said = 0;
        for step in 1..=1000 {
            said += u64::from(backlog.push_step(step, "w", 10) == Pushed::FirstLost);
            if step % 2 == 0 {
                assert!(matches!(backlog.pop(), Some(Entry::Step { .. })));
            }
        }
        assert_eq!(said, 1);
        let rest = drain(&mut backlog);
        let Some(Entry::CaughtUp(lost)) = rest.last() else { panic!("{rest:?}") };
        assert!(lost.first < 10 && lost.last > 990, "{lost:?}");
        assert_eq!(500 + steps(&rest).len() as u64 + lost.count, 1000);
        // The next stall is another one.
        (1001..=1004).for_each(|step| assert_eq!(backlog.push_step(step, "w", 10), Pushed::Waits));
        assert_eq!(backlog.push_step(1005, "w", 10), Pushed::FirstLost);
    }

    #[test]
    fn steps_are_bounded_by_their_bytes_too() {
        let mut backlog = Small::new(LIMITS);
        assert_eq!(backlog.push_step(1, "w", 60), Pushed::Waits);
        assert_eq!(backlog.push_step(2, "w", 60), Pushed::FirstLost);
        assert_eq!(backlog.push_step(3, "w", 10), Pushed::Lost, "60 of 100 bytes wait");
        assert!(matches!(backlog.pop(), Some(Entry::Step { step: 1, .. })));
        // However large it is, one step may wait: a large network is recorded as well.
        assert_eq!(backlog.push_step(4, "w", 1000), Pushed::Waits);
        assert_eq!(backlog.push_step(5, "w", 1000), Pushed::Lost);
    }

    #[test]
    fn lost_records_are_counted_where_they_are_missing() {
        use Entry::{LostRecords, Record};
        let mut backlog = Small::new(LIMITS);
        (1..=6).for_each(|record| backlog.push_record(record));
        assert_eq!(backlog.pop(), Some(Record(1)));
        backlog.push_record(7);
        assert_eq!(backlog.pop(), Some(Record(2)));
        backlog.push_record(8);
        assert_eq!(drain(&mut backlog), [Record(3), Record(4), LostRecords(3), Record(8)]);
        (1..=5).for_each(|record| backlog.push_record(record));
        assert_eq!(drain(&mut backlog)[4..], [LostRecords(1)], "nothing comes after them");
        assert_eq!(backlog.pop(), None);
    }

    #[test]
    #[should_panic(expected = "3 saves wait at most")]
    fn more_saves_than_the_control_plane_has_under_way_are_a_mistake() {
        let mut backlog = Small::new(LIMITS);
        (0..4).for_each(|_| backlog.push_save("state"));
    }

    /// What comes out of the queue, said again as plainly as possible: every entry that ever went in, with what became
    /// of it.
    #[derive(Default)]
    struct Naive {
        /// (is a step, number, bytes), in order.
        waiting: Vec<(bool, u64, usize)>,
        lost_steps: Vec<u64>,
        losing: [bool; 2],
        all_steps: u64,
        written_steps: u64,
        all_lost_steps: u64,
        all_records: u64,
        written_records: u64,
        told_lost_records: u64,
    }

    impl Naive {
        fn of(&self, is_step: bool) -> (usize, usize) {
            let of = self.waiting.iter().filter(|entry| entry.0 == is_step);
            (of.clone().count(), of.map(|entry| entry.2).sum())
        }

        fn lets_in(&mut self, is_step: bool, limit: usize, byte_limit: usize, bytes: usize) -> bool {
            let (count, held) = self.of(is_step);
            let losing = &mut self.losing[usize::from(is_step)];
            if *losing && count * 2 <= limit && held * 2 <= byte_limit {
                *losing = false;
            }
            let fits = count == 0 || (count < limit && held + bytes <= byte_limit);
            *losing |= !fits;
            !*losing
        }
    }

    #[test]
    fn whatever_the_order_it_agrees_with_a_naive_queue_and_keeps_its_bounds() {
        for seed in 1..=200u64 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut below = |n: u64| random.next_u64() % n;
            let limits = Limits {
                steps: 1 + below(8) as usize,
                step_bytes: 1 + below(200) as usize,
                records: 1 + below(8) as usize,
            };
            let (mut backlog, mut naive) = (Backlog::<u64, (), u64>::new(limits), Naive::default());
            for _ in 0..500 {
                match below(9) {
                    0..3 => {
                        let bytes = below(60) as usize;
                        naive.all_steps += 1;
                        let step = naive.all_steps;
                        let expected = if naive.lets_in(true, limits.steps, limits.step_bytes, bytes) {
                            naive.waiting.push((true, step, bytes));
                            Pushed::Waits
                        } else {
                            naive.all_lost_steps += 1;
                            naive.lost_steps.push(step);
                            if naive.lost_steps.len() == 1 { Pushed::FirstLost } else { Pushed::Lost }
                        };
                        assert_eq!(backlog.push_step(step, step, bytes), expected);
                    }
                    3..5 => {
                        naive.all_records += 1;
                        let record = naive.all_records;
                        if naive.lets_in(false, limits.records, usize::MAX, 0) {
                            naive.waiting.push((false, record, 0));
                        }
                        backlog.push_record(record);
                    }
                    _ => match backlog.pop() {
                        Some(Entry::Step { step, weights }) => {
                            let (is_step, number, _) = naive.waiting.remove(0);
                            assert_eq!((is_step, number, weights), (true, step, step));
                            naive.written_steps += 1;
                        }
                        Some(Entry::Record(record)) => {
                            assert_eq!(naive.waiting.remove(0), (false, record, 0));
                            naive.written_records += 1;
                            // All before it are written, or were told to be lost.
                            assert_eq!(naive.written_records + naive.told_lost_records, record);
                        }
                        Some(Entry::LostRecords(count)) => naive.told_lost_records += count,
                        Some(Entry::CaughtUp(LostSteps { first, last, count })) => {
                            assert!(naive.waiting.is_empty());
                            let lost = std::mem::take(&mut naive.lost_steps);
                            assert_eq!(lost.len() as u64, count);
                            assert_eq!((lost.first(), lost.last()), (Some(&first), Some(&last)));
                        }
                        Some(Entry::Save(())) => panic!("nothing is saved"),
                        None => {
                            assert!(naive.waiting.is_empty() && naive.lost_steps.is_empty());
                            assert_eq!(naive.written_steps + naive.all_lost_steps, naive.all_steps);
                            assert_eq!(naive.written_records + naive.told_lost_records, naive.all_records);
                        }
                    },
                }
                let (steps, bytes) = naive.of(true);
                assert_eq!((backlog.len(), backlog.step_bytes()), (naive.waiting.len(), bytes));
                assert!(steps <= limits.steps && (steps <= 1 || bytes <= limits.step_bytes), "seed {seed}");
                assert!(naive.of(false).0 <= limits.records, "seed {seed}");
            }
        }
    }
}
