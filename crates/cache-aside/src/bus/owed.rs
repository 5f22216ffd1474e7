//! What is owed to the second level and to the other instances: done here, and not yet there.
//!
//! A debt is entered before anything is sent, and struck out once it is done: so a failure, a lost answer and a
//! dropped future all leave it standing, to be paid by whoever looks after. What is owed is never a value. A write that
//! did not get through is made up for by a removal, for by now somebody else may have written.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use buttress_store::Key;
use tokio::sync::Notify;

/// What is owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Debt {
    /// That a key holds nothing of before.
    Removal(Key),
    /// That a key holds nothing fresh of before.
    Expiry(Key),
    /// That a tag is marked.
    Mark(Key),
    /// That all is marked.
    Clear,
}

/// All that is owed, of bounded number: beyond it, everything is owed at once.
#[derive(Clone)]
pub(crate) struct Owed {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    /// How many there are, for those who only ask whether there are any.
    number: AtomicUsize,
    debts: Mutex<Debts>,
    left: Notify,
}

#[derive(Default)]
struct Debts {
    by: HashMap<Debt, State>,
    next: u64,
}

/// The last that was entered for it, and whether somebody is at it.
struct State {
    number: u64,
    carried: bool,
}

/// Somebody is paying. Dropped unpaid, the debt is left for another.
#[must_use = "it is struck out when it is paid, and left when it is dropped"]
pub(crate) struct Receipt {
    shared: Arc<Shared>,
    debt: Debt,
    number: u64,
}

impl Owed {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                most,
                number: AtomicUsize::new(0),
                debts: Mutex::default(),
                left: Notify::new(),
            }),
        }
    }

    /// Enters a debt that the caller is about to pay.
    pub(crate) fn owe(&self, debt: Debt) -> Receipt {
        let mut debts = self.shared.debts();
        let debt = match debt {
            debt if debts.by.len() < self.shared.most || debts.by.contains_key(&debt) => debt,
            _ => {
                debts.by.clear();
                Debt::Clear
            }
        };
        let receipt = debts.carry(&self.shared, debt);
        self.shared.counted(&debts);
        receipt
    }

    /// Debts that nobody is paying: up to `most`, to be paid by the caller.
    pub(crate) fn take_left(&self, most: usize) -> Vec<Receipt> {
        let mut debts = self.shared.debts();
        let left: Vec<Debt> = debts
            .by
            .iter()
            .filter(|(_, state)| !state.carried)
            .map(|(debt, _)| debt.clone())
            .take(most)
            .collect();
        let carry = |debt| debts.carry(&self.shared, debt);
        left.into_iter().map(carry).collect()
    }

    /// Waits until a debt is left.
    pub(crate) async fn left(&self) {
        self.shared.left.notified().await;
    }

    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.number.load(Ordering::Acquire) == 0
    }

    /// How many debts there are.
    pub(crate) fn len(&self) -> usize {
        self.shared.number.load(Ordering::Acquire)
    }

    /// Whether what the second level holds under this key is not to be believed.
    pub(crate) fn owes_key(&self, key: &Key) -> bool {
        self.owes(|debts| {
            debts.by.contains_key(&Debt::Removal(key.clone()))
                || debts.by.contains_key(&Debt::Expiry(key.clone()))
        })
    }

    /// Whether entries with this tag are not to be believed.
    pub(crate) fn owes_tag(&self, tag: &Key) -> bool {
        self.owes(|debts| debts.by.contains_key(&Debt::Mark(tag.clone())))
    }

    fn owes(&self, which: impl FnOnce(&Debts) -> bool) -> bool {
        if self.is_empty() {
            return false;
        }
        let debts = self.shared.debts();
        debts.by.contains_key(&Debt::Clear) || which(&debts)
    }
}

impl Debts {
    fn carry(&mut self, shared: &Arc<Shared>, debt: Debt) -> Receipt {
        self.next += 1;
        let state = State {
            number: self.next,
            carried: true,
        };
        self.by.insert(debt.clone(), state);
        Receipt {
            shared: Arc::clone(shared),
            debt,
            number: self.next,
        }
    }
}

impl Shared {
    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, debts: &Debts) {
        self.number.store(debts.by.len(), Ordering::Release);
    }
}

impl Receipt {
    /// What is being paid: everything, when there was too much.
    pub(crate) const fn debt(&self) -> &Debt {
        &self.debt
    }

    /// It is done. If the same was entered again since, that is owed still: it may have been begun before.
    pub(crate) fn paid(self) {
        let mut debts = self.shared.debts();
        let mine = debts.by.get(&self.debt).map(|state| state.number);
        if mine == Some(self.number) {
            debts.by.remove(&self.debt);
            self.shared.counted(&debts);
        }
        // The drop that follows finds nothing of this number.
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let mut debts = self.shared.debts();
        if let Some(state) = debts.by.get_mut(&self.debt)
            && state.number == self.number
        {
            state.carried = false;
            self.shared.left.notify_one();
        }
    }
}

impl fmt::Debug for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owed").field("debts", &self.len()).finish()
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("debt", &self.debt).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    #[test]
    fn a_debt_stands_until_it_is_paid() {
        let owed = Owed::new(10);
        assert!(!owed.owes_key(&key("a")));
        let receipt = owed.owe(Debt::Removal(key("a")));
        assert!(owed.owes_key(&key("a")) && !owed.owes_key(&key("b")));
        assert!(owed.take_left(9).is_empty(), "somebody is at it");
        drop(receipt);
        assert!(owed.owes_key(&key("a")));
        let mut left = owed.take_left(9);
        assert_eq!(left.len(), 1);
        left.remove(0).paid();
        assert!(owed.is_empty() && !owed.owes_key(&key("a")));
    }

    #[test]
    fn the_latest_of_a_key_is_what_counts() {
        let owed = Owed::new(10);
        let first = owed.owe(Debt::Removal(key("a")));
        let second = owed.owe(Debt::Removal(key("a")));
        first.paid();
        assert!(owed.owes_key(&key("a")), "it was changed again since");
        second.paid();
        assert!(owed.is_empty());
        let first = owed.owe(Debt::Mark(key("t")));
        let second = owed.owe(Debt::Mark(key("t")));
        drop(first);
        assert!(owed.take_left(9).is_empty(), "the second is on its way");
        drop(second);
        assert_eq!(owed.take_left(9).len(), 1, "one for each key");
    }

    #[test]
    fn too_many_debts_are_one_for_everything() {
        let owed = Owed::new(3);
        let some: Vec<_> = ["a", "b", "c"]
            .map(|name| owed.owe(Debt::Expiry(key(name))))
            .into();
        let again = owed.owe(Debt::Expiry(key("a")));
        assert_eq!(again.debt(), &Debt::Expiry(key("a")), "it is there already");
        let last = owed.owe(Debt::Mark(key("t")));
        assert_eq!(last.debt(), &Debt::Clear);
        assert_eq!(owed.len(), 1);
        assert!(owed.owes_key(&key("never named")) && owed.owes_tag(&key("nor this")));
        some.into_iter().for_each(Receipt::paid);
        again.paid();
        assert!(
            owed.owes_key(&key("a")),
            "what they stood for is owed still"
        );
        last.paid();
        assert!(owed.is_empty());
    }

    #[tokio::test]
    async fn who_looks_after_hears_of_what_is_left() {
        let owed = Owed::new(3);
        drop(owed.owe(Debt::Clear));
        owed.left().await;
        assert_eq!(owed.take_left(1).len(), 1);
    }
}
