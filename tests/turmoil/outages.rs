//! Links that fail, wholly or one way, once or again and again, for a while or for ever; and links that are only slow.
//!
//! A simulated connection never sends a lost segment again, so that one that lost a segment is dead for good: worse
//! than the real thing, which may recover.

use std::time::Duration;

use lockstep_control::Outcome;
use turmoil::Sim;

use crate::hosts::{COORDINATOR, Setup};
use crate::world::{WORKERS, World, ms};

const WORKER: &str = "worker-1";

/// A run of three steps done, with so many workers.
fn under_way(expected_workers: u32) -> World {
    let mut world = World::new(Setup { expected_workers, ..Setup::default() });
    world.pass_until_step(3);
    world
}

/// A worker whose connection is dead notices 5 s after the last message, and joins again soon after.
const NOTICED: Duration = ms(6500);

#[test]
fn nothing_happens_to_three_workers() {
    let mut world = World::new(Setup { expected_workers: 3, ..Setup::default() });
    let end = world.ends_well(ms(1000));
    assert_eq!((end.results.faults.workers_dropped, world.count("reassigned")), (0, 0));
    for worker in WORKERS {
        world.pass_until(ms(1000), |world| world.worker_end(worker).is_some());
        assert!(world.worker_end(worker).unwrap().is_ok(), "{}", world.story());
    }
}

#[test]
fn the_only_worker_comes_back_from_behind_a_partition() {
    let mut world = under_way(1);
    world.sim.partition(WORKER, COORDINATOR);
    let begin = world.sim.elapsed();
    world.pass(ms(3000));
    assert_eq!(world.count("worker_dropped"), 1, "{}", world.story());
    let steps = world.steps();
    world.sim.repair(WORKER, COORDINATOR);
    world.ends_well(begin + NOTICED);
    assert!(steps < 5 && world.count("worker_joined") == 2, "{steps} steps\n{}", world.story());
}

#[test]
fn one_of_three_workers_comes_back_while_the_others_go_on() {
    let (deadline, latency) = (ms(500), ms(100));
    let mut world = World::new(Setup { expected_workers: 3, deadline, latency, ..Setup::default() });
    world.pass_until_step(1);
    world.sim.hold(WORKER, COORDINATOR);
    let begin = world.sim.elapsed();
    world.pass(ms(700));
    assert_eq!(world.count("worker_dropped"), 1, "{}", world.story());
    world.sim.release(WORKER, COORDINATOR);
    world.ends_well(begin + ms(4000));
    assert_eq!((world.count("worker_joined"), world.members()), (4, 3), "{}", world.story());
}

#[test]
fn a_partition_for_ever_leaves_the_run_to_the_others() {
    let mut world = under_way(3);
    world.sim.partition(WORKER, COORDINATOR);
    let begin = world.sim.elapsed();
    let end = world.ends_well(begin + ms(1500));
    assert!(end.results.faults.assignments_copied > 0, "{}", world.story());
    // It goes on trying, until its patience ends.
    world.pass_until(ms(75_000), |world| world.worker_end(WORKER).is_some());
    let end = world.worker_end(WORKER).unwrap().unwrap_err();
    assert!(end.contains("is gone"), "{end}");
}

#[test]
fn a_worker_that_is_not_heard_comes_back() {
    let mut world = under_way(1);
    world.sim.partition_oneway(WORKER, COORDINATOR);
    world.pass(ms(3000));
    assert_eq!(world.count("worker_dropped"), 1, "{}", world.story());
    world.sim.repair_oneway(WORKER, COORDINATOR);
    let begin = world.sim.elapsed();
    // It was told that it was dropped, and has tried to come back all the time.
    world.ends_well(begin + ms(4500));
}

#[test]
fn a_worker_that_hears_nothing_comes_back() {
    let mut world = under_way(1);
    world.sim.partition_oneway(COORDINATOR, WORKER);
    let begin = world.sim.elapsed();
    world.pass(ms(3000));
    world.sim.repair_oneway(COORDINATOR, WORKER);
    world.ends_well(begin + NOTICED);
    assert!(world.count("worker_joined") > 1, "{}", world.story());
}

#[test]
fn a_link_that_flaps_holds_the_run_up_and_no_more() {
    let mut world = under_way(1);
    for _ in 0..20 {
        world.sim.partition(WORKER, COORDINATOR);
        world.pass(ms(300));
        world.sim.repair(WORKER, COORDINATOR);
        world.pass(ms(200));
    }
    let begin = world.sim.elapsed();
    world.ends_well(begin + NOTICED);
    assert!(world.count("worker_dropped") > 0, "{}", world.story());
}

#[test]
fn all_workers_come_back_within_the_runs_patience() {
    let mut world = under_way(3);
    world.all_links(Sim::partition);
    let begin = world.sim.elapsed();
    world.pass(ms(4000));
    assert_eq!(world.count("worker_dropped"), 3, "{}", world.story());
    world.all_links(Sim::repair);
    world.ends_well(begin + NOTICED);
}

#[test]
fn a_run_whose_patience_is_over_says_that_it_lost_its_workers() {
    let patience = ms(2000);
    let mut world = World::new(Setup { expected_workers: 3, patience, ..Setup::default() });
    world.pass_until_step(3);
    world.all_links(Sim::partition);
    let begin = world.sim.elapsed();
    let lost = world.pass_until(ms(2000), |world| world.count("worker_dropped") == 3);
    let end = world.end();
    assert!(matches!(end.outcome, Outcome::LostWorkers { .. }), "{}", world.story());
    assert!(world.sim.elapsed() >= begin + lost + patience, "{}", world.story());
    assert!((3..6).contains(&end.results.steps), "{}", world.story());
}

#[test]
fn slow_links_cost_nobody_the_membership() {
    let mut world = World::new(Setup { expected_workers: 3, latency: ms(200), ..Setup::default() });
    let end = world.ends_well(ms(10_000));
    assert_eq!(end.results.faults.workers_dropped, 0, "{}", world.story());
    assert_eq!(world.count("worker_joined"), 3, "{}", world.story());
}

#[test]
fn messages_that_were_held_up_harm_nobody() {
    // Shorter than the deadline, longer, and longer than a connection of nobody is kept.
    for (deadline, held, dropped) in
        [(ms(4000), ms(2000), 0), (ms(1000), ms(2000), 3), (ms(60_000), ms(30_000), 0)]
    {
        let mut world = World::new(Setup { expected_workers: 3, deadline, ..Setup::default() });
        world.pass_until_step(3);
        world.all_links(Sim::hold);
        world.pass(held);
        let steps = world.steps();
        world.all_links(Sim::release);
        let begin = world.sim.elapsed();
        world.ends_well(begin + ms(2500));
        assert!(steps < 5, "{steps} steps while nothing arrived\n{}", world.story());
        assert_eq!(world.count("worker_dropped"), dropped, "{}", world.story());
    }
}
