//! What clients saw, and in which order.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One call, at moments that are counted over all calls of a recorder.
#[derive(Clone, Debug)]
pub(super) struct Operation<C, R> {
    pub(super) call: C,
    pub(super) called: u64,
    /// When it returned, and what; `None` when nobody learned it.
    pub(super) returned: Option<(u64, R)>,
}

#[derive(Debug)]
struct Book<K, C, R> {
    moment: u64,
    /// `None` where a call is known not to have happened.
    operations: Vec<Option<(K, Operation<C, R>)>>,
}

/// Writes down calls and returns of any number of clients of this process. Clones write into the
/// same book.
#[derive(Debug)]
pub struct Recorder<K, C, R> {
    book: Arc<Mutex<Book<K, C, R>>>,
}

impl<K: Clone + Ord, C: Clone, R: Clone> Recorder<K, C, R> {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self {
            book: Arc::new(Mutex::new(Book {
                moment: 0,
                operations: Vec::new(),
            })),
        }
    }

    /// Writes down that a call on `key` begins. To be made before it is sent.
    pub fn call(&self, key: K, call: C) -> Pending<K, C, R> {
        let mut book = lock(&self.book);
        book.moment += 1;
        let operation = Operation {
            call,
            called: book.moment,
            returned: None,
        };
        book.operations.push(Some((key, operation)));
        Pending {
            number: book.operations.len() - 1,
            book: Arc::clone(&self.book),
        }
    }

    /// The calls of each key, in the order in which they began.
    pub(super) fn by_key(&self) -> BTreeMap<K, Vec<Operation<C, R>>> {
        let mut keys: BTreeMap<K, Vec<_>> = BTreeMap::new();
        for (key, operation) in lock(&self.book).operations.iter().flatten() {
            keys.entry(key.clone()).or_default().push(operation.clone());
        }
        keys
    }
}

impl<K: Clone + Ord, C: Clone, R: Clone> Default for Recorder<K, C, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, C, R> Clone for Recorder<K, C, R> {
    fn clone(&self) -> Self {
        Self {
            book: Arc::clone(&self.book),
        }
    }
}

/// A call that has begun. Dropped, its outcome is unknown: it may have happened, at any time since,
/// or never.
#[derive(Debug)]
#[must_use = "its outcome is unknown when this is dropped"]
pub struct Pending<K, C, R> {
    book: Arc<Mutex<Book<K, C, R>>>,
    number: usize,
}

impl<K, C, R> Pending<K, C, R> {
    /// Writes down that it has returned. To be made after its answer is there.
    pub fn returned(self, returned: R) {
        let mut book = lock(&self.book);
        book.moment += 1;
        let moment = book.moment;
        if let Some((_, operation)) = &mut book.operations[self.number] {
            operation.returned = Some((moment, returned));
        }
    }

    /// It is certain that it did not happen, and never will: it is struck out.
    pub fn did_not_happen(self) {
        lock(&self.book).operations[self.number] = None;
    }
}

fn lock<T>(book: &Mutex<T>) -> MutexGuard<'_, T> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
