//! Which webhooks were taken before.

use crate::{Inbox, OutboxError};

/// Knows which webhooks were taken: an [`Inbox`].
///
/// A layer that asks it spares the handler what it has done already. It only asks: what takes a
/// webhook, once, is the handler, in the same transaction as its effects. If the layer took it,
/// a handler that failed afterwards would never see it again.
#[async_trait::async_trait]
pub trait Seen: Send + Sync + 'static {
    /// Whether the webhook of this id was taken, and what took it has committed. Its future may be
    /// dropped at any await.
    ///
    /// # Errors
    ///
    /// When it cannot be said. The sender is then asked to come again.
    async fn was_taken(&self, id: &str) -> Result<bool, OutboxError>;
}

#[async_trait::async_trait]
impl Seen for Inbox {
    async fn was_taken(&self, id: &str) -> Result<bool, OutboxError> {
        Self::was_taken(self, id).await
    }
}
