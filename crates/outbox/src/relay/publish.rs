//! Handing messages to the publisher, whatever it does.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::run::TopicRun;
use crate::{Delivery, EventKind, PublishError};

/// What a publisher did with a call.
pub(super) enum Answer {
    /// One answer for each message.
    Each(Vec<Result<(), PublishError>>),
    /// It panicked.
    Panicked,
    /// Its deadline struck.
    Late,
}

impl TopicRun {
    /// Outside of all locks and transactions.
    pub(super) async fn publish(&self, batch: &[Delivery]) -> Answer {
        let begun = self.clock.now();
        let publishing = self.served.publisher.publish(batch);
        let publishing = AssertUnwindSafe(publishing).catch_unwind();
        let answer = match timeout(self.relay.publish, publishing).await {
            Ok(Ok(mut answers)) => {
                let none = || Err(PublishError::unknown("the publisher did not answer for it"));
                answers.resize_with(batch.len(), none);
                let took = self.clock.now().saturating_since(begun);
                self.call_took(took, batch.len());
                return Answer::Each(answers);
            }
            Ok(Err(_panic)) => Answer::Panicked,
            Err(_) => Answer::Late,
        };
        self.call_hung();
        let panicked = matches!(answer, Answer::Panicked);
        self.tell(|| EventKind::Hung { panicked });
        answer
    }
}
