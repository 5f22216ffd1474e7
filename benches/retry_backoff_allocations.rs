//! How often a call allocates: when its first attempt succeeds, and when three fail before it.
//! Apart from the times, which a counting allocator would change.

#![allow(clippy::print_stdout, reason = "a table is what it makes")]

use std::{
    alloc::System,
    cell::Cell,
    future::{Ready, ready},
    hint::black_box,
    time::Duration,
};

use backon::Retryable;
use buttress_core::ByResult;
use buttress_retry_backoff::{Backoff, Retry, RetryPolicy, tower::RetryLayer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{Layer, Service, ServiceExt, retry::Policy};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Answer = Result<u32, u32>;

/// So many attempts fail, then one succeeds, and so on.
fn failing(times: u32) -> impl FnMut() -> Ready<Answer> + Clone {
    let made = std::rc::Rc::new(Cell::new(0));
    move || {
        let number = made.replace(made.get() + 1);
        ready(if number % (times + 1) == times {
            Ok(7)
        } else {
            Err(7)
        })
    }
}

#[derive(Clone)]
struct Attempts(u32);

impl Policy<u32, u32, u32> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Answer) -> Option<Ready<()>> {
        self.0 = self.0.checked_sub(u32::from(result.is_err()))?;
        result.is_err().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

/// Of the second call, when what is made once has been made.
async fn count<T>(mut call: impl AsyncFnMut() -> T) -> usize {
    black_box(call().await);
    let region = Region::new(COUNTED);
    black_box(call().await);
    region.change().allocations
}

async fn row(times: u32) -> [usize; 5] {
    let policy = RetryPolicy::builder().attempts(4).backoff(Backoff::none());
    let retry = Retry::new("bench", policy.build().expect("a policy"));
    let mut operation = failing(times);
    let borrowed = count(async || retry.call(&mut operation).await.ok()).await;
    let mut operation = failing(times);
    let mut ours = RetryLayer::new(retry.clone(), ByResult)
        .idempotent()
        .layer(tower::service_fn(move |_: u32| operation()));
    let layer = count(async || ours.ready().await?.call(1).await).await;
    let mut operation = failing(times);
    let service = tower::service_fn(move |_: u32| operation());
    let mut theirs = tower::retry::Retry::new(Attempts(3), service);
    let tower = count(async || theirs.ready().await?.call(1).await).await;
    let operation = failing(times);
    let builder = backon::ConstantBuilder::default().with_delay(Duration::ZERO);
    let backon = count(async || Retryable::retry(operation.clone(), builder).await).await;
    let operation = failing(times);
    let spawn = async || {
        let delays = tokio_retry2::strategy::FixedInterval::from_millis(0).take(3);
        let mut operation = operation.clone();
        let call = tokio_retry2::Retry::spawn(delays, move || {
            let answer = operation().into_inner();
            ready(answer.map_err(tokio_retry2::RetryError::transient))
        });
        call.await
    };
    [borrowed, layer, tower, backon, count(spawn).await]
}

fn main() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().build().expect("a runtime");
    println!("allocations: ours borrowed, ours layer, tower::retry, backon, tokio-retry2");
    for times in [0, 3] {
        println!("{times} failures: {:?}", runtime.block_on(row(times)));
    }
}
