//! Clusters by seed: none breaks an invariant, and a seed gives one trace.

use lockstep_simulator::knobs::Knobs;
use lockstep_simulator::report::{Statistics, failure_text};
use lockstep_simulator::simulate;
use lockstep_simulator::trace::Trace;

/// What a seed is simulated to, with every line of its trace.
fn lines(seed: u64) -> Vec<String> {
    let simulated = simulate(Knobs::draw(seed), Trace::all());
    assert!(simulated.failure.is_none(), "seed {seed}: {:?}", simulated.failure);
    simulated.trace.into_lines()
}

#[test]
fn no_cluster_breaks_an_invariant() {
    let mut total = Statistics::default();
    // The program itself is run with thousands.
    for seed in 0..300 {
        let simulated = simulate(Knobs::draw(seed), Trace::last());
        if let Some(failure) = simulated.failure {
            panic!(
                "{}",
                failure_text(&simulated.knobs, &failure, "of this checkout", &simulated.trace.tail())
            );
        }
        total.add(&simulated.statistics);
    }
    assert_eq!((total.seeds, total.outcomes["done"]), (300, 300));
    // The faults do happen, and what they are to provoke does, too.
    for class in [
        "worker killed",
        "partition, flapping",
        "coordinator killed",
        "second coordinator",
        "unsynced writes lost",
        "copy equal",
        "wrong node",
        "stale message ignored",
        "step proved against its record",
        "disk stalls",
        "step lost by the queue",
        "disk caught up after an overflow",
        "gap of the log told",
        "replaced, as the disk says",
    ] {
        assert!(total.faults.get(class).is_some_and(|count| *count >= 10), "{class}: {:?}", total.faults);
    }
    assert!(total.crashes.len() > 20, "{:?}", total.crashes);
    assert!(total.stalls.len() > 10, "{:?}", total.stalls);
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for seed in 1000..1020 {
        let first = lines(seed);
        assert!(first.len() > 50, "seed {seed}: {} lines", first.len());
        assert!(first == lines(seed), "seed {seed} gives two traces");
        assert!(first != lines(seed + 1), "seeds {seed} and {} give one trace", seed + 1);
    }
}
