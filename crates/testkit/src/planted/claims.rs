//! A piece of work that one claims.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::yield_now;

/// What is wrong with claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimBug {
    /// Nothing.
    None,
    /// It looks whether the work is free, waits, and takes it: two can have looked.
    DoubleGrant,
    /// Whoever completes is believed, also one who holds no claim any more.
    NoFence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Held(u32),
    Completed,
}

/// One piece of work, claimed under a token. Each call says whether it took effect.
#[derive(Debug)]
pub struct Claims {
    bug: ClaimBug,
    state: Mutex<State>,
}

impl Claims {
    /// One with this bug.
    #[must_use]
    pub const fn new(bug: ClaimBug) -> Self {
        Self {
            bug,
            state: Mutex::new(State::Free),
        }
    }

    /// Dropped, it may be claimed or not.
    pub async fn claim(&self, token: u32) -> bool {
        yield_now().await;
        let is_free = {
            let mut state = self.state();
            let is_free = *state == State::Free;
            if is_free && self.bug != ClaimBug::DoubleGrant {
                *state = State::Held(token);
            }
            is_free
        };
        yield_now().await;
        if is_free && self.bug == ClaimBug::DoubleGrant {
            *self.state() = State::Held(token);
        }
        is_free
    }

    /// Dropped, it may be completed or not.
    pub async fn complete(&self, token: u32) -> bool {
        let right = |state: State| match self.bug {
            ClaimBug::NoFence => matches!(state, State::Held(_)),
            _ => state == State::Held(token),
        };
        self.change(right, State::Completed).await
    }

    /// Dropped, it may be released or not.
    pub async fn release(&self, token: u32) -> bool {
        self.change(|state| state == State::Held(token), State::Free)
            .await
    }

    async fn change(&self, right: impl Fn(State) -> bool, after: State) -> bool {
        yield_now().await;
        let changes = {
            let mut state = self.state();
            let changes = right(*state);
            if changes {
                *state = after;
            }
            changes
        };
        yield_now().await;
        changes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
