//! What one instance changes reaches the others, whatever becomes of the call.

use super::*;

#[tokio::test]
async fn what_one_loaded_the_others_do_not_load() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    assert_eq!(a.get().await, 10);
    fleet.source.store(11, SeqCst);
    assert_eq!(b.get().await, 10);
    assert_eq!(b.cache.get("k").await, Some(10));
    assert_eq!(fleet.loads(), 1);
    assert!(b.heard(|event| *event == EventKind::SecondLevelHit));
    // A new instance, which was not there.
    let c = fleet.with(policy(), false);
    assert_eq!(c.cache.get("k").await, Some(10));
    assert_eq!(c.cache.get("unknown").await, None);
}

#[tokio::test]
async fn what_one_changes_the_others_see() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    for round in 0..20_u32 {
        a.get().await;
        b.get().await;
        let value = 100 + round;
        fleet.source.store(value, SeqCst);
        match round % 5 {
            0 => a.cache.invalidate("k").await,
            1 => a.cache.expire("k").await,
            2 => a.cache.clear().await,
            3 => a.cache.put("k", value).await,
            _ => {
                let write = || async { Ok::<_, io::Error>(value) };
                let written = a.cache.write_through("k", write).await;
                assert_eq!(written.unwrap(), Some(value));
            }
        }
        assert_eq!(a.get().await, value, "at once, where it was changed");
        b.shows(value).await;
        assert_eq!(a.cache.owed(), 0);
    }
}

#[tokio::test]
async fn an_invalidation_after_the_commit_reaches_the_others() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    a.get().await;
    b.get().await;
    let after_commit = a.cache.invalidate_after_commit("k");
    fleet.source.store(20, SeqCst);
    assert_eq!(b.get().await, 10, "nothing is said before the commit");
    after_commit.fire();
    assert_eq!(a.get().await, 20);
    b.shows(20).await;
    a.pays().await;
}

#[tokio::test]
async fn what_an_instance_owes_it_does_not_believe() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.with(policy(), false), fleet.with(policy(), false));
    a.load("k", Loaded::new(1).tags(["t"])).await;
    fleet.shelf.set_down(true);
    a.cache.invalidate("k").await;
    fleet.shelf.set_down(false);
    // Its task may have paid by now; either way it is not what it was.
    assert_eq!(a.load("k", Loaded::new(2).tags(["t"])).await, 2);
    a.pays().await;
    assert_eq!(b.load("k", Loaded::new(3)).await, 3);
    fleet.shelf.set_down(true);
    a.cache.invalidate_tag("t").await;
    a.cache.clear().await;
    assert_eq!(a.load("k", Loaded::new(4)).await, 4);
    fleet.shelf.set_down(false);
    a.pays().await;
    assert_eq!(a.cache.owed(), 0);
}

#[tokio::test]
async fn an_invalidation_that_is_dropped_on_its_way_is_finished() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    a.get().await;
    b.get().await;
    fleet.source.store(20, SeqCst);
    let mut invalidation = Box::pin(a.cache.invalidate("k"));
    // Polled once: it is begun here, and has not been told.
    let polled = invalidation.as_mut().now_or_never();
    drop(invalidation);
    assert!(polled.is_none(), "it waits for the bus");
    assert_eq!(a.get().await, 20);
    b.shows(20).await;
    a.pays().await;
}

/// What was paid for the key while a write was under way, was paid before it was done.
#[tokio::test]
async fn a_write_that_is_dropped_after_it_was_done_reaches_the_others() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    for dropped in [true, false] {
        let before = b.get().await;
        let go_on = Arc::new(Notify::new());
        let (waits, source) = (Arc::clone(&go_on), Arc::clone(&fleet.source));
        let write = move || async move {
            waits.notified().await;
            let value = source.fetch_add(1, SeqCst) + 1;
            if dropped {
                std::future::pending::<()>().await;
            }
            Ok::<_, io::Error>(value)
        };
        let mut writing = Box::pin(a.cache.write_through("k", write));
        assert!(writing.as_mut().now_or_never().is_none());
        a.cache.invalidate("k").await;
        assert_eq!(b.get().await, before, "nothing is written yet");
        go_on.notify_one();
        if dropped {
            assert!(writing.as_mut().now_or_never().is_none());
            drop(writing);
        } else {
            assert_eq!(writing.await.unwrap(), Some(before + 1));
        }
        assert_eq!(a.get().await, before + 1);
        b.shows(before + 1).await;
        a.pays().await;
    }
}
