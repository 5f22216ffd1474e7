//! What a cache has to do with its second level.

use super::core::Core;
use crate::{
    bus::Receipt,
    level::Slot,
    second::{Find, Second, Wanted},
};

impl<V: Clone + Send + Sync + 'static> Core<V> {
    /// Enters what is owed to the second level, before anything is done.
    pub(crate) fn owe(&self, what: impl FnOnce(&Second<V>) -> Option<Receipt>) -> Option<Receipt> {
        self.second.as_ref().and_then(what)
    }

    /// Tells the second level and the others, or leaves it to be told.
    pub(crate) async fn pay(&self, receipt: Option<Receipt>) {
        if let (Some(second), Some(receipt)) = (&self.second, receipt) {
            second.pay(vec![receipt]).await;
        }
    }

    /// What it has that is served as it is.
    pub(super) async fn of_second(&self, key: &[u8]) -> Option<Slot<V>> {
        let second = self.second.as_ref()?;
        if key.len() > self.policy.max_key_bytes() {
            return None;
        }
        let wanted = Wanted {
            key,
            born: self.tags.now(),
            renews: false,
        };
        match second.find(self, &[wanted]).await.pop()? {
            Find::Hit(slot) => Some(slot),
            Find::Miss { .. } => None,
        }
    }
}
