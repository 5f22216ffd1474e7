//! A board of one process: for tests, and for several handles in one program.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use buttress_core::Clock;

use super::{Board, Member, Notice, Page, Post};
use crate::{Deadline, Key, Micros, StoreError};

type Pages = HashMap<Key, HashMap<Member, Pinned>>;

struct Pinned {
    number: u64,
    at: Micros,
    life: Duration,
    body: Vec<u8>,
}

/// A [`Board`] in this process. Clones are the same board.
#[derive(Clone)]
pub struct MemoryBoard {
    clock: Clock,
    pages: Arc<Mutex<Pages>>,
}

impl MemoryBoard {
    /// An empty one, on tokio's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::tokio())
    }

    /// An empty one, on this clock.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            clock,
            pages: Arc::default(),
        }
    }

    /// Takes everything off, as a flushed server would.
    pub fn clear(&self) {
        self.pages().clear();
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBoard {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Board for MemoryBoard {
    async fn exchange(
        &self,
        page: &Key,
        post: Option<&Post>,
        _: Deadline,
    ) -> Result<Page, StoreError> {
        let now = Micros::new(0)
            + self
                .clock
                .now()
                .saturating_since(buttress_core::Moment::START);
        let mut pages = self.pages();
        let hangs = |it: &Pinned| it.at <= now && now < it.at + it.life;
        pages.retain(|_, pinned| {
            pinned.retain(|_, it| hangs(it));
            !pinned.is_empty()
        });
        let taken = post.is_some_and(|post| pin(pages.entry(page.clone()).or_default(), post, now));
        let pinned = pages.get(page).into_iter().flatten();
        let notices = pinned.map(|(member, it)| Notice {
            member: *member,
            age: now.saturating_since(it.at),
            body: it.body.clone(),
        });
        Ok(Page::new(now, taken, notices.collect()))
    }
}

fn pin(page: &mut HashMap<Member, Pinned>, post: &Post, now: Micros) -> bool {
    let known = page.get(&post.member).map(|it| it.number);
    let fits = known.is_some() || page.len() < Post::MOST;
    if now > post.not_after || known.is_some_and(|known| post.number <= known) || !fits {
        return false;
    }
    if post.life.is_zero() {
        page.remove(&post.member);
        return true;
    }
    let pinned = Pinned {
        number: post.number,
        at: now,
        life: post.life,
        body: post.body.clone(),
    };
    page.insert(post.member, pinned);
    true
}

impl fmt::Debug for MemoryBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBoard")
            .field("pages", &self.pages().len())
            .finish_non_exhaustive()
    }
}
