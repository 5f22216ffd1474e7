//! One member's seat before one page: what it pins there, and what it hears.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Clock, Moment};

use super::{Board, Member, Notice, Post, machine::Machine};
use crate::{Gate, Key, Phase, StoreError, StoreErrorKind};

/// The number of the next post of this process: a seat that is taken again, for the same member and
/// page, goes on above what the one before it has pinned.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// One member's seat before one page of a [`Board`]. It numbers what is pinned and sees to it that
/// nothing that was held up on its way is ever taken for new:
///
/// - The first exchange only reads, for the board's time must be known before anything is pinned.
/// - What is pinned arrives within twice the gate's deadline of the moment at which it was made, or
///   not at all, however long a process, a host or a proxy stood still in between.
///
/// Making one writes nothing. Dropping it neither: what it has pinned goes when its life is over,
/// or by [`leave`](Self::leave).
pub struct Seat {
    board: Arc<dyn Board>,
    gate: Gate,
    page: Key,
    member: Member,
    life: Duration,
    clock: Clock,
    machine: Mutex<Machine>,
}

/// What was heard in one exchange.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Heard {
    /// When the question was sent, by the seat's clock. Ages are told as of a later moment, so
    /// what is reckoned from this one is never too late, whatever happened to the answer.
    pub sent: Moment,
    /// Whether what was said hangs there now.
    pub pinned: bool,
    /// What the others say.
    pub others: Vec<Notice>,
}

impl Seat {
    /// A seat of `member` before that page, whose notices hang for `life`.
    #[must_use]
    pub fn new(
        board: Arc<dyn Board>,
        gate: Gate,
        page: Key,
        member: Member,
        life: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            board,
            gate,
            page,
            member,
            life,
            clock,
            machine: Mutex::default(),
        }
    }

    /// Pins what `says` makes, at the moment at which it is made, and hears the others. The first
    /// exchange, and one in which `says` has nothing to say, only reads.
    ///
    /// Dropping the future may leave it pinned or not.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when the board did not answer in time or is left alone ([`Gate`]); of kind
    /// `Misused` when more than [`Post::LONGEST`] bytes are said.
    pub async fn exchange(
        &self,
        says: impl FnOnce(Moment) -> Option<Vec<u8>>,
    ) -> Result<Heard, StoreError> {
        self.run(says, self.life).await
    }

    /// Takes down what this member has pinned.
    ///
    /// Dropping the future may leave it there; it goes when its life is over.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when the board did not answer in time or is left alone.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.run(|_| Some(Vec::new()), Duration::ZERO).await?;
        Ok(())
    }

    async fn run(
        &self,
        says: impl FnOnce(Moment) -> Option<Vec<u8>>,
        life: Duration,
    ) -> Result<Heard, StoreError> {
        let exchange = self.gate.run(async |deadline| {
            let sent = self.clock.now();
            let not_after = self.machine().not_after(sent, self.gate.allowed());
            let post = not_after.and_then(|not_after| {
                // Before it is said: of two at once, what is said later has the higher number.
                let number = NUMBERS.fetch_add(1, Relaxed);
                let body = says(sent)?;
                Some(Post::new(self.member, number, not_after, body).lasting(life))
            });
            if post
                .as_ref()
                .is_some_and(|it| it.body.len() > Post::LONGEST)
            {
                return Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect));
            }
            let page = self.board.exchange(&self.page, post.as_ref(), deadline);
            Ok((sent, page.await?))
        });
        let (sent, page) = exchange.await?;
        self.machine().answered(sent, page.now);
        let mut others = page.notices;
        others.retain(|it| it.member != self.member);
        // A member has one voice, his youngest word, whatever a board makes of its members' names.
        others.sort_by_key(|it| (it.member, it.age));
        others.dedup_by_key(|it| it.member);
        Ok(Heard {
            sent,
            pinned: page.taken,
            others,
        })
    }

    /// The page it is before.
    #[must_use]
    pub const fn page(&self) -> &Key {
        &self.page
    }

    /// How old what arrives may be when it is pinned: twice the gate's deadline.
    #[must_use]
    pub const fn slack(&self) -> Duration {
        self.gate.allowed().saturating_mul(2)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("board", &self.board)
            .field("member", &self.member)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}
