//! What a worker without fault answers, for the coordinator: to check an answer, and to train without workers.

use std::sync::{Mutex, PoisonError};

use lockstep_model::Cpu;
use lockstep_proto::{Assignment, NodeResult, NodeValue, Weights};
use lockstep_reduction::Node;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::compute::node_result;
use crate::current::Current;
use crate::engine::{Complete, Engine, LeafInputs};

/// An engine for many tasks, on threads of its own.
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

    /// Takes the weights to compute with.
    ///
    /// # Panics
    ///
    /// If they have another number of values than the network.
    pub fn load(&mut self, weights: &[f32]) {
        self.engine.load(weights);
    }

    /// The sums over the maximal nodes of an interval of leaves, from the left; `None` where there are no examples.
    ///
    /// # Panics
    ///
    /// If the interval does not fit the tree; the caller made it.
    pub fn nodes(&self, inputs: LeafInputs) -> Vec<(Node, Option<NodeValue>)> {
        let nodes = self.pool.install(|| nodes(&self.engine, inputs));
        nodes.into_iter().map(|complete| (complete.node, complete.value)).collect()
    }
}

/// What a worker without fault answers to one assignment, in the order of the leaves.
///
/// # Panics
///
/// If `weights` are not those of the assignment, or damaged; the caller made both.
pub fn recompute(cpu: Cpu, weights: &Weights, assignment: &Assignment) -> Vec<NodeResult> {
    assert_eq!(assignment.task().weights(), weights.step, "the weights that the assignment needs");
    let mut engine = Engine::new(cpu);
    engine.load_received(weights).expect("the coordinator's own weights are whole");
    let nodes = nodes(&engine, assignment.into());
    nodes.into_iter().map(|complete| node_result(assignment, complete)).collect()
}

fn nodes(engine: &Engine, inputs: LeafInputs) -> Vec<Complete> {
    let nodes = Mutex::new(Vec::new());
    let emit = |complete| {
        nodes.lock().unwrap_or_else(PoisonError::into_inner).push(complete);
        true
    };
    engine
        .answer(inputs, &Current::default(), None, &emit)
        .expect("the coordinator's own assignment fits the tree");
    let mut nodes = nodes.into_inner().unwrap_or_else(PoisonError::into_inner);
    nodes.sort_by_key(|complete: &Complete| complete.node.leaves().start);
    nodes
}

#[cfg(test)]
mod tests {
    use lockstep_model::initial_weights;
    use lockstep_reduction::TaskKind;

    use super::*;
    use crate::test_messages::{assignment, weights};

    #[test]
    fn a_recomputer_answers_as_a_worker_on_any_number_of_threads() {
        let mut many = Recomputer::new(Cpu::detect(), 3).unwrap();
        let mut kept = Recomputer::new(Cpu::detect(), 1).unwrap();
        for step in [1, 7] {
            let assignment = assignment(step, TaskKind::Train, step, 1..8);
            let results = recompute(Cpu::detect(), &weights(step - 1), &assignment);
            let expected: Vec<_> = results
                .into_iter()
                .map(|result| (Node::new(result.level, result.index).unwrap(), result.value))
                .collect();
            let places: Vec<_> = expected.iter().map(|(node, _)| (node.level(), node.index())).collect();
            assert_eq!(places, [(0, 1), (1, 1), (2, 1)]);
            // As `weights` makes them.
            let weights = initial_weights(step - 1);
            many.load(&weights);
            assert!(many.nodes((&assignment).into()) == expected, "step {step}");
            kept.load(&weights);
            assert!(kept.nodes((&assignment).into()) == expected, "step {step}");
            assert!(kept.nodes((&assignment).into()) == expected, "step {step} again");
        }
    }

    #[test]
    #[should_panic(expected = "the weights that the assignment needs")]
    fn weights_of_another_step_are_the_caller_s_mistake() {
        recompute(Cpu::detect(), &weights(5), &assignment(1, TaskKind::Train, 5, 0..8));
    }
}
