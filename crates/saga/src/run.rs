//! Steps whose types are forgotten, so that a runner can hold them all.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Context, Effect, Step, StepError, UndoContext, context::Work, definition::Input};

/// A step whose types are forgotten. Outputs go in and out as JSON.
#[async_trait]
pub(crate) trait AnyStep: Send + Sync {
    async fn run(&self, input: &Input, work: &Work) -> Result<String, StepError>;

    async fn undo(
        &self,
        input: &Input,
        work: &Work,
        effect: Effect<String>,
    ) -> Result<(), StepError>;

    fn paused_for(&self) -> Option<Duration>;
}

/// A step that forgets its types.
pub(crate) struct Erased<S>(S);

impl<S> Erased<S> {
    pub(crate) const fn new(step: S) -> Self {
        Self(step)
    }
}

#[async_trait]
impl<S: Step> AnyStep for Erased<S> {
    async fn run(&self, input: &Input, work: &Work) -> Result<String, StepError> {
        let input = typed::<S>(input)?;
        let output = self.0.run(&Context { input, work }).await?;
        // It was done, and nobody will ever know what it returned.
        serde_json::to_string(&output).map_err(|error| StepError::unknown("OUTPUT").because(error))
    }

    async fn undo(
        &self,
        input: &Input,
        work: &Work,
        effect: Effect<String>,
    ) -> Result<(), StepError> {
        let input = typed::<S>(input)?;
        let effect = match effect {
            Effect::None => Effect::None,
            Effect::Unknown => Effect::Unknown,
            Effect::Done(output) => Effect::Done(
                serde_json::from_str(&output)
                    .map_err(|error| StepError::refused("OUTPUT").because(error))?,
            ),
        };
        self.0.undo(&UndoContext { input, work }, effect).await
    }

    fn paused_for(&self) -> Option<Duration> {
        self.0.paused_for()
    }
}

/// A sleep, which does nothing: its runner waits for it.
pub(crate) struct Nothing;

#[async_trait]
impl AnyStep for Nothing {
    async fn run(&self, _: &Input, _: &Work) -> Result<String, StepError> {
        Ok(SLEPT.to_owned())
    }

    async fn undo(&self, _: &Input, _: &Work, _: Effect<String>) -> Result<(), StepError> {
        Ok(())
    }

    fn paused_for(&self) -> Option<Duration> {
        None
    }
}

/// What a sleep returns.
pub(crate) const SLEPT: &str = "null";

/// The builder takes only steps of the saga's own input, so it always is of this type.
fn typed<S: Step>(input: &Input) -> Result<&S::Input, StepError> {
    input
        .downcast_ref()
        .ok_or_else(|| StepError::refused("INPUT"))
}
