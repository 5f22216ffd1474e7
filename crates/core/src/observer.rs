//! Who hears what happened.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Hears the events of a handle. Every `Fn(&Event)` is one.
///
/// It is called on the thread on which the event happened, after all locks are released and after
/// the state has changed. It should return quickly. A panic in it is caught and logged: an
/// observer cannot break the caller. Two threads' events may arrive in another order than they
/// happened; events carry a generation where that matters.
pub trait Observer<Event: ?Sized>: Send + Sync {
    /// Takes note of `event`.
    fn on_event(&self, event: &Event);
}

impl<Event: ?Sized, F> Observer<Event> for F
where
    F: Fn(&Event) + Send + Sync,
{
    fn on_event(&self, event: &Event) {
        self(event);
    }
}

/// The observers of one handle, fixed when it is built. Cheap to clone.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::sync::Arc;
/// use buttress_core::Observers;
///
/// let heard = Arc::new(AtomicU32::new(0));
/// let count = Arc::clone(&heard);
/// let observers = Observers::none().with(move |n: &u32| { count.fetch_add(*n, Ordering::Relaxed); });
/// observers.tell(|| 3);
/// assert_eq!(heard.load(Ordering::Relaxed), 3);
/// ```
pub struct Observers<Event: ?Sized> {
    list: Option<Arc<[Arc<dyn Observer<Event>>]>>,
}

impl<Event> Observers<Event> {
    /// Nobody listens.
    #[must_use]
    pub const fn none() -> Self {
        Self { list: None }
    }

    /// The same with one more, which hears each event after those before it.
    #[must_use]
    pub fn with(self, observer: impl Observer<Event> + 'static) -> Self {
        let observer: Arc<dyn Observer<Event>> = Arc::new(observer);
        let earlier = self.list.iter().flat_map(|list| list.iter().cloned());
        Self {
            list: Some(earlier.chain([observer]).collect()),
        }
    }

    /// Tells everybody. The event is not even made when nobody listens.
    ///
    /// Call it outside all locks.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(list) = &self.list {
            tell_all(list, &event());
        }
    }

    /// Whether nobody listens: then gathering what an event would say can be spared.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.list.is_none()
    }
}

#[cold]
fn tell_all<Event>(list: &[Arc<dyn Observer<Event>>], event: &Event) {
    for observer in list {
        // The observer is the user's, and what it leaves half-done is its own.
        if catch_unwind(AssertUnwindSafe(|| observer.on_event(event))).is_err() {
            tracing::error!(
                event = std::any::type_name::<Event>(),
                "an observer panicked; the event was lost on it"
            );
        }
    }
}

impl<Event: ?Sized> Clone for Observers<Event> {
    fn clone(&self) -> Self {
        Self {
            list: self.list.clone(),
        }
    }
}

impl<Event> Default for Observers<Event> {
    fn default() -> Self {
        Self::none()
    }
}

impl<Event: ?Sized> fmt::Debug for Observers<Event> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.as_ref().map_or(0, |list| list.len());
        f.debug_tuple("Observers").field(&count).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn an_event_that_nobody_hears_is_never_made() {
        let silent = Observers::<u8>::default();
        assert!(silent.is_silent());
        silent.tell(|| panic!("made for nobody"));
    }

    #[test]
    fn all_hear_in_order_and_a_panicking_one_breaks_neither_caller_nor_the_next() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (first, last) = (Arc::clone(&heard), Arc::clone(&heard));
        let observers = Observers::none()
            .with(move |event: &u8| first.lock().unwrap().push(("first", *event)))
            .with(|_: &u8| panic!("observer"))
            .with(move |event: &u8| last.lock().unwrap().push(("last", *event)));
        observers.clone().tell(|| 1);
        observers.tell(|| 2);
        assert_eq!(
            *heard.lock().unwrap(),
            [("first", 1), ("last", 1), ("first", 2), ("last", 2)]
        );
        assert_eq!(format!("{observers:?}"), "Observers(3)");
    }
}
