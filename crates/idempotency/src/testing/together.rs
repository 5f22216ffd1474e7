//! Cases of many who come at once, and of what is found among many records.

use std::time::Duration;

use buttress_store::{Fence, Token};
use futures_util::future::join_all;
use tokio::time::sleep;

use super::{ASKED, Caller, LONG, OVER, SHORT, ok};
use crate::store::{Answer, Store};

/// Eight come at once. Who of them gets it?
async fn race(caller: &Caller<'_>) -> Vec<Fence> {
    let ask = |_| caller.asks(ASKED, Token::random(), LONG);
    let answers = join_all((0..8).map(ask)).await;
    let fences = answers.into_iter().filter_map(|answer| match answer {
        Answer::Claimed(fence) => Some(fence),
        Answer::InFlight { .. } => None,
        other => panic!("{other:?}"),
    });
    fences.collect()
}

pub(super) async fn of_many_at_once_one_has_it(store: &dyn Store) {
    for _ in 0..5 {
        let caller = Caller::new(store);
        let fences = race(&caller).await;
        assert_eq!(
            fences.len(),
            1,
            "of eight who come at once, so many have it"
        );
        assert_eq!(fences[0].epoch(), 1);
    }
}

pub(super) async fn of_many_at_once_one_takes_over(store: &dyn Store) {
    let caller = Caller::new(store);
    caller.gets(1, SHORT).await;
    sleep(OVER).await;
    let fences = race(&caller).await;
    assert_eq!(
        fences.len(),
        1,
        "of eight who come at once, so many took over"
    );
    assert_eq!(fences[0].epoch(), 2);
}

pub(super) async fn what_has_expired_is_reaped_and_nothing_else(store: &dyn Store) {
    let (gone, kept) = (Caller::new(store), Caller::new(store));
    let soon = SHORT / 2;
    gone.asks_for(ASKED, Token::random(), soon, soon).await;
    let lapsed = Caller::new(store);
    lapsed.gets(1, SHORT).await;
    let fence = kept.gets(1, LONG).await;
    assert!(kept.completes(fence, b"kept").await);
    sleep(OVER).await;
    let mut reaped = 0;
    loop {
        let batch = ok(store.reap(1).await);
        assert!(batch <= 1, "more than the limit");
        reaped += batch;
        if batch == 0 {
            break;
        }
    }
    kept.is_replayed(b"kept").await;
    lapsed.gets(2, LONG).await;
    gone.gets(1, LONG).await;
    // A store that forgets by itself has nothing to say.
    assert_eq!(ok(store.reap(1000).await), 0, "after {reaped}");
}

pub(super) async fn unfinished_keys_are_listed_where_there_is_a_list(store: &dyn Store) {
    let [running, done, lapsed, doubted] = [(); 4].map(|()| Caller::new(store));
    running.gets(1, LONG).await;
    let fence = done.gets(1, SHORT).await;
    assert!(done.completes(fence, b"done").await);
    lapsed.gets(1, SHORT).await;
    let fence = doubted.gets(1, SHORT).await;
    assert!(ok(store.doubt(&doubted.key, fence).await));
    sleep(OVER).await;
    let listed = ok(store.unfinished(Duration::ZERO, 10_000).await);
    if listed.is_empty() {
        return;
    }
    let is_listed = |caller: &Caller<'_>| listed.iter().any(|it| it.key == caller.key);
    assert!(
        is_listed(&lapsed) && is_listed(&doubted),
        "both wait for somebody"
    );
    assert!(!is_listed(&running) && !is_listed(&done), "neither waits");
    assert!(
        listed.is_sorted_by(|a, b| a.idle >= b.idle),
        "the longest first"
    );
    assert_eq!(ok(store.unfinished(Duration::ZERO, 1).await).len(), 1);
    let long_idle = ok(store.unfinished(LONG, 10_000).await);
    assert!(
        !long_idle.iter().any(|it| it.key == lapsed.key),
        "not for so long"
    );
}
