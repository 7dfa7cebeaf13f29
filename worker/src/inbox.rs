//! The queue between a session and the compute thread: the newest weights and the assignments that wait. It drops work
//! that is no longer wanted, and tells the compute thread to stop when the assignment under way is.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_proto::{Assignment, MAX_HELD_ASSIGNMENTS, Progress, Weights};

use crate::current::Current;

/// What to do next.
#[derive(Debug)]
pub(crate) enum Job {
    /// Take these weights; `timed` if something that is computed from them is.
    Load { weights: Weights, timed: bool },
    /// Compute this, from the weights taken last. What is timed has the time at which it came.
    Compute { assignment: Assignment, received: Option<Instant> },
}

/// More assignments than may be held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// One session's queue: its stream puts work in, the compute thread takes it out.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
    /// The computing thread begins to wait, or has no more reason to.
    rested: Condvar,
    /// What is being computed: all that the arithmetic sees of this.
    current: Current,
}

#[derive(Default)]
struct State {
    /// The step of the weights that came last.
    newest: Option<u64>,
    /// Those weights, until they are taken.
    weights: Option<Weights>,
    held: VecDeque<Held>,
    /// The assignment taken last, and the step whose weights it needs.
    computing: Option<(u64, u64)>,
    /// The computing thread waits for work.
    resting: bool,
    closed: bool,
}

/// An assignment that waits.
struct Held {
    assignment: Assignment,
    /// When it came, if it is timed.
    received: Option<Instant>,
}

impl State {
    /// The place of the first assignment that the newest weights are for.
    fn next_assignment(&self) -> Option<usize> {
        self.held.iter().position(|held| Some(held.assignment.task().weights()) == self.newest)
    }

    /// Whether there is something to take.
    fn has_work(&self) -> bool {
        self.weights.is_some() || self.next_assignment().is_some()
    }
}

impl Inbox {
    /// Replaces weights that were not taken yet, and drops all work that needs older ones.
    pub(crate) fn put_weights(&self, weights: Weights) {
        let mut state = self.lock();
        let step = weights.step;
        state.held.retain(|held| held.assignment.task().weights() >= step);
        if state.computing.is_some_and(|(_, needs)| needs < step) {
            self.current.stop();
        }
        state.newest = Some(step);
        state.weights = Some(weights);
        self.wake(state);
    }

    /// Adds an assignment, unless it is for a step that is over.
    ///
    /// # Errors
    ///
    /// If as many as may be held wait already.
    pub(crate) fn put_assignment(&self, assignment: Assignment) -> Result<(), TooMany> {
        let mut state = self.lock();
        // Weights overtake assignments that wait longer to be sent.
        if state.newest.is_some_and(|newest| assignment.task().weights() < newest) {
            return Ok(());
        }
        if state.held.len() == MAX_HELD_ASSIGNMENTS {
            return Err(TooMany);
        }
        let received = assignment.trace.map(|_| Instant::now());
        state.held.push_back(Held { assignment, received });
        self.wake(state);
        Ok(())
    }

    /// Wakes the computing thread if there is something for it, which then finds the lock free.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let has_work = state.has_work();
        drop(state);
        if has_work {
            self.changed.notify_one();
        }
    }

    /// Forgets an assignment, or has it stopped if it was begun. One that is done or unknown is nothing to forget.
    pub(crate) fn revoke(&self, assignment_id: u64) {
        let mut state = self.lock();
        state.held.retain(|held| held.assignment.assignment_id != assignment_id);
        if state.computing.is_some_and(|(id, _)| id == assignment_id) {
            self.current.stop();
        }
    }

    /// Ends the session: nothing more is handed out, and what has begun stops.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        *state = State { closed: true, ..State::default() };
        self.current.stop();
        self.changed.notify_one();
        self.rested.notify_all();
    }

    /// Waits until there is nothing to compute, for `limit` at most; `false` if there still is.
    pub(crate) fn rest(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| !state.closed && (!state.resting || state.has_work());
        let waited = self.rested.wait_timeout_while(self.lock(), limit, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The next thing to do, as soon as there is one; `None` once the inbox is closed.
    pub(crate) fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        state.computing = None;
        loop {
            if state.closed {
                return None;
            }
            if let Some(work) = self.take(&mut state) {
                return Some(work);
            }
            state.resting = true;
            self.rested.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.resting = false;
        }
    }

    /// The next thing to do, if there is one now.
    #[cfg(test)]
    pub(crate) fn try_next(&self) -> Option<Job> {
        let mut state = self.lock();
        state.computing = None;
        self.take(&mut state)
    }

    /// The assignment handed out last.
    pub(crate) fn current(&self) -> &Current {
        &self.current
    }

    /// How far the computing thread is with what it computes.
    pub(crate) fn progress(&self) -> Option<Progress> {
        // Under the lock, as what begins another one: the count is this one's.
        let state = self.lock();
        let (assignment_id, _) = state.computing?;
        Some(Progress { assignment_id, examples_done: self.current.examples_done() })
    }

    fn take(&self, state: &mut State) -> Option<Job> {
        if let Some(weights) = state.weights.take() {
            let timed =
                |held: &Held| held.received.is_some() && held.assignment.task().weights() == weights.step;
            let timed = state.held.iter().any(timed);
            return Some(Job::Load { weights, timed });
        }
        let Held { assignment, received } = state.next_assignment().and_then(|at| state.held.remove(at))?;
        state.computing = Some((assignment.assignment_id, assignment.task().weights()));
        // Under the lock, as all that sets it: an order to stop meant the assignment before.
        self.current.begin();
        Some(Job::Compute { assignment, received })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_reduction::TaskKind;

    use super::*;
    use crate::test_messages::{assignment, weights};

    /// An inbox with weights taken, and the training of the next step begun.
    fn computing(id: u64) -> Inbox {
        let inbox = Inbox::default();
        inbox.put_weights(weights(4));
        inbox.put_assignment(assignment(id, TaskKind::Train, 5, 0..8)).unwrap();
        assert!(matches!(inbox.try_next(), Some(Job::Load { weights: taken, .. }) if taken.step == 4));
        assert_eq!(taken(&inbox), Some(id));
        assert!(inbox.current().is_wanted());
        inbox
    }

    /// The assignment that is handed out next.
    fn taken(inbox: &Inbox) -> Option<u64> {
        match inbox.try_next()? {
            Job::Compute { assignment, .. } => Some(assignment.assignment_id),
            Job::Load { weights, .. } => panic!("weights of step {}", weights.step),
        }
    }

    fn stopped(inbox: &Inbox) -> bool {
        !inbox.current().is_wanted()
    }

    #[test]
    fn only_the_newest_weights_are_taken() {
        let inbox = Inbox::default();
        let older = [weights(1), weights(2)];
        (0..1000).for_each(|i| inbox.put_weights(older[i % 2].clone()));
        inbox.put_weights(weights(9));
        assert!(matches!(inbox.try_next(), Some(Job::Load { weights: taken, .. }) if taken.step == 9));
        assert!(inbox.try_next().is_none());
    }

    #[test]
    fn work_for_a_step_that_is_over_is_forgotten_whenever_it_comes() {
        let inbox = computing(1);
        inbox.put_assignment(assignment(2, TaskKind::Train, 5, 0..8)).unwrap();
        inbox.put_assignment(assignment(3, TaskKind::Train, 6, 0..8)).unwrap();
        inbox.put_weights(weights(5));
        for id in 10..40 {
            inbox.put_assignment(assignment(id, TaskKind::Validate, 4, 0..8)).unwrap();
        }
        assert!(matches!(inbox.try_next(), Some(Job::Load { .. })));
        assert_eq!(taken(&inbox), Some(3));
        assert_eq!(taken(&inbox), None);
    }

    #[test]
    fn newer_weights_stop_what_needs_older_ones_and_nothing_else() {
        let inbox = computing(1);
        inbox.put_weights(weights(4));
        assert!(!stopped(&inbox), "the same weights again");
        inbox.put_weights(weights(3));
        assert!(!stopped(&inbox), "older weights");
        inbox.put_weights(weights(5));
        assert!(stopped(&inbox));
    }

    #[test]
    fn a_revoked_assignment_is_forgotten_or_stopped() {
        let inbox = computing(1);
        for id in 2..=4 {
            inbox.put_assignment(assignment(id, TaskKind::Train, 5, 0..8)).unwrap();
        }
        inbox.revoke(3);
        inbox.revoke(99);
        assert!(!stopped(&inbox), "it was not begun");
        inbox.revoke(1);
        assert!(stopped(&inbox));
        assert_eq!(taken(&inbox), Some(2));
        assert!(!stopped(&inbox), "the order to stop was for another");
        inbox.revoke(1);
        assert!(!stopped(&inbox), "that one is over");
        assert_eq!(taken(&inbox), Some(4));
        assert_eq!(taken(&inbox), None);
    }

    #[test]
    fn progress_is_that_of_the_assignment_under_way() {
        let progress = |assignment_id, examples_done| Some(Progress { assignment_id, examples_done });
        let inbox = computing(1);
        inbox.put_assignment(assignment(2, TaskKind::Train, 5, 0..8)).unwrap();
        assert_eq!(inbox.progress(), progress(1, 0));
        inbox.current().add_done(4);
        inbox.current().add_done(3);
        assert_eq!(inbox.progress(), progress(1, 7));
        assert_eq!(taken(&inbox), Some(2));
        assert_eq!(inbox.progress(), progress(2, 0), "the count is another's");
        assert_eq!(taken(&inbox), None);
        assert_eq!(inbox.progress(), None, "nothing is computed");
    }

    #[test]
    fn an_inbox_rests_while_its_thread_waits_or_when_it_is_closed() {
        let (soon, long) = (Duration::from_millis(1), Duration::from_secs(60));
        let inbox = Inbox::default();
        assert!(!inbox.rest(soon), "nobody has come to it yet");
        std::thread::scope(|scope| {
            scope.spawn(|| while inbox.next().is_some() {});
            assert!(inbox.rest(long));
            inbox.put_assignment(assignment(1, TaskKind::Train, 1, 0..8)).unwrap();
            assert!(inbox.rest(long), "it waits for its weights");
            inbox.put_weights(weights(0));
            assert!(inbox.rest(long), "it is taken in the end");
            assert!(inbox.lock().held.is_empty());
            inbox.close();
        });
        assert!(inbox.rest(soon));
    }

    #[test]
    fn a_coordinator_cannot_fill_the_memory() {
        let inbox = Inbox::default();
        let put = |id| inbox.put_assignment(assignment(id, TaskKind::Train, 9, 0..8));
        for id in 0..MAX_HELD_ASSIGNMENTS as u64 {
            put(id).unwrap();
        }
        assert_eq!(put(99), Err(TooMany));
        inbox.revoke(3);
        assert_eq!(put(99), Ok(()));
        assert_eq!(put(100), Err(TooMany));
        // What a newer step makes worthless takes no place.
        inbox.put_weights(weights(20));
        assert_eq!(inbox.put_assignment(assignment(100, TaskKind::Train, 21, 0..8)), Ok(()));
    }

    #[test]
    fn only_what_is_timed_has_its_time() {
        let inbox = Inbox::default();
        inbox.put_weights(weights(4));
        inbox.put_assignment(assignment(1, TaskKind::Train, 5, 0..4)).unwrap();
        assert!(matches!(inbox.try_next(), Some(Job::Load { timed: false, .. })));
        assert!(matches!(inbox.try_next(), Some(Job::Compute { received: None, .. })));
        let trace = Some(lockstep_proto::TraceId([1; 16]));
        inbox.put_assignment(Assignment { trace, ..assignment(2, TaskKind::Train, 6, 0..4) }).unwrap();
        inbox.put_weights(weights(5));
        assert!(matches!(inbox.try_next(), Some(Job::Load { timed: true, .. })));
        assert!(matches!(inbox.try_next(), Some(Job::Compute { received: Some(_), .. })));
    }

    #[test]
    fn a_closed_inbox_hands_out_nothing_and_wakes_who_waits() {
        let inbox = computing(1);
        inbox.put_assignment(assignment(2, TaskKind::Train, 5, 0..8)).unwrap();
        inbox.close();
        assert!(stopped(&inbox));
        assert!(inbox.next().is_none());
        let inbox = Inbox::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| inbox.next().is_none());
            inbox.close();
            assert!(waiting.join().unwrap());
        });
    }
}
