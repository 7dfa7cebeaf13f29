//! Weights, evaluations and counts of examples equal those of one worker that nothing happens to, after every task;
//! and so does every node that is counted, unless a fault has made it wrong, which shows when the step is taken.

use lockstep_control::TaskKind;

use super::{Invariant, View};
use crate::arithmetic::Value;
use crate::observed::Observed;

/// Compares with the oracle.
#[derive(Debug)]
pub struct RightValues;

impl Invariant for RightValues {
    fn name(&self) -> &'static str {
        "weights equal those of an undisturbed worker"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        let oracle = view.oracle;
        match observed {
            Observed::Started { done, weights, examples, .. } => {
                let step = done.map_or(0, |done| done.step);
                if oracle.weights(step) != Some(weights) {
                    return Err(format!("a coordinator starts after step {step} with other weights"));
                }
                examples_equal(*examples, step, view)
            }
            Observed::Combined { task, node, value, .. } => {
                let comparable = match value {
                    Some(Value::Toy { poisoned, .. }) => !poisoned,
                    // The real network is too slow for computing each node once more.
                    Some(Value::Floats(_)) => false,
                    None => true,
                };
                if comparable && oracle.node(*task, *node) != *value {
                    return Err(format!("node {node} of {task} is counted with another value"));
                }
                Ok(())
            }
            Observed::Done { task, value, examples, .. } => {
                let expected = match task.kind {
                    TaskKind::Train => oracle.weights(task.step),
                    TaskKind::Validate | TaskKind::Test => oracle.evaluation(*task),
                };
                if expected != Some(value) {
                    return Err(format!("{task} gives something else"));
                }
                examples_equal(*examples, task.step, view)
            }
            _ => Ok(()),
        }
    }
}

fn examples_equal(examples: u64, step: u64, view: &View) -> Result<(), String> {
    let expected = view.oracle.examples(step);
    if examples != expected {
        return Err(format!("{examples} examples are counted up to step {step}, there are {expected}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{combined, done, judge, started, step};
    use super::*;

    #[test]
    fn other_weights_nodes_and_counts_are_seen() {
        assert_eq!(judge(&mut RightValues, &[started(1), combined(1, 1, 1, 0), done(step(1))]), Ok(()));
        let with = |change: fn(&mut Observed)| {
            let mut observations = [started(1), combined(1, 1, 1, 0), done(step(1))];
            observations.iter_mut().for_each(change);
            judge(&mut RightValues, &observations).unwrap_err()
        };
        let other = with(|observed| {
            if let Observed::Done { value: Value::Toy { words, .. }, .. } = observed {
                words[0] ^= 1;
            }
        });
        assert_eq!(other, "step 1 gives something else");
        let node = with(|observed| {
            if let Observed::Combined { value, .. } = observed {
                *value = None;
            }
        });
        assert_eq!(node, "node (1,0) of step 1 is counted with another value");
        let lost = with(|observed| {
            if let Observed::Done { examples, .. } = observed {
                *examples -= 1;
            }
        });
        assert_eq!(lost, "7 examples are counted up to step 1, there are 8");
    }
}
