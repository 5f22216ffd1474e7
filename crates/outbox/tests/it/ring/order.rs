//! Of a key nothing overtakes, in whichever table it is.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use buttress_outbox::{Message, PublishError, Topic, TopicPolicy};
use buttress_retry_backoff::Backoff;
use buttress_testkit::eventually;

use super::{Heard, append, in_table, message, open, streamed};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than it takes to read what may be read.
const LOOKS: Duration = Duration::from_millis(700);

fn names(number: usize) -> Vec<String> {
    (0..number).map(|n| format!("n{n}")).collect()
}

/// Its head is refused again and again while later ones are appended, and others pass it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_waits_moves_out_and_keeps_its_order_while_others_pass() {
    let Some((base, outbox)) = open(50).await else {
        return;
    };
    let heard = Heard::default();
    let refused = AtomicUsize::new(0);
    let policy = TopicPolicy::new()
        .with_attempts(1000)
        .with_backoff(Backoff::constant(Duration::from_millis(30)));
    let relay = heard.relay_by(&outbox, policy, move |delivery| {
        let message = delivery.message();
        let waits = message.key().unwrap().as_bytes() == b"waits";
        // Each of them some times.
        if waits && refused.fetch_add(1, Ordering::SeqCst) % 4 != 3 {
            return Err(PublishError::refused("not yet"));
        }
        Ok(())
    });
    let relay = relay.build().unwrap();
    let relaying = tokio::spawn(async move { relay.run_until(pending::<()>()).await });
    let mut most = 0;
    for n in 0..40 {
        let name = format!("n{n}");
        let some = ["waits", "a", "b", "c", "d"].map(|key| message(key, &name));
        append(&base.pool, &outbox, &some).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        most = most.max(in_table(&base).await);
    }
    eventually("all is heard", PATIENCE, async || {
        (heard.count() >= 200).then_some(())
    })
    .await;
    relaying.abort();
    for key in ["waits", "a", "b", "c", "d"] {
        assert_eq!(heard.of(key), names(40), "{key}");
    }
    assert!(most > 0, "it moved out");
}

/// A message that waits for its time is in the table; what is behind it in the stream waits too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_due_holds_its_key_in_the_stream_and_a_batch_keeps_its_order() {
    let Some((base, outbox)) = open(250_000).await else {
        return;
    };
    let late = |name: &str| {
        let message = Message::builder("t", "/ring", name).key("a");
        let message = message.delayed(Duration::from_millis(900));
        message.build().unwrap()
    };
    // In one batch: to the stream, to the table, to the stream.
    let batch = [
        message("a", "n0"),
        late("n1"),
        message("a", "n2"),
        message("b", "n0"),
    ];
    append(&base.pool, &outbox, &batch).await;
    assert_eq!((streamed(&base).await, in_table(&base).await), (3, 1));
    let heard = Heard::default();
    let relay = heard.relay(&outbox, |_| Ok(())).build().unwrap();
    assert_eq!(relay.run_once().await.unwrap().delivered, 2);
    assert_eq!((heard.of("a"), heard.of("b")), (names(1), names(1)));
    append(&base.pool, &outbox, &[message("a", "n3")]).await;
    eventually("all is heard", PATIENCE, async || {
        relay.run_once().await.unwrap();
        (heard.count() >= 5).then_some(())
    })
    .await;
    assert_eq!(heard.of("a"), names(4));
    assert_eq!(in_table(&base).await, 0);
}

/// Whatever a transaction does between its id and its commit, what was given an id after it is not
/// delivered before it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_yet_be_committed_holds_back_what_is_behind_it() {
    let ends = [
        ("COMMIT", "COMMIT", 1),
        ("ROLLBACK", "ROLLBACK", 0),
        ("SAVEPOINT s; ROLLBACK TO SAVEPOINT s", "COMMIT", 1),
        ("PREPARE TRANSACTION 'ring'", "COMMIT PREPARED 'ring'", 1),
        ("PREPARE TRANSACTION 'gone'", "ROLLBACK PREPARED 'gone'", 0),
    ];
    let Some((base, outbox)) = open(10).await else {
        return;
    };
    for (first, last, committed) in ends {
        let heard = Heard::default();
        let relay = heard.relay(&outbox, |_| Ok(())).build().unwrap();
        let relaying = tokio::spawn(async move { relay.run_until(pending::<()>()).await });
        let mut own = base.pool.acquire().await.unwrap();
        sqlx::raw_sql("BEGIN").execute(&mut *own).await.unwrap();
        let one = message("a", "n0");
        drop(outbox.append_in(&mut *own, &one).await.unwrap());
        if first.len() > 8 {
            sqlx::raw_sql(first).execute(&mut *own).await.unwrap();
        }
        // Round the ring, and of the same key by a writer that took no turn.
        for _ in 0..3 {
            let fill: Vec<_> = (0..20).map(|n| message(&format!("f{n}"), "f")).collect();
            append(&base.pool, &outbox, &fill).await;
        }
        append(&base.pool, &outbox, &[message("a", "n1")]).await;
        tokio::time::sleep(LOOKS).await;
        assert_eq!(heard.count(), 0, "{first}");
        outbox.truncate().await.unwrap();
        sqlx::raw_sql(last).execute(&mut *own).await.unwrap();
        drop(own);
        // And settled, or the next relay says it again.
        let topic = Topic::new("t").unwrap();
        eventually("all is heard", PATIENCE, async || {
            let depth = outbox.counts(&topic).await.unwrap().depth;
            (depth == 0 && heard.count() >= 61 + committed).then_some(())
        })
        .await;
        relaying.abort();
        let _ = relaying.await;
        let expected = names(2).split_off(1 - committed);
        assert_eq!(heard.of("a"), expected, "{first}");
        let freed = "UPDATE buttress_outbox_lane SET lease_until = 0;
             DELETE FROM buttress_outbox_relay";
        sqlx::raw_sql(freed).execute(&base.pool).await.unwrap();
    }
}

/// A destination that takes some of a batch and then is down: what it took is not sent again, and
/// what it did not is not lost, though its place is behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_goes_down_within_a_batch_hears_each_message_once() {
    let Some((base, outbox)) = open(50).await else {
        return;
    };
    let all: Vec<_> = (0..100)
        .map(|n| message(&format!("k{}", n % 10), &format!("n{}", n / 10)))
        .collect();
    append(&base.pool, &outbox, &all).await;
    let heard = Heard::default();
    let calls = AtomicUsize::new(0);
    let policy = TopicPolicy::new().with_outage_backoff(Backoff::none());
    let relay = heard.relay_by(&outbox, policy, move |_| {
        match calls.fetch_add(1, Ordering::SeqCst) % 3 {
            2 => Err(PublishError::down("every third time")),
            _ => Ok(()),
        }
    });
    let relay = relay.build().unwrap();
    let topic = Topic::new("t").unwrap();
    eventually("all is heard", PATIENCE, async || {
        relay.run_once().await.unwrap();
        let counts = outbox.counts(&topic).await.unwrap();
        (counts.depth == 0).then_some(())
    })
    .await;
    assert_eq!(heard.count(), 100, "each once");
    for key in 0..10 {
        assert_eq!(heard.of(&format!("k{key}")), names(10));
    }
}
