//! The sum over one node: counts that every task has, and what is added up beside them.

use crate::{Buffer, sum_into};

/// The sum over a node that has examples.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSum<P> {
    /// Examples, at least 1.
    pub examples: u32,
    /// Sum of the losses.
    pub loss: f32,
    /// Correct predictions.
    pub correct: u32,
    /// A gradient, or the counts of an evaluation.
    pub payload: P,
}

/// What a node adds up beside its counts.
pub trait Payload: Sized {
    /// What an addition takes its memory from.
    type Memory;

    /// `self + right`.
    fn plus(self, right: Self, memory: &Self::Memory) -> Self;
}

/// A payload as it was received; a clone is cheap, as one is kept until its task is over.
pub trait Answer: Clone {
    /// What the tree adds up.
    type Sum: Payload + From<Self>;

    /// Whether it is, bit for bit, what was summed for the same leaves; NaN equals NaN, as its payload is no result.
    fn equals(&self, counted: &Self::Sum) -> bool;

    /// Whether every number in it is finite.
    fn is_finite(&self) -> bool;
}

impl<P> NodeSum<P> {
    /// The same counts with another payload.
    pub fn map<Q>(self, payload: impl FnOnce(P) -> Q) -> NodeSum<Q> {
        let Self { examples, loss, correct, payload: from } = self;
        NodeSum { examples, loss, correct, payload: payload(from) }
    }
}

impl<P: Payload> NodeSum<P> {
    /// Left + right.
    pub fn plus(self, right: Self, memory: &P::Memory) -> Self {
        Self {
            examples: self.examples + right.examples,
            loss: self.loss + right.loss,
            correct: self.correct + right.correct,
            payload: self.payload.plus(right.payload, memory),
        }
    }
}

impl<A: Answer> NodeSum<A> {
    /// Whether the numbers are those that were counted; NaN equals NaN.
    pub(crate) fn equals(&self, counted: &NodeSum<A::Sum>) -> bool {
        self.examples == counted.examples
            && self.correct == counted.correct
            && same_float(self.loss, counted.loss)
            && self.payload.equals(&counted.payload)
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.payload.is_finite()
    }
}

/// Whether two floats are the same result: the same bits, or both NaN, whose payload is no result.
pub fn same_float(left: f32, right: f32) -> bool {
    left.to_bits() == right.to_bits() || left.is_nan() && right.is_nan()
}

impl Payload for Buffer {
    type Memory = ();

    fn plus(mut self, right: Self, (): &()) -> Self {
        sum_into(&mut self, &right);
        self
    }
}

impl<const N: usize> Payload for Box<[u32; N]> {
    type Memory = ();

    fn plus(mut self, right: Self, (): &()) -> Self {
        // A peer may claim any count: a wrong one is found by comparing, and overflows nothing.
        self.iter_mut().zip(right.iter()).for_each(|(left, right)| *left = left.saturating_add(*right));
        self
    }
}

impl<const N: usize> Answer for Box<[u32; N]> {
    type Sum = Self;

    fn equals(&self, counted: &Self) -> bool {
        self == counted
    }

    fn is_finite(&self) -> bool {
        true
    }
}
