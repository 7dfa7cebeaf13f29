//! What a worker without fault answers: the coordinator's referee and `verify`, on the workers' own code.

use std::sync::{Mutex, PoisonError};

use lockstep_model::Cpu;
use lockstep_proto::{Assignment, NodeResult, Weights};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::current::Current;
use crate::engine::{Engine, weights_of};

/// An engine for many assignments, on threads of its own.
pub struct Recomputer {
    engine: Engine,
    pool: ThreadPool,
}

impl Recomputer {
    /// Computes with the instruction set `cpu` on `threads` threads, at least 1.
    ///
    /// # Errors
    ///
    /// If the threads cannot be started.
    pub fn new(cpu: Cpu, threads: u32) -> std::io::Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.max(1) as usize)
            .thread_name(|index| format!("recompute-{index}"))
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self { engine: Engine::new(cpu), pool })
    }

    /// The nodes of an assignment, in the order of their leaves.
    ///
    /// # Panics
    ///
    /// If `weights` are not those of the assignment, or damaged; the caller made both.
    pub fn answer(&mut self, weights: &Weights, assignment: &Assignment) -> Vec<NodeResult> {
        let Self { engine, pool } = self;
        pool.install(|| answer(engine, weights, assignment))
    }

    /// The same once more for an assignment of the step whose weights [`Recomputer::answer`] took last.
    ///
    /// # Panics
    ///
    /// If the assignment does not fit the tree; the caller made it.
    pub fn answer_again(&self, assignment: &Assignment) -> Vec<NodeResult> {
        self.pool.install(|| nodes(&self.engine, assignment))
    }
}

/// What a worker without fault answers to one assignment, in the order of the leaves.
///
/// # Panics
///
/// If `weights` are not those of the assignment, or damaged; the caller made both.
pub fn recompute(cpu: Cpu, weights: &Weights, assignment: &Assignment) -> Vec<NodeResult> {
    answer(&mut Engine::new(cpu), weights, assignment)
}

fn answer(engine: &mut Engine, weights: &Weights, assignment: &Assignment) -> Vec<NodeResult> {
    assert_eq!(weights_of(assignment), weights.step, "the weights that the assignment needs");
    engine.load(weights).expect("the coordinator's own weights are whole");
    nodes(engine, assignment)
}

fn nodes(engine: &Engine, assignment: &Assignment) -> Vec<NodeResult> {
    let results = Mutex::new(Vec::new());
    let emit = |result| {
        results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        true
    };
    engine
        .answer(assignment, &Current::default(), None, &emit)
        .expect("the coordinator's own assignment fits the tree");
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|result| u64::from(result.index) << result.level);
    results
}

#[cfg(test)]
mod tests {
    use lockstep_proto::TaskKind;

    use super::*;
    use crate::examples::{assignment, weights};

    #[test]
    fn a_recomputer_agrees_with_itself_on_any_number_of_threads() {
        let comparable = |results: Vec<NodeResult>| -> Vec<_> {
            results
                .into_iter()
                .map(|result| (result.level, result.index, result.step, result.value))
                .collect()
        };
        let mut many = Recomputer::new(Cpu::detect(), 3).unwrap();
        let mut kept = Recomputer::new(Cpu::detect(), 1).unwrap();
        for step in [1, 7] {
            let (weights, assignment) = (weights(step - 1), assignment(step, TaskKind::Train, step, 1..8));
            let expected = comparable(recompute(Cpu::detect(), &weights, &assignment));
            let places: Vec<_> = expected.iter().map(|(level, index, ..)| (*level, *index)).collect();
            assert_eq!(places, [(0, 1), (1, 1), (2, 1)]);
            assert!(comparable(many.answer(&weights, &assignment)) == expected, "step {step}");
            assert!(comparable(kept.answer(&weights, &assignment)) == expected, "step {step}");
            assert!(comparable(kept.answer_again(&assignment)) == expected, "step {step} again");
        }
    }

    #[test]
    #[should_panic(expected = "the weights that the assignment needs")]
    fn weights_of_another_step_are_the_caller_s_mistake() {
        recompute(Cpu::detect(), &weights(5), &assignment(1, TaskKind::Train, 5, 0..8));
    }
}
