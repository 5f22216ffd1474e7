//! What the handles promise: one commit, order, retries, dead letters, pauses.

use std::time::Duration;

use buttress_retry_backoff::Backoff;
use buttress_store::{Dialect, SqlDatabase};

use super::{Scribe, Suite, message};
use crate::{
    AfterDeath, Message, OutboxError, PublishError, PublishErrorKind, Relay, RelayPolicy,
    Retention, Topic, TopicPolicy,
};

pub(super) async fn all<DB: SqlDatabase>(suite: &Suite<DB>) {
    in_one_commit(suite).await;
    in_order_by_bytes(suite).await;
    late_commits(suite).await;
    poison(suite).await;
    dead_letters(suite).await;
    other_deaths(suite).await;
    outages(suite).await;
    delays(suite).await;
    kept(suite).await;
}

fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a topic")
}

fn soon() -> TopicPolicy {
    TopicPolicy::new().with_backoff(Backoff::none())
}

async fn pass(relay: &Relay) -> crate::Pass {
    relay.run_once().await.expect("a pass")
}

/// OB-35: what was rolled back leaves no message.
async fn in_one_commit<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.commit";
    let scribe = Scribe::default();
    let relay = suite.relay(name, soon(), &scribe);
    let mut transaction = suite.begin().await;
    let appended = suite
        .outbox
        .append_in(&mut *transaction, &message(name, "a", "never"))
        .await;
    drop(appended.expect("it is appended"));
    transaction.rollback().await.expect("it is taken back");
    assert_eq!(pass(&relay).await.delivered, 0);
    let mut whole = Message::builder(name, "/conformance", "note").key("a");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    whole = whole.subject("whole").traceparent(trace).tracestate("a=b");
    whole = whole.header("x-tenant", "7").data_schema("urn:note");
    whole = whole.time(std::time::SystemTime::UNIX_EPOCH);
    let whole = whole.json(&[1, 2]).build().expect("a message");
    suite.append(std::slice::from_ref(&whole)).await;
    assert_eq!(pass(&relay).await.delivered, 1);
    let heard = std::mem::take(&mut *super::lock(&scribe.heard));
    assert_eq!(*heard[0].message(), whole, "all of it comes through");
    assert_eq!(heard[0].attempt(), 1);
    assert_eq!(pass(&relay).await.delivered, 0, "and once");
}

async fn in_order_by_bytes<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.order";
    for whole_runs in [false, true] {
        let mut scribe = Scribe {
            whole_runs,
            ..Scribe::default()
        };
        let keys = ["Abc", "abc", "Abc ", "\0", "ä"];
        let all = (0..200).map(|n| message(name, keys[n % 5], &format!("{} {}", n % 5, n)));
        let all: Vec<Message> = all.collect();
        suite.append_at_once(&all[..100]).await;
        suite.append(&all[100..120]).await;
        suite.append_at_once(&all[120..]).await;
        let done = pass(&suite.relay(name, soon(), &scribe)).await;
        assert_eq!(done.delivered, 200);
        let heard = scribe.heard();
        for key in 0..5 {
            let of_key = heard.iter().filter(|it| it.starts_with(&key.to_string()));
            let expected = (0..200).filter(|n| n % 5 == key);
            let expected: Vec<String> = expected.map(|n| format!("{key} {n}")).collect();
            assert!(of_key.eq(expected.iter()), "the order of key {key}");
        }
        // A head that is refused keeps its own key back and no other: 'Abc' is not 'abc'.
        suite.append(&all[..10]).await;
        scribe = Scribe::saying(|delivery| {
            if delivery.message().subject() == Some("0 0") {
                return Err(PublishError::refused("no"));
            }
            Ok(())
        });
        scribe.whole_runs = whole_runs;
        let policy = soon().with_attempts(1).after_death(AfterDeath::Block);
        let done = pass(&suite.relay(name, policy, &scribe)).await;
        assert_eq!((done.delivered, done.died), (8, 1));
        assert!(!scribe.heard().contains(&"0 5".to_owned()));
        let letters = suite.outbox.dead_letters(&topic(name), 0, 10).await;
        for letter in letters.expect("dead letters") {
            let skip = suite.outbox.skip(&topic(name), letter.sequence).await;
            skip.expect("it is skipped");
        }
        scribe.say_yes();
        let done = pass(&suite.relay(name, soon(), &scribe)).await;
        assert_eq!(
            (done.delivered, scribe.heard()),
            (1, vec!["0 5".to_owned()])
        );
    }
}

/// OB-01: message 1 is committed after message 2 was read and delivered.
async fn late_commits<DB: SqlDatabase>(suite: &Suite<DB>) {
    if DB::DIALECT == Dialect::Sqlite {
        return; // One writes at a time: ids are in the order of commits.
    }
    let name = "conformance.late";
    let scribe = Scribe::default();
    let relay = suite.relay(name, soon(), &scribe);
    let mut late = suite.begin().await;
    let appended = suite
        .outbox
        .append_in(&mut *late, &message(name, "a", "late"))
        .await;
    drop(appended.expect("it is appended"));
    suite.append(&[message(name, "a", "soon")]).await;
    if suite.outbox.store.has_ring(name) {
        assert_eq!(pass(&relay).await.delivered, 0, "an id below it is open");
        late.commit().await.expect("it is committed");
        assert_eq!(pass(&relay).await.delivered, 2);
        assert_eq!(scribe.heard(), ["late", "soon"]);
        return;
    }
    assert_eq!(pass(&relay).await.delivered, 1);
    late.commit().await.expect("it is committed");
    assert_eq!(pass(&relay).await.delivered, 1);
    assert_eq!(scribe.heard(), ["soon", "late"]);
}

async fn poison<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.poison";
    let scribe = Scribe::saying(|delivery| match delivery.message().subject() {
        Some("bad") => Err(PublishError::refused("bad")),
        _ => Ok(()),
    });
    let policy = soon().with_attempts(3);
    let relay = suite.relay(name, policy, &scribe);
    let all = ["one", "bad", "two"].map(|subject| message(name, "a", subject));
    suite.append(&all).await;
    suite.append(&[message(name, "b", "other")]).await;
    let unordered = Message::builder(name, "/conformance", "note").subject("free");
    suite.append(&[unordered.build().expect("a message")]).await;
    let done = pass(&relay).await;
    // Without a wait between attempts one pass is enough for all of them.
    assert_eq!((done.delivered, done.died), (3, 1));
    let counts = suite.outbox.counts(&topic(name)).await.expect("counts");
    assert_eq!((counts.depth, counts.dead, counts.blocked_keys), (1, 1, 1));
    let unblocked = suite.outbox.unblock(&topic(name), "a").await;
    assert!(unblocked.expect("an answer"));
    let again = suite.outbox.unblock(&topic(name), "nobody").await;
    assert!(!again.expect("an answer"));
    assert_eq!(pass(&relay).await.delivered, 1);
    assert_eq!(scribe.heard().last().map(String::as_str), Some("two"));
}

async fn dead_letters<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.dead";
    let good = |delivery: &crate::Delivery| match delivery.message().headers().get("good") {
        Some(_) => Ok(()),
        None => Err(PublishError::refused_for_good("a header is missing")),
    };
    let scribe = Scribe::saying(good);
    let relay = suite.relay(name, soon(), &scribe);
    suite.append(&[message(name, "a", "one")]).await;
    assert_eq!(pass(&relay).await.died, 1);
    let behind = Message::builder(name, "/conformance", "note").key("a");
    let behind = behind.subject("two").header("good", "").build();
    suite.append(&[behind.expect("a message")]).await;
    assert_eq!(
        pass(&relay).await.delivered,
        0,
        "nothing overtakes a dead head"
    );
    let letters = suite.outbox.dead_letters(&topic(name), 0, 10).await;
    let [letter] = &letters.expect("dead letters")[..] else {
        panic!("one dead letter");
    };
    assert_eq!((letter.failures, letter.lapses), (1, 0));
    assert_eq!(letter.error, "a header is missing");
    assert_eq!(letter.message.payload(), "one");
    let wrong = suite.outbox.requeue_with_headers(letter, |headers| {
        headers.insert("Bad Name".into(), String::new());
    });
    assert!(matches!(wrong.await, Err(OutboxError::Message(_))));
    let edited = suite.outbox.requeue_with_headers(letter, |headers| {
        headers.insert("good".into(), "now".into());
    });
    edited.await.expect("it is requeued");
    let again = suite.outbox.requeue(&topic(name), letter.sequence).await;
    assert!(matches!(again, Err(OutboxError::NoSuchDeadLetter)));
    assert_eq!(pass(&relay).await.delivered, 2);
    assert_eq!(scribe.heard(), ["one", "two"], "in its old place");
    let counts = suite.outbox.counts(&topic(name)).await.expect("counts");
    assert_eq!((counts.depth, counts.dead, counts.waiting_keys), (0, 0, 0));
}

async fn other_deaths<DB: SqlDatabase>(suite: &Suite<DB>) {
    let all = ["one", "bad", "two"];
    let mut left = 2;
    let scribe = Scribe::saying(move |delivery| match delivery.message().subject() {
        Some("bad") if left > 0 => {
            left -= 1;
            Err(PublishError::refused("bad"))
        }
        _ => Ok(()),
    });
    let name = "conformance.skip";
    let policy = soon().with_attempts(1).after_death(AfterDeath::Skip);
    let relay = suite.relay(name, policy, &scribe);
    suite
        .append_at_once(&all.map(|it| message(name, "a", it)))
        .await;
    let done = pass(&relay).await;
    assert_eq!((done.delivered, done.died), (2, 1));
    assert_eq!(scribe.heard(), ["one", "two"]);
    let name = "conformance.requeue";
    let policy = soon().with_attempts(1).after_death(AfterDeath::Requeue);
    let relay = suite.relay(name, policy, &scribe);
    suite
        .append_at_once(&all.map(|it| message(name, "a", it)))
        .await;
    let done = pass(&relay).await;
    assert_eq!((done.delivered, done.died), (3, 1));
    assert_eq!(scribe.heard(), ["one", "two", "bad"], "it went to the end");
}

/// An outage, a lost confirm and a destination that is gone count against no message.
async fn outages<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.down";
    let scribe = Scribe::saying(|_| Err(PublishError::down("nobody there")));
    let policy = soon().with_attempts(1).with_lapses(1);
    let relay = suite.relay(name, policy.clone(), &scribe);
    suite.append(&[message(name, "a", "one")]).await;
    for _ in 0..5 {
        let done = pass(&relay).await;
        assert_eq!((done.held_up, done.died, done.set_aside), (1, 0, 0));
    }
    scribe.say(|_| Err(PublishError::unknown("no confirm")));
    let unknown = suite.relay(
        name,
        policy
            .clone()
            .with_backoff(Backoff::constant(Duration::from_millis(1))),
        &scribe,
    );
    for _ in 0..5 {
        assert_eq!(pass(&unknown).await.died, 0, "an outage costs nothing");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    scribe.say(|_| Err(PublishError::gone("410")));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let done = pass(&relay).await;
    assert_eq!((done.held_up, done.died), (1, 0));
    let counts = suite.outbox.counts(&topic(name)).await.expect("counts");
    assert!(counts.paused && counts.depth == 1);
    scribe.say_yes();
    assert_eq!(pass(&relay).await.held_up, 1, "until somebody resumes it");
    suite.outbox.resume(&topic(name)).await.expect("resumed");
    assert_eq!(pass(&relay).await.delivered, 1);
    let kind = PublishError::gone("").kind();
    assert_eq!(kind, PublishErrorKind::Gone);
}

async fn delays<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.delay";
    let scribe = Scribe::default();
    let relay = suite.relay(name, soon(), &scribe);
    let late = Message::builder(name, "/conformance", "note").key("a");
    let late = late.subject("one").delayed(Duration::from_millis(2500));
    suite.append(&[late.build().expect("a message")]).await;
    suite.append(&[message(name, "a", "two")]).await;
    suite.append(&[message(name, "b", "other")]).await;
    assert_eq!(
        pass(&relay).await.delivered,
        1,
        "its key waits, and no other"
    );
    let counts = suite.outbox.counts(&topic(name)).await.expect("counts");
    assert_eq!((counts.depth, counts.waiting_keys), (2, 1));
    let waiting = suite.outbox.waiting_keys(&topic(name), 10).await;
    let [waiting] = &waiting.expect("keys")[..] else {
        panic!("one key waits");
    };
    assert!(waiting.until.is_some() && waiting.key == b"a");
    tokio::time::sleep(Duration::from_millis(2600)).await;
    assert_eq!(pass(&relay).await.delivered, 2);
    assert_eq!(scribe.heard(), ["other", "one", "two"]);
    let past = Message::builder(name, "/conformance", "note").key("a");
    let past = past
        .subject("past")
        .not_before(std::time::SystemTime::UNIX_EPOCH);
    suite.append(&[past.build().expect("a message")]).await;
    assert_eq!(pass(&relay).await.delivered, 1);
}

async fn kept<DB: SqlDatabase>(suite: &Suite<DB>) {
    let name = "conformance.kept";
    let scribe = Scribe::saying(|delivery| match delivery.message().subject() {
        Some("bad") => Err(PublishError::refused_for_good("bad")),
        _ => Ok(()),
    });
    let policy = soon().with_retention(Retention::Keep(Duration::from_secs(3600)));
    let relay = Relay::builder(&suite.outbox)
        .policy(RelayPolicy::new().with_batch(7))
        .topic_with(name, policy, scribe.clone())
        .build()
        .expect("a relay");
    let all: Vec<Message> = (0..20).map(|n| message(name, [n], "kept")).collect();
    suite.append_at_once(&all).await;
    suite.append(&[message(name, "bad", "bad")]).await;
    let done = pass(&relay).await;
    assert_eq!((done.delivered, done.died), (20, 1));
    let outbox = &suite.outbox;
    suite.append(&[message(name, "new", "new")]).await;
    let (mut after, mut past) = (0, Vec::new());
    loop {
        let page = outbox.history(&topic(name), after, 8).await;
        let page = page.expect("a page of the history");
        assert!(page.len() <= 8 && page.is_sorted_by(|one, two| one.sequence < two.sequence));
        let Some(last) = page.last() else { break };
        assert!(page[0].sequence > after);
        after = last.sequence;
        past.extend(page);
    }
    assert_eq!(past.len(), 22, "what is kept, dead, and not delivered");
    for past in &past {
        let delivered = past.message.payload() == "kept";
        assert_eq!(past.delivered_at.is_some(), delivered);
    }
    assert_eq!(pass(&relay).await.delivered, 1);
    let hour = Duration::from_secs(3600);
    assert_eq!(outbox.prune(&topic(name), hour, 100).await.ok(), Some(0));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let none = Duration::from_millis(1);
    assert_eq!(outbox.prune(&topic(name), none, 15).await.ok(), Some(15));
    assert_eq!(outbox.prune(&topic(name), none, 15).await.ok(), Some(6));
    assert_eq!(outbox.prune(&topic(name), none, 15).await.ok(), Some(0));
}
