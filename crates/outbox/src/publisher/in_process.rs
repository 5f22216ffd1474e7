//! A publisher that calls a function of this process.

use std::{collections::HashSet, fmt};

use async_trait::async_trait;

use super::{Delivery, PublishOrder, Publisher};
use crate::PublishError;

/// A publisher that calls a function with each message, one after the other; made by
/// [`in_process`].
pub struct InProcess<F> {
    handle: F,
}

/// A publisher that calls `handle` with each message, one after the other. It is handed the
/// message as its own, so that its future borrows nothing.
///
/// ```
/// use buttress_outbox::{PublishError, publisher::in_process};
///
/// let publisher = in_process(|delivery| async move {
///     match delivery.message().event_type() {
///         "order.placed" => Ok(()),
///         other => Err(PublishError::refused(format_args!("nobody knows {}", other.escape_debug()))),
///     }
/// });
/// # drop(publisher);
/// ```
pub const fn in_process<F, Fut>(handle: F) -> InProcess<F>
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), PublishError>> + Send + 'static,
{
    InProcess { handle }
}

#[async_trait]
impl<F, Fut> Publisher for InProcess<F>
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), PublishError>> + Send + 'static,
{
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let mut failed = HashSet::new();
        let mut answers = Vec::with_capacity(batch.len());
        for delivery in batch {
            let key = delivery.message().key();
            if key.is_some_and(|key| failed.contains(key)) {
                answers.push(Err(PublishError::skipped()));
                continue;
            }
            let answer = (self.handle)(delivery.clone()).await;
            if answer.is_err() {
                failed.extend(key);
            }
            // Nothing behind it will fare better, and each would cost a call.
            let away = answer.as_ref().is_err_and(PublishError::is_about_all);
            answers.push(answer);
            if away {
                answers.resize_with(batch.len(), || Err(PublishError::skipped()));
                break;
            }
        }
        answers
    }

    fn order(&self) -> PublishOrder {
        PublishOrder::WholeRuns
    }
}

impl<F> fmt::Debug for InProcess<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}
