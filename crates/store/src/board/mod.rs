//! A board on which the instances of a fleet pin what each of them has seen, and read the others.

mod machine;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod seat;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

#[cfg(feature = "redis")]
pub use self::redis::RedisBoard;
pub use self::{
    memory::MemoryBoard,
    seat::{Heard, Seat},
};
use crate::{Deadline, Key, Micros, StoreError};

/// Where instances pin notices about something they share: one page for each thing, on it one
/// notice of each member, each gone when its life is over. Nobody asks it for a decision: it is
/// read and written in the background, and each instance decides by itself.
///
/// Times are the board's own clock's. [`testing::board`](crate::testing::board) judges a board.
#[async_trait]
pub trait Board: Send + Sync + fmt::Debug {
    /// Pins `post`, if there is one, and reads the page: one atomic step.
    ///
    /// A post is not taken, and what hangs there stays, when the board's time is past
    /// [`Post::not_after`], when a notice of the same member with this number or a later one hangs
    /// there, or when the page is full ([`Post::MOST`]). One whose life is zero takes the member's
    /// notice off. Notices whose life is over, or that say they were pinned later than now, are
    /// not read and may be removed.
    ///
    /// Dropping the future may leave it done or not done.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when the board does not answer by the deadline, or says no.
    async fn exchange(
        &self,
        page: &Key,
        post: Option<&Post>,
        deadline: Deadline,
    ) -> Result<Page, StoreError>;
}

#[async_trait]
impl<B: Board + ?Sized> Board for Arc<B> {
    async fn exchange(
        &self,
        page: &Key,
        post: Option<&Post>,
        deadline: Deadline,
    ) -> Result<Page, StoreError> {
        (**self).exchange(page, post, deadline).await
    }
}

/// Who pins notices: a number that is drawn when a handle is made, so that no two instances, and no
/// two lives of one, are taken for each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(u128);

impl Member {
    /// Another one than all others.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The one of this number, as it came from a board.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// Its number, to be written down.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({:032x})", self.0)
    }
}

/// What a member says, to be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Post {
    /// Who says it.
    pub member: Member,
    /// Grows with each post of a member. Below 2^53.
    pub number: u64,
    /// By the board's clock: what arrives later was held up on its way and is not taken.
    pub not_after: Micros,
    /// How long it hangs there; zero takes down what hangs there.
    pub life: Duration,
    /// What is said, at most [`Post::LONGEST`] bytes.
    pub body: Vec<u8>,
}

impl Post {
    /// Members that one page has at most.
    pub const MOST: usize = 250;
    /// The most bytes of a body.
    pub const LONGEST: usize = 512;

    /// What `member` says.
    #[must_use]
    pub const fn new(member: Member, number: u64, not_after: Micros, body: Vec<u8>) -> Self {
        Self {
            member,
            number,
            not_after,
            life: Duration::ZERO,
            body,
        }
    }

    /// The same, for so long.
    #[must_use]
    pub const fn lasting(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }
}

/// What hangs on a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The board's time when it was read.
    pub now: Micros,
    /// Whether the post was taken. False when there was none.
    pub taken: bool,
    /// All that hang there now, in no order.
    pub notices: Vec<Notice>,
}

impl Page {
    /// A page that was read at `now`.
    #[must_use]
    pub const fn new(now: Micros, taken: bool, notices: Vec<Notice>) -> Self {
        Self {
            now,
            taken,
            notices,
        }
    }
}

/// What a member has said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// Who.
    pub member: Member,
    /// How long ago it was pinned, by the board's clock.
    pub age: Duration,
    /// What. It may come from another version of the program, or from anybody who can write there.
    pub body: Vec<u8>,
}

impl Notice {
    /// A notice that was pinned so long ago.
    #[must_use]
    pub const fn new(member: Member, age: Duration, body: Vec<u8>) -> Self {
        Self { member, age, body }
    }
}
