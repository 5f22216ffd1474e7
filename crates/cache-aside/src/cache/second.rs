//! What a cache has to do with its second level.

use super::core::Core;
use crate::{
    Kept, Loaded,
    bus::Receipt,
    fetch::Arrival,
    key::Key,
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

    /// The same for many, in as few trips as they need.
    pub(crate) async fn pay_all(&self, receipts: Vec<Receipt>) {
        if let Some(second) = &self.second
            && !receipts.is_empty()
        {
            second.pay(receipts).await;
        }
    }

    /// Keeps what was written by hand, here by `keep`, and shares it.
    pub(super) async fn put(
        &self,
        key: &Key,
        loaded: Loaded<V>,
        keep: impl FnOnce(&Key, Arrival<V>),
    ) {
        let born = self.tags.now();
        let receipt = self.owe(|second| second.owe_removal(key));
        let Some(mut arrival) = self.written(key, loaded, born) else {
            return self.pay(receipt).await;
        };
        let now = self.clock.now();
        let shared =
            (receipt.is_some() && arrival.kept == Kept::Kept).then(|| arrival.slot.clone());
        self.cap(&mut arrival.slot.life, now);
        keep(key, arrival);
        if let (Some(second), Some(receipt)) = (&self.second, receipt) {
            second.share(receipt, shared.as_ref(), now).await;
        }
    }

    /// Keeps what waits to be written, unless by then another waits or it has been written: whoever came last keeps his.
    pub(crate) async fn put_behind(
        &self,
        key: &Key,
        loaded: Loaded<V>,
        is_last: impl Fn() -> bool,
    ) {
        let keep = |key: &Key, arrival| self.put_local_if(key, arrival, &is_last);
        self.put(key, loaded, keep).await;
        // What was shared meanwhile by who came later, or removed after he was written, may just have been overwritten.
        if self.second.is_some() && !is_last() {
            let receipt = self.owe(|second| second.owe_removal(key));
            self.pay(receipt).await;
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
