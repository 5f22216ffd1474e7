//! The branches of a fork, while a definition is made.

use std::fmt;

use super::SagaBuilder;

/// The branches of a [fork](SagaBuilder::fork).
#[must_use = "give it branches"]
pub struct Fork<'b, I> {
    pub(super) saga: &'b mut SagaBuilder<I>,
    pub(super) from: Vec<usize>,
    pub(super) ends: Vec<usize>,
}

impl<I> Fork<'_, I> {
    /// A branch: what is added to the builder that it is given is done one after the other, beside
    /// the other branches. One to which nothing is added is none.
    pub fn branch<R>(&mut self, steps: impl FnOnce(&mut SagaBuilder<I>) -> R) -> R {
        self.saga.graph.go_on_from(self.from.clone());
        let count = self.saga.steps.len();
        let result = steps(self.saga);
        if self.saga.steps.len() > count {
            self.ends.extend(self.saga.graph.ends());
        }
        result
    }
}

impl<I> fmt::Debug for Fork<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fork").finish_non_exhaustive()
    }
}
