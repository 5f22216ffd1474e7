//! The list of named handles that somebody chose to keep.

use std::{
    any::Any,
    fmt,
    sync::{Arc, PoisonError, RwLock, Weak},
};

/// What a handle shows of itself when it is listed.
pub trait Registered: Any + Send + Sync {
    /// The pattern it is of, as in metric names: `circuit_breaker`, `outbox`.
    fn pattern(&self) -> &'static str;

    /// The name its user gave it.
    fn name(&self) -> &str;

    /// Its state in one word, for people: `closed`, `paused`.
    fn state(&self) -> &'static str;

    /// Calls `each` with every figure that is read from its state now, under the name of its
    /// metric: numbers of things, or 0 and 1.
    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64));
}

/// A list of handles, for a status page, a metrics exporter or a readiness check.
///
/// It is a value: make one, pass it to the handles' builders, ask it. There is no global one. It
/// holds its entries weakly, so a handle that is dropped leaves it. Clones share one list.
///
/// ```
/// use std::sync::Arc;
/// use buttress_core::{Registered, Registry};
///
/// struct Pause;
/// impl Registered for Pause {
///     fn pattern(&self) -> &'static str { "outbox" }
///     fn name(&self) -> &str { "orders" }
///     fn state(&self) -> &'static str { "paused" }
///     fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) { each("buttress_outbox_paused", 1) }
/// }
///
/// let registry = Registry::new();
/// let pause = Arc::new(Pause);
/// registry.add(&pause);
/// assert_eq!(registry.entries()[0].state(), "paused");
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    entries: Arc<RwLock<Vec<Weak<dyn Registered>>>>,
}

impl Registry {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists `entry` for as long as somebody else holds it. Two entries may share a name.
    pub fn add<T: Registered>(&self, entry: &Arc<T>) {
        let weak = Arc::downgrade(entry);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.strong_count() > 0);
        entries.push(weak);
    }

    /// All entries that are alive, in the order in which they came.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<dyn Registered>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter_map(Weak::upgrade).collect()
    }

    /// The first living entry of type `T` with this name.
    #[must_use]
    pub fn find<T: Registered>(&self, name: &str) -> Option<Arc<T>> {
        self.entries()
            .into_iter()
            .filter(|entry| entry.name() == name)
            .find_map(|entry| {
                let any: Arc<dyn Any + Send + Sync> = entry;
                any.downcast().ok()
            })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for entry in self.entries() {
            list.entry(&format_args!(
                "{} {} ({})",
                entry.pattern(),
                entry.name(),
                entry.state()
            ));
        }
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named<const KIND: u8>(&'static str);

    impl<const KIND: u8> Registered for Named<KIND> {
        fn pattern(&self) -> &'static str {
            "test"
        }

        fn name(&self) -> &str {
            self.0
        }

        fn state(&self) -> &'static str {
            "there"
        }

        fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
            each("buttress_test_kind", u64::from(KIND));
        }
    }

    #[test]
    fn a_dropped_handle_leaves_the_list() {
        let registry = Registry::new();
        let stays = Arc::new(Named::<1>("stays"));
        let goes = Arc::new(Named::<1>("goes"));
        registry.add(&stays);
        registry.clone().add(&goes);
        assert_eq!(
            format!("{registry:?}"),
            "[test stays (there), test goes (there)]"
        );
        drop(goes);
        assert_eq!(registry.entries().len(), 1);
        assert!(registry.find::<Named<1>>("goes").is_none());
        registry.add(&stays);
        let slots = registry.entries.read().unwrap().len();
        assert_eq!(slots, 2, "the dead entry's slot is given back");
    }

    #[test]
    fn is_found_by_name_and_type() {
        let registry = Registry::new();
        let (one, two) = (Arc::new(Named::<1>("same")), Arc::new(Named::<2>("same")));
        registry.add(&one);
        registry.add(&two);
        let found = registry.find::<Named<2>>("same").expect("it was added");
        let mut gauges = Vec::new();
        found.gauges(&mut |name, value| gauges.push((name, value)));
        assert_eq!(gauges, [("buttress_test_kind", 2)]);
        assert!(registry.find::<Named<3>>("same").is_none());
    }
}
