//! What a model of one key is.

use std::{fmt, hash::Hash};

/// What one key's value does, sequentially.
pub trait Model {
    /// What is asked of it.
    type Input: PartialEq + Clone + fmt::Debug;
    /// What it answers.
    type Output: PartialEq + Clone + fmt::Debug;
    /// What it is.
    type State: Clone + Eq + Hash + fmt::Debug;

    /// The state before all operations.
    fn initial(&self) -> Self::State;
    /// The state after `input`, and the answer.
    fn step(&self, state: &Self::State, input: &Self::Input) -> (Self::State, Self::Output);
}
