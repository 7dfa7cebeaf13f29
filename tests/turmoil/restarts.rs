//! Processes that crash, come back, come late or come with an old term; and connections that are reset.

use lockstep_control::Outcome;

use crate::software::{COORDINATOR, Setup};
use crate::stage::{Stage, WORKERS, ms};

const WORKER: &str = "worker-1";

#[test]
fn a_worker_that_crashes_is_replaced_by_its_next_process() {
    for (expected_workers, pause) in [(1, ms(500)), (2, ms(5))] {
        let mut stage = Stage::new(Setup { expected_workers, ..Setup::default() });
        stage.pass_until_step(3);
        stage.sim.crash(WORKER);
        stage.pass(pause);
        stage.sim.bounce(WORKER);
        let begin = stage.sim.elapsed();
        stage.ends_well(begin + ms(2000));
        assert_eq!(stage.count("worker_dropped"), 1, "{}", stage.story());
    }
}

#[test]
fn the_next_coordinator_takes_over_where_the_crashed_one_was() {
    let mut stage = Stage::new(Setup { expected_workers: 2, ..Setup::default() });
    stage.pass_until_step(4);
    stage.crash_coordinator();
    let before = stage.history().len();
    stage.pass(ms(3000));
    assert!(stage.worker_end(WORKER).is_none(), "it goes on trying\n{}", stage.story());
    stage.sim.bounce(COORDINATOR);
    let begin = stage.sim.elapsed();
    let end = stage.ends_well(begin + ms(4000));
    assert_eq!(end.term, 2, "{}", stage.story());
    let first = stage.history()[before];
    assert!((2..=5).contains(&first), "after a checkpoint, not from the start\n{}", stage.story());
    assert_eq!(stage.count("worker_joined"), 4, "{}", stage.story());
    // Nobody was started anew, and all of them heard of the end.
    for worker in &WORKERS[..2] {
        stage.pass_until(ms(1000), |stage| stage.worker_end(worker).is_some());
        assert!(stage.worker_end(worker).unwrap().is_ok(), "{}", stage.story());
    }
}

#[test]
fn a_coordinator_with_an_old_term_gets_no_worker_and_gives_up() {
    let mut stage = Stage::new(Setup::default());
    stage.pass_until_step(2);
    stage.crash_coordinator();
    stage.sim.bounce(COORDINATOR);
    stage.pass_until(ms(5000), |stage| stage.count("worker_joined") == 2);
    stage.crash_coordinator();
    // A copy of the run from before it began, as a backup would be: its term is 1 where the worker knows 2.
    let present = stage.folder();
    let past = stage.other_directory();
    stage.keep_in(&past);
    stage.sim.bounce(COORDINATOR);
    let stale = stage.end();
    assert_eq!((stale.term, stale.outcome), (1, Outcome::Superseded { term: 2 }), "{}", stage.story());
    assert_eq!(stale.results.steps, 0);
    assert_eq!(stage.count("worker_joined"), 2, "it was no member there\n{}", stage.story());
    stage.keep_in(&present);
    stage.sim.bounce(COORDINATOR);
    let begin = stage.sim.elapsed();
    assert_eq!(stage.ends_well(begin + ms(6000)).term, 3, "{}", stage.story());
}

#[test]
fn a_connection_reset_in_the_middle_of_a_message_costs_only_time() {
    // The latency is 10 ms each way: weights are under way, then gradients.
    for delay in [5, 15] {
        let mut stage = Stage::new(Setup { expected_workers: 2, ..Setup::default() });
        stage.pass_until_step(3);
        stage.pass(ms(delay));
        stage.reset(WORKER);
        let begin = stage.sim.elapsed();
        stage.ends_well(begin + ms(1500));
        assert_eq!(stage.count("worker_dropped"), 1, "{}", stage.story());
    }
}

#[test]
fn a_run_of_one_worker_survives_resets_at_every_step() {
    let mut stage = Stage::new(Setup::default());
    for step in 1..8 {
        stage.pass_until_step(step);
        stage.reset(WORKER);
    }
    let begin = stage.sim.elapsed();
    stage.ends_well(begin + ms(3000));
    assert_eq!(stage.count("worker_joined"), 8, "{}", stage.story());
}

#[test]
fn a_worker_that_joins_late_takes_its_share() {
    let mut stage = Stage::new(Setup::default());
    stage.pass_until_step(3);
    assert_eq!(stage.members(), 1);
    stage.add_worker(2);
    let begin = stage.sim.elapsed();
    stage.ends_well(begin + ms(1000));
    assert_eq!((stage.count("worker_joined"), stage.members()), (2, 2), "{}", stage.story());
}
