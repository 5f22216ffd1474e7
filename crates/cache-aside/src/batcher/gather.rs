//! The rules by which keys are gathered: each key once, so many at most, and none for whom nobody waits.
//!
//! No clock, no lock, no waiting.

use std::{collections::HashMap, hash::Hash};

/// The keys of one call, while it has not begun.
#[derive(Debug)]
pub(super) struct Gathering<K> {
    keys: HashMap<K, Waiting>,
    next: usize,
    most: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct Waiting {
    /// Calls are given their keys in the order in which they came.
    number: usize,
    callers: usize,
}

/// What became of one who wants to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// He is in.
    Waits,
    /// He is in, and nobody else will be: the call is to begin.
    Fills,
    /// He is not: the call has begun, or is about to. What it reads may be older than his question.
    Late,
}

impl<K: Hash + Eq + Clone> Gathering<K> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            keys: HashMap::new(),
            next: 0,
            most,
            is_closed: false,
        }
    }

    pub(super) fn join(&mut self, key: &K) -> Joined {
        if self.is_closed {
            return Joined::Late;
        }
        if let Some(waiting) = self.keys.get_mut(key) {
            waiting.callers += 1;
            return Joined::Waits;
        }
        let number = self.next;
        self.next += 1;
        let waiting = Waiting { number, callers: 1 };
        self.keys.insert(key.clone(), waiting);
        if self.keys.len() < self.most {
            return Joined::Waits;
        }
        self.is_closed = true;
        Joined::Fills
    }

    /// One who waited for this key goes. Once the call has begun, that changes nothing.
    pub(super) fn leave(&mut self, key: &K) {
        if let Some(waiting) = self.keys.get_mut(key) {
            waiting.callers -= 1;
            if waiting.callers == 0 {
                self.keys.remove(key);
            }
        }
    }

    /// The call begins, with these.
    pub(super) fn begin(&mut self) -> Vec<K> {
        self.is_closed = true;
        let mut keys: Vec<_> = self.keys.drain().collect();
        keys.sort_unstable_by_key(|(_, waiting)| waiting.number);
        keys.into_iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Join(u8),
        Leave(u8),
        Begin,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..12_u8).prop_map(Step::Join),
            3 => (0..12_u8).prop_map(Step::Leave),
            1 => Just(Step::Begin),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Beside a list of who waits for what, in which everything is looked for.
        #[test]
        fn each_key_that_somebody_waits_for_is_in_the_call_once_and_no_call_is_over_its_bound(
            most in 1..6_usize,
            steps in steps(),
        ) {
            let mut gathering = Gathering::new(most);
            let mut callers: Vec<u8> = Vec::new();
            let mut begun = false;
            let mut closed = false;
            let distinct = |callers: &[u8]| {
                let mut distinct: Vec<u8> = Vec::new();
                for key in callers {
                    if !distinct.contains(key) {
                        distinct.push(*key);
                    }
                }
                distinct
            };
            for step in steps {
                match step {
                    Step::Join(key) => {
                        let joined = gathering.join(&key);
                        prop_assert_eq!(joined == Joined::Late, closed || begun);
                        if joined != Joined::Late {
                            callers.push(key);
                        }
                        let is_full = distinct(&callers).len() == most;
                        prop_assert_eq!(joined == Joined::Fills, joined != Joined::Late && is_full);
                        closed |= joined == Joined::Fills;
                    }
                    Step::Leave(key) => {
                        if let Some(at) = callers.iter().rposition(|it| *it == key) {
                            callers.remove(at);
                            gathering.leave(&key);
                        }
                    }
                    Step::Begin => {
                        let mut keys = gathering.begin();
                        let mut expected = if begun { Vec::new() } else { distinct(&callers) };
                        prop_assert!(keys.len() <= most);
                        keys.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(keys, expected);
                        begun = true;
                    }
                }
            }
        }
    }

    #[test]
    fn a_call_is_given_its_keys_in_the_order_in_which_they_came() {
        let mut gathering = Gathering::new(10);
        for key in ["c", "a", "b", "a", "d"] {
            gathering.join(&key);
        }
        gathering.leave(&"b");
        gathering.leave(&"a");
        assert_eq!(gathering.begin(), ["c", "a", "d"], "one still waits for a");
        assert_eq!(gathering.join(&"c"), Joined::Late);
        assert!(gathering.begin().is_empty());
    }
}
