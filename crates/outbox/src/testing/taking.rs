//! What the inbox promises.

use std::time::Duration;

use buttress_store::{Dialect, SqlDatabase};

use super::Suite;
use crate::{Inbox, OutboxError, Taken};

pub(super) async fn all<DB: SqlDatabase>(suite: &Suite<DB>) {
    once(suite).await;
    one_waits_for_the_other(suite).await;
}

async fn once<DB: SqlDatabase>(suite: &Suite<DB>) {
    let store = || suite.outbox.store.clone();
    let inbox = Inbox::new(store(), "conformance one").expect("an inbox");
    let other = Inbox::new(store(), "conformance other").expect("an inbox");
    let mut transaction = suite.begin().await;
    let taken = inbox.take_in(&mut *transaction, "m").await;
    assert_eq!(taken.expect("an answer"), Taken::First);
    let taken = inbox.take_in(&mut *transaction, "m").await;
    assert_eq!(taken.expect("an answer"), Taken::Before);
    transaction.rollback().await.expect("taken back");
    for expected in [Taken::First, Taken::Before] {
        let known = inbox.was_taken("m").await.expect("an answer");
        assert_eq!(known, expected == Taken::Before);
        let mut transaction = suite.begin().await;
        let taken = inbox.take_in(&mut *transaction, "m").await;
        assert_eq!(taken.expect("an answer"), expected);
        transaction.commit().await.expect("committed");
    }
    // OB-33: the consumer is part of the key; and bytes are compared.
    let mut transaction = suite.begin().await;
    let taken = other.take_in(&mut *transaction, "m").await;
    assert_eq!(taken.expect("an answer"), Taken::First);
    for id in ["M", "m ", "\0"] {
        let taken = inbox.take_in(&mut *transaction, id).await;
        assert_eq!(taken.expect("an answer"), Taken::First);
    }
    let long = inbox.take_in(&mut *transaction, [0; 256]).await;
    assert!(matches!(long, Err(OutboxError::Message(_))));
    transaction.commit().await.expect("committed");
    let minute = Duration::from_secs(60);
    assert_eq!(inbox.prune(minute, 10).await.ok(), Some(0));
    let short = inbox.prune(Duration::ZERO, 10).await;
    assert!(matches!(short, Err(OutboxError::Policy(_))));
    let now = suite
        .outbox
        .store
        .store
        .prune_inbox(b"conformance one", Duration::ZERO, 3);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(now.await.ok(), Some(3));
}

/// OB-27: who comes second waits for the first one's end.
async fn one_waits_for_the_other<DB: SqlDatabase>(suite: &Suite<DB>) {
    if DB::DIALECT == Dialect::Sqlite {
        return; // One writes at a time.
    }
    let store = suite.outbox.store.clone();
    let inbox = Inbox::new(store, "conformance wait").expect("an inbox");
    for (id, commits) in [("a", true), ("b", false)] {
        let mut first = suite.begin().await;
        let taken = inbox.take_in(&mut *first, id).await;
        assert_eq!(taken.expect("an answer"), Taken::First);
        let mut second = suite.begin().await;
        let waiting = async {
            let taken = inbox.take_in(&mut *second, id).await;
            let taken = taken.expect("an answer");
            second.commit().await.expect("committed");
            taken
        };
        let ending = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if commits {
                first.commit().await.expect("committed");
            } else {
                first.rollback().await.expect("taken back");
            }
        };
        let (taken, ()) = tokio::join!(waiting, ending);
        let expected = if commits { Taken::Before } else { Taken::First };
        assert_eq!(taken, expected);
    }
}
