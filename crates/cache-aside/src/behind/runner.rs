//! The task that writes what waits.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;

use super::{
    Shared, Write, Written,
    queue::{Due, Next},
};
use crate::EventKind;

/// Writes what is due, until it is closed and nothing is left.
pub(super) async fn run<V: Clone + Send + Sync + 'static>(shared: Arc<Shared<V>>) {
    loop {
        let now = shared.core.clock.now();
        let (next, is_closed) = {
            let mut inside = shared.pending.lock();
            let hurry_to = inside.hurry_to;
            (inside.queue.next(now, hurry_to), inside.is_closed)
        };
        match next {
            Next::Write(due) => write(&shared, due).await,
            Next::Wait(until) => {
                let pause = tokio::time::sleep(until.saturating_since(now));
                tokio::select! {
                    () = pause => {}
                    () = shared.changed.notified() => {}
                }
            }
            Next::Idle if is_closed => return,
            Next::Idle => shared.changed.notified().await,
        }
    }
}

async fn write<V: Clone + Send + Sync + 'static>(shared: &Shared<V>, due: Vec<Due<V>>) {
    let begun = shared.core.clock.now();
    let versions = Shared::versions(&due);
    let written = attempt(shared, due.clone()).await;
    let now = shared.core.clock.now();
    let took = now.saturating_since(begun);
    let keys = versions.len();
    match written {
        Some(written) => {
            let refused = Shared::refused(&due, &written);
            // First the others, while this process still reads what waits: what they had is as old as the source was.
            shared.tell_written(&versions).await;
            let freed = shared.pending.lock().queue.written(&versions);
            shared.places.add_permits(freed);
            let kind = EventKind::WrittenBehind { keys, took };
            shared.core.told.tell(kind);
            give_up(shared, refused).await;
        }
        None => {
            let chance = rand::random_range(0.0..=1.0);
            let given_up = shared.pending.lock().queue.failed(&versions, now, chance);
            let kind = EventKind::WriteBehindFailed { keys, took };
            shared.core.told.tell(kind);
            if let Some(given_up) = given_up {
                shared.places.add_permits(1);
                give_up(shared, vec![given_up]).await;
            }
        }
    }
    shared.progress.send_replace(());
}

/// `None` when it failed, panicked, or took too long.
async fn attempt<V: Clone + Send + Sync + 'static>(
    shared: &Shared<V>,
    due: Vec<Due<V>>,
) -> Option<Written> {
    let writes: Vec<Write<V>> = due.into_iter().map(Write::from).collect();
    // The sink's own code runs in here as well: what it does before its first await.
    let write = async { (shared.sink)(writes).await };
    let write = AssertUnwindSafe(write).catch_unwind();
    match tokio::time::timeout(shared.policy.timeout, write).await {
        Ok(Ok(written)) => written,
        Ok(Err(_panic)) => None,
        Err(_late) => None,
    }
}

async fn give_up<V: Clone + Send + Sync + 'static>(shared: &Shared<V>, given_up: Vec<Due<V>>) {
    if given_up.is_empty() {
        return;
    }
    // A newer value of a key may wait: it is read from the queue all the same.
    shared.forget(given_up.iter().map(|due| &due.key)).await;
    let keys = given_up.len();
    shared.core.told.tell(EventKind::WriteGivenUp { keys });
    if let Some(hears) = &shared.given_up {
        for due in given_up {
            let hears = AssertUnwindSafe(|| hears(Write::from(due)));
            if std::panic::catch_unwind(hears).is_err() {
                tracing::error!("what hears of a write that is given up panicked");
            }
        }
    }
}
