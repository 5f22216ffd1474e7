//! The lines of those who wait, one for each key on which somebody waits.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
};

use crate::queue::Queue;

/// All lines. A key's is there as long as somebody stands in it.
pub(super) struct Lines<K> {
    inside: Mutex<Inside<K>>,
    longest: usize,
    /// Over all lines. Changed under the lock, and read without it.
    waiting: AtomicUsize,
}

struct Inside<K> {
    lines: HashMap<K, (Arc<Queue>, usize)>,
}

/// One who is in the line of `key`; dropping it leaves the line.
pub(super) struct Line<'l, K: Hash + Eq> {
    lines: &'l Lines<K>,
    key: K,
    queue: Arc<Queue>,
}

impl<K> Lines<K> {
    pub(super) fn new(longest: usize) -> Self {
        let inside = Inside {
            lines: HashMap::new(),
        };
        Self {
            inside: Mutex::new(inside),
            longest,
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inside<K>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Lines<K> {
    /// Whether nobody stands in the line of `key`.
    pub(super) fn is_free<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.waiting() == 0 || !self.lock().lines.contains_key(key)
    }

    /// More may be there of `key`: whoever is first in its line asks anew.
    pub(super) fn wake<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // One who enters asks after he is counted, and this looks after more was there: either he has seen it, or he
        // is seen.
        fence(SeqCst);
        if self.waiting() > 0
            && let Some((queue, _)) = self.lock().lines.get(key)
        {
            queue.wake();
        }
    }

    /// The same of all keys.
    pub(super) fn wake_all(&self) {
        for (queue, _) in self.lock().lines.values() {
            queue.wake();
        }
    }
}

impl<K: Hash + Eq + Clone> Lines<K> {
    /// Enters the line of `key`, unless too many wait already.
    pub(super) fn of(&self, key: K) -> Option<Line<'_, K>> {
        let mut inside = self.lock();
        if self.waiting() >= self.longest {
            return None;
        }
        self.waiting.fetch_add(1, Relaxed);
        fence(SeqCst);
        let new = || (Arc::new(Queue::new(self.longest)), 0);
        let (queue, count) = inside.lines.entry(key.clone()).or_insert_with(new);
        *count += 1;
        Some(Line {
            lines: self,
            key,
            queue: Arc::clone(queue),
        })
    }
}

impl<K: Hash + Eq> Line<'_, K> {
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl<K: Hash + Eq> Drop for Line<'_, K> {
    fn drop(&mut self) {
        let mut inside = self.lines.lock();
        self.lines.waiting.fetch_sub(1, Relaxed);
        let Some((_, count)) = inside.lines.get_mut(&self.key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            inside.lines.remove(&self.key);
        }
    }
}
