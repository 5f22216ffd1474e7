//! What becomes of a message, in the word of whoever handles it.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::Received;
use crate::{PublishError, PublishErrorKind, Publisher};

/// What a handler says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the broker waits for it"]
#[non_exhaustive]
pub enum Handled {
    /// It is done, and its effect committed: it need not come again.
    Done,
    /// Not now: the database is away, something it waits for is not there. It comes again after a
    /// pause, before what is behind it.
    Again,
    /// The same, and not before so long; at most an hour is heeded.
    AgainAfter(Duration),
    /// It will not be handled, however often it comes: it is put aside, where the broker has a
    /// place for that.
    Never,
}

/// A handler that hands each message to a publisher: webhooks, or a function that a relay could
/// call as well.
///
/// | the publisher says | the message |
/// | --- | --- |
/// | `Ok` | is done |
/// | [refused for good](PublishError::refused_for_good) | is put aside |
/// | anything else, or nothing | comes again, not before the wait that it asks for |
///
/// What [cannot be a message](Received::delivery) of an outbox is put aside.
pub fn hand_to<P: Publisher>(
    publisher: P,
) -> impl Fn(Received) -> BoxFuture<'static, Handled> + Clone + Send + Sync {
    let publisher = Arc::new(publisher);
    move |received| {
        let publisher = Arc::clone(&publisher);
        Box::pin(async move {
            let Ok(delivery) = received.delivery() else {
                return Handled::Never;
            };
            let answers = publisher.publish(std::slice::from_ref(&delivery)).await;
            judge(answers.into_iter().next())
        })
    }
}

fn judge(answer: Option<Result<(), PublishError>>) -> Handled {
    let Some(answer) = answer else {
        return Handled::Again;
    };
    match answer {
        Ok(()) => Handled::Done,
        Err(error) if error.kind() == PublishErrorKind::RefusedForGood => Handled::Never,
        Err(error) => match error.retry_after() {
            Some(wait) => Handled::AgainAfter(wait),
            None => Handled::Again,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publishers_answer_becomes_a_word() {
        let wait = Duration::from_secs(7);
        for (answer, expected) in [
            (None, Handled::Again),
            (Some(Ok(())), Handled::Done),
            (
                Some(Err(PublishError::refused_for_good(""))),
                Handled::Never,
            ),
            (Some(Err(PublishError::refused(""))), Handled::Again),
            (Some(Err(PublishError::gone(""))), Handled::Again),
            (
                Some(Err(PublishError::down("").with_retry_after(wait))),
                Handled::AgainAfter(wait),
            ),
        ] {
            assert_eq!(judge(answer), expected);
        }
    }
}
