//! Processes that crash, come back, come late or come with an old term; and connections that are reset.

use lockstep_control::Outcome;

use crate::hosts::{COORDINATOR, Setup};
use crate::world::{WORKERS, World, ms};

const WORKER: &str = "worker-1";

#[test]
fn a_worker_that_crashes_is_replaced_by_its_next_process() {
    for (expected_workers, pause) in [(1, ms(500)), (2, ms(5))] {
        let mut world = World::new(Setup { expected_workers, ..Setup::default() });
        world.pass_until_step(3);
        world.sim.crash(WORKER);
        world.pass(pause);
        world.sim.bounce(WORKER);
        let begin = world.sim.elapsed();
        world.ends_well(begin + ms(2000));
        assert_eq!(world.count("worker_dropped"), 1, "{}", world.story());
    }
}

#[test]
fn the_next_coordinator_takes_over_where_the_crashed_one_was() {
    let mut world = World::new(Setup { expected_workers: 2, ..Setup::default() });
    world.pass_until_step(4);
    world.crash_coordinator();
    let before = world.history().len();
    world.pass(ms(3000));
    assert!(world.worker_end(WORKER).is_none(), "it goes on trying\n{}", world.story());
    world.sim.bounce(COORDINATOR);
    let begin = world.sim.elapsed();
    let end = world.ends_well(begin + ms(4000));
    assert_eq!(end.term, 2, "{}", world.story());
    let first = world.history()[before];
    assert!((2..=5).contains(&first), "after a checkpoint, not from the start\n{}", world.story());
    assert_eq!(world.count("worker_joined"), 4, "{}", world.story());
    // Nobody was started anew, and all of them heard of the end.
    for worker in &WORKERS[..2] {
        world.pass_until(ms(1000), |world| world.worker_end(worker).is_some());
        assert!(world.worker_end(worker).unwrap().is_ok(), "{}", world.story());
    }
}

#[test]
fn a_coordinator_with_an_old_term_gets_no_worker_and_gives_up() {
    let mut world = World::new(Setup::default());
    world.pass_until_step(2);
    world.crash_coordinator();
    world.sim.bounce(COORDINATOR);
    world.pass_until(ms(5000), |world| world.count("worker_joined") == 2);
    world.crash_coordinator();
    // A copy of the run from before it began, as a backup would be: its term is 1 where the worker knows 2.
    let present = world.folder();
    let past = world.other_directory();
    world.keep_in(&past);
    world.sim.bounce(COORDINATOR);
    let stale = world.end();
    assert_eq!((stale.term, stale.outcome), (1, Outcome::Superseded { term: 2 }), "{}", world.story());
    assert_eq!(stale.results.steps, 0);
    assert_eq!(world.count("worker_joined"), 2, "it was no member there\n{}", world.story());
    world.keep_in(&present);
    world.sim.bounce(COORDINATOR);
    let begin = world.sim.elapsed();
    assert_eq!(world.ends_well(begin + ms(6000)).term, 3, "{}", world.story());
}

#[test]
fn a_connection_reset_in_the_middle_of_a_message_costs_only_time() {
    // The latency is 10 ms each way: weights are under way, then gradients.
    for delay in [5, 15] {
        let mut world = World::new(Setup { expected_workers: 2, ..Setup::default() });
        world.pass_until_step(3);
        world.pass(ms(delay));
        world.reset(WORKER);
        let begin = world.sim.elapsed();
        world.ends_well(begin + ms(1500));
        assert_eq!(world.count("worker_dropped"), 1, "{}", world.story());
    }
}

#[test]
fn a_run_of_one_worker_survives_resets_at_every_step() {
    let mut world = World::new(Setup::default());
    for step in 1..8 {
        world.pass_until_step(step);
        world.reset(WORKER);
    }
    let begin = world.sim.elapsed();
    world.ends_well(begin + ms(3000));
    assert_eq!(world.count("worker_joined"), 8, "{}", world.story());
}

#[test]
fn a_worker_that_joins_late_takes_its_share() {
    let mut world = World::new(Setup::default());
    world.pass_until_step(3);
    assert_eq!(world.members(), 1);
    world.add_worker(2);
    let begin = world.sim.elapsed();
    world.ends_well(begin + ms(1000));
    assert_eq!((world.count("worker_joined"), world.members()), (2, 2), "{}", world.story());
}
