//! A budget as its fleet sees it.

use std::sync::{Arc, Weak};

use super::{Budget, Drawn, Held, Purse, Shared};

/// A budget that is not kept alive by its fleet.
pub(crate) struct Pooled {
    shared: Weak<Shared>,
}

impl Budget {
    /// What tells budgets of one rule from those of another, the same in every process of this
    /// version: FNV-1a over the rule.
    pub(crate) fn mark(&self) -> u64 {
        let rule = format!("{:?}", self.rule());
        rule.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    pub(crate) fn clock(&self) -> &buttress_core::Clock {
        &self.shared.clock
    }

    /// From now on it is spent together with others; `None` when it is already.
    pub(crate) fn pool(&self) -> Option<Pooled> {
        self.shared.held(|held| {
            if held.purse.is_some() {
                return None;
            }
            held.purse = Some(Purse::NEW);
            Some(Pooled {
                shared: Arc::downgrade(&self.shared),
            })
        })
    }
}

impl Pooled {
    pub(crate) fn is_held(&self) -> bool {
        self.shared.strong_count() > 0
    }

    fn with<T>(&self, act: impl FnOnce(&Shared, &mut Held) -> T) -> Option<T> {
        let shared = self.shared.upgrade()?;
        Some(shared.held(|held| act(&shared, held)))
    }

    /// What was drawn here; `None` when nobody holds the budget any more.
    pub(crate) fn drawn(&self) -> Option<Drawn> {
        self.with(|shared, held| held.state.drawn(|| shared.clock.now()))
    }

    /// So much have the others drawn; and that is what they know of this one, if it was told them.
    pub(crate) fn heard(&self, others: &[Drawn], pinned: Option<Drawn>) {
        self.with(|shared, Held { state, purse }| {
            let others = others.iter().map(|it| state.believable(*it));
            let members = u32::try_from(others.len())
                .unwrap_or(u32::MAX)
                .saturating_add(1);
            let others = others.fold(Drawn::default(), Drawn::plus);
            let own = state.drawn(|| shared.clock.now());
            let free = state.free(own.plus(others), 1);
            let least = state.least();
            let purse = purse.get_or_insert(Purse::NEW);
            let pinned = pinned.map(|it| it.drawn);
            purse.hear((members, others), pinned, own.drawn, free, least);
        });
    }

    /// The others are not heard.
    pub(crate) fn be_alone(&self) {
        self.with(|_, held| held.purse.get_or_insert(Purse::NEW).be_alone());
    }
}
