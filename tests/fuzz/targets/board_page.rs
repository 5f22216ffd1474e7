//! A page of a board, with whatever its members pinned there: never a panic, and one member alone
//! opens no breaker and takes no more of a budget than there is.
#![no_main]

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use buttress_circuit_breaker::{BreakerFleet, CircuitBreaker, State};
use buttress_core::Clock;
use buttress_retry_backoff::{Budget, BudgetFleet, BudgetRule};
use buttress_store::{
    Deadline, Key, Micros, StoreError,
    board::{Board, Member, Notice, Page, Post},
};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

/// One that answers with these notices, and takes what is pinned.
#[derive(Clone, Debug, Default)]
struct Lying {
    now: Arc<Mutex<i64>>,
    notices: Arc<Vec<Notice>>,
}

#[async_trait]
impl Board for Lying {
    async fn exchange(
        &self,
        _: &Key,
        post: Option<&Post>,
        _: Deadline,
    ) -> Result<Page, StoreError> {
        let mut now = self.now.lock().unwrap();
        *now += 1_000_000;
        Ok(Page::new(
            Micros::new(*now),
            post.is_some(),
            self.notices.to_vec(),
        ))
    }
}

/// A member and an age in a byte each, and what he pinned up to the end of the line.
fn notices(input: &[u8]) -> Vec<Notice> {
    let lines = input.split(|byte| *byte == b'\n').take(Post::MOST);
    let notices = lines.filter_map(|line| {
        let [member, age, body @ ..] = line else {
            return None;
        };
        let member = Member::new(u128::from(member % 4));
        let age = Duration::from_millis(u64::from(*age) << (age % 8));
        Some(Notice::new(member, age, body.to_vec()))
    });
    notices.collect()
}

fuzz_target!(|input: &[u8]| {
    let board = Lying {
        notices: Arc::new(notices(input)),
        ..Lying::default()
    };
    let members: BTreeSet<_> = board.notices.iter().map(|it| it.member).collect();
    let (clock, hand) = Clock::manual();
    let breaker = CircuitBreaker::builder("fuzzed")
        .clock(clock.clone())
        .build();
    let breakers = BreakerFleet::new("fuzzed", board.clone()).unwrap();
    breakers.add(&breaker).unwrap();
    let budget = Budget::with_clock(BudgetRule::quota(), clock).unwrap();
    let whole = budget.available();
    let budgets = BudgetFleet::new("fuzzed", board).unwrap();
    budgets.add("fuzzed", &budget).unwrap();
    RUNTIME.block_on(async {
        for _ in 0..3 {
            breakers.run_once().await.unwrap();
            budgets.run_once().await.unwrap();
            hand.advance(Duration::from_secs(1));
            if members.len() < 2 {
                assert_eq!(
                    breaker.state(),
                    State::Closed,
                    "one member alone has opened it"
                );
            }
        }
        assert!(
            budget.available() <= whole,
            "a budget has grown by what others say"
        );
    });
});
