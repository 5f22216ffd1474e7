//! A definition is checked, and made of its steps.

use std::{marker::PhantomData, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{
    Definition, DefinitionError, Output, Saga, SagaBuilder, child::DEEPEST, is_name, pause::Pause,
};
use crate::{
    machine::{Before, Shape, StepShape},
    store::DefinitionKey,
};

impl<I> SagaBuilder<I>
where
    I: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Checks it.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`], which names what cannot work.
    pub fn build(self) -> Result<Saga<I>, DefinitionError> {
        Ok(Saga {
            definition: self.defined()?,
            types: PhantomData,
        })
    }

    /// Checks it, as [`build`](Self::build). The saga returns what this step of it returned: to the
    /// saga whose [child](Self::child) it is, and to [`returned`](crate::Sagas::returned).
    ///
    /// # Errors
    ///
    /// [`DefinitionError`](crate::DefinitionError), which names what cannot work.
    pub fn build_returning<T>(mut self, output: Output<T>) -> Result<Saga<I, T>, DefinitionError> {
        if output.definition != self.number {
            return Err(DefinitionError::Returns);
        }
        self.returns = Some(output.place);
        Ok(Saga {
            definition: self.defined()?,
            types: PhantomData,
        })
    }

    fn defined(self) -> Result<Arc<Definition>, DefinitionError> {
        check_name("the saga", &self.name)?;
        if self.steps.is_empty() {
            return Err(DefinitionError::NoSteps);
        }
        if self.limit == Some(0) {
            return Err(DefinitionError::Concurrency);
        }
        if let Some(name) = self.graph.missed() {
            return Err(DefinitionError::After {
                name: name.to_owned(),
            });
        }
        let before = self.graph.before();
        let forward_from = self.graph.forward_from(&before).map_err(|beside| {
            let name = self.steps.get(beside).map(|it| it.name.to_string());
            DefinitionError::Pivot {
                name: name.unwrap_or_default(),
            }
        })?;
        let depth = self.check_children(&before, forward_from)?;
        let mut hash = Sha256::new();
        hash.update((forward_from as u64).to_be_bytes());
        for (place, step) in self.steps.iter().enumerate() {
            check_name("a step", &step.name)?;
            if self.steps[..place].iter().any(|it| it.name == step.name) {
                return Err(DefinitionError::Twice {
                    name: step.name.to_string(),
                });
            }
            step.policy
                .check()
                .map_err(|source| DefinitionError::Policy {
                    step: step.name.to_string(),
                    source,
                })?;
            hash.update((step.name.len() as u64).to_be_bytes());
            hash.update(step.name.as_bytes());
            if let Some(pause) = &step.pause {
                hash.update(pause.mark());
                if let Pause::Child(child) = pause {
                    hash.update(child.definition.key.name.as_bytes());
                    // Whether it decides for both is nothing to change under way.
                    if child.definition.pivot {
                        hash.update(b"\0pivot");
                    }
                }
            }
            if let Some(after) = self.graph.unless_in_a_row(place) {
                hash.update(b"\0after");
                for place in after {
                    hash.update((*place as u64).to_be_bytes());
                }
                hash.update(b"\0");
            }
        }
        let mut shape = [0; 16];
        shape.copy_from_slice(&hash.finalize()[..16]);
        let rules = self.steps.iter().map(|step| StepShape {
            // A child is called once; it has attempts of its own.
            attempts: match step.pause {
                Some(_) => u32::MAX,
                None => step.policy.attempts,
            },
            undo_always: step.policy.undo_always,
            sleeps: step.pause.is_some() && step.child().is_none(),
        });
        let definition = Definition {
            key: DefinitionKey {
                name: self.name,
                version: self.version,
                shape,
            },
            number: self.number,
            pivot: self.graph.has_pivot(),
            listens: self
                .steps
                .iter()
                .any(|it| it.waits() || it.child().is_some()),
            depth,
            returns: self.returns,
            branches: (0..self.steps.len()).any(|it| self.graph.unless_in_a_row(it).is_some()),
            shape: Shape {
                before,
                forward_from,
                steps: rules.collect(),
            },
            steps: self.steps,
            forward_within: self.forward_within,
            limit: self.limit,
            decode: |input| Ok(Box::new(serde_json::from_slice::<I>(input)?)),
        };
        Ok(Arc::new(definition))
    }

    /// Whether all children can be where they are, and how deep that makes the saga.
    fn check_children(
        &self,
        before: &Before,
        forward_from: usize,
    ) -> Result<usize, DefinitionError> {
        let mut depth = 1;
        for (place, step) in self.steps.iter().enumerate() {
            let Some(child) = step.child() else {
                continue;
            };
            let name = || step.name.to_string();
            depth = depth.max(child.definition.depth + 1);
            if depth > DEEPEST {
                return Err(DefinitionError::Depth { step: name() });
            }
            // All that is done before the point of no return comes before it: it is the pivot.
            let is_pivot =
                self.graph.has_pivot() && place + 1 == forward_from && before[place].len() == place;
            if step.decides() && place < forward_from && !is_pivot {
                return Err(DefinitionError::ChildPivot { step: name() });
            }
            if step.decides() && is_pivot && child.within.is_some() {
                return Err(DefinitionError::ChildPivotTimed { step: name() });
            }
        }
        Ok(depth)
    }
}

fn check_name(of: &'static str, name: &str) -> Result<(), DefinitionError> {
    if is_name(name) {
        Ok(())
    } else {
        Err(DefinitionError::Name { of })
    }
}
