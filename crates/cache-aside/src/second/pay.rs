//! Paying what is owed: first the store, then the others; and what is left, again and again.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use buttress_core::Moment;
use buttress_store::Key;

use super::{LONGEST_KEY, Second};
use crate::{
    EventKind,
    bus::{Debt, News, Owed, Receipt},
    cache::Core,
    level::Slot,
    store::{Marked, Record, Watch},
};

/// The first pause after what was left could not be paid; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How much is paid at once.
const AT_ONCE: usize = 256;

impl<V: Clone + Send + Sync + 'static> Second<V> {
    /// Enters that a key is to hold nothing of before. From here on nobody here believes what it holds.
    pub(crate) fn owe_removal(&self, key: &[u8]) -> Option<Receipt> {
        let key = self.wire(key)?;
        Some(self.owed.owe(Debt::Removal(key)))
    }

    /// Enters that a key is to hold nothing fresh of before.
    pub(crate) fn owe_expiry(&self, key: &[u8]) -> Option<Receipt> {
        let key = self.wire(key)?;
        Some(self.owed.owe(Debt::Expiry(key)))
    }

    /// Enters that a tag is to be marked. One that is too long is on no entry of the second level.
    pub(crate) fn owe_mark(&self, tag: &str) -> Option<Receipt> {
        let tag = Key::bounded(tag, LONGEST_KEY).ok()?;
        Some(self.owed.owe(Debt::Mark(tag)))
    }

    /// Enters that all is to be marked.
    pub(crate) fn owe_clear(&self) -> Receipt {
        self.owed.owe(Debt::Clear)
    }

    /// Pays; whether all of it is paid. What is not, is left. Dropped on its way, it is left as well.
    pub(crate) async fn pay(&self, receipts: Vec<Receipt>) -> bool {
        let Some(space) = &self.space else {
            receipts.into_iter().for_each(Receipt::paid);
            return true;
        };
        let (mut removals, mut expiries, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        let mut clears = false;
        for receipt in &receipts {
            match receipt.debt() {
                Debt::Removal(key) => removals.push(key.clone()),
                Debt::Expiry(key) => expiries.push(key.clone()),
                Debt::Mark(tag) => tags.push(tag.clone()),
                Debt::Clear => clears = true,
            }
        }
        let mut news = Vec::with_capacity(receipts.len());
        if clears {
            let mark = self.run(|deadline| self.store.mark(space, Marked::All, deadline));
            let Some(stamp) = mark.await else {
                return self.left();
            };
            self.remember(stamp);
            let stamp = Some(stamp);
            news.push(News::Cleared { stamp });
        }
        if !tags.is_empty() {
            let what = Marked::Tags(&tags);
            let mark = self.run(|deadline| self.store.mark(space, what, deadline));
            let Some(stamp) = mark.await else {
                return self.left();
            };
            self.remember(stamp);
            let stamp = Some(stamp);
            let marked = |tag| News::Marked { tag, stamp };
            news.extend(tags.into_iter().map(marked));
        }
        if !removals.is_empty() {
            let removal = self.run(|deadline| self.store.invalidate(&removals, deadline));
            if removal.await.is_none() {
                return self.left();
            }
            news.extend(removals.into_iter().map(News::Changed));
        }
        if !expiries.is_empty() {
            let expiry = self.run(|deadline| self.store.expire(&expiries, deadline));
            if expiry.await.is_none() {
                return self.left();
            }
            news.extend(expiries.into_iter().map(News::Expired));
        }
        self.tell_others(news, receipts).await
    }

    /// Shares what was written; the receipt is of the removal that makes up for it if that fails.
    pub(crate) async fn share(&self, receipt: Receipt, slot: Option<&Slot<V>>, now: Moment) {
        let Some(slot) = slot else {
            self.pay(vec![receipt]).await;
            return;
        };
        let Debt::Removal(key) = receipt.debt().clone() else {
            // So much is owed that all of it is.
            self.pay(vec![receipt]).await;
            return;
        };
        let stamp = match (self.remembered(), &self.space) {
            (Some(stamp), _) => Some(stamp),
            (None, Some(space)) => {
                let watch = Watch { space, tags: &[] };
                let marks = self.run(|deadline| self.store.marks(watch, deadline));
                marks.await.map(|marks| marks.now)
            }
            (None, None) => None,
        };
        let framed = stamp.and_then(|stamp| self.framed(&key, slot, stamp, Duration::ZERO, now));
        let Some((bytes, life)) = framed else {
            self.pay(vec![receipt]).await;
            return;
        };
        let record = Record {
            bytes: &bytes,
            fresh: slot.life.fresh_until.saturating_since(now),
            life,
        };
        let token = self.run(|deadline| self.store.take_over(&key, deadline));
        let Some(token) = token.await else {
            drop(receipt);
            self.left();
            return;
        };
        // With that the removal is done. Whether it is filled as well, and by whom, is no debt.
        let _filled = self
            .run(|deadline| self.store.fill(&key, &token, record, deadline))
            .await;
        self.tell_others(vec![News::Changed(key)], vec![receipt])
            .await;
    }

    /// Only once the store has it: who heard of it before, would read there what was before (CA-19).
    async fn tell_others(&self, news: Vec<News>, receipts: Vec<Receipt>) -> bool {
        if let Some(line) = self.line.get()
            && line.say(news).await.is_err()
        {
            return self.left();
        }
        receipts.into_iter().for_each(Receipt::paid);
        true
    }

    fn left(&self) -> bool {
        let debts = self.owed.len();
        self.told.tell(EventKind::Owed { debts });
        false
    }
}

/// Pays what was left, at once and then with growing pauses, as long as the cache is there.
pub(super) async fn keep<V: Clone + Send + Sync + 'static>(core: Weak<Core<V>>, owed: Owed) {
    loop {
        owed.left().await;
        let mut pause = PAUSE;
        loop {
            let left = owed.take_left(AT_ONCE);
            if left.is_empty() {
                break;
            }
            let Some(core) = Weak::upgrade(&core) else {
                return;
            };
            if pay_left(core, left).await {
                pause = PAUSE;
                continue;
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

async fn pay_left<V: Clone + Send + Sync + 'static>(
    core: Arc<Core<V>>,
    left: Vec<Receipt>,
) -> bool {
    match &core.second {
        Some(second) => second.pay(left).await,
        None => true,
    }
}
