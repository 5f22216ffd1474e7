//! Every future that waits for the second level, dropped at every point at which it waits: what was begun is finished
//! or never was, and no instance shows what is old.

use std::{cell::Cell, io, time::Duration};

use buttress_testkit::{cancel_sweep::CancelSweep, eventually, proxy::Proxy, redis::fresh_prefix};

use crate::outage::{Node, node};

const PATIENCE: Duration = Duration::from_secs(20);
const LIFE: Duration = Duration::from_secs(600);

/// One lucky run is not the end.
fn sweep() -> CancelSweep {
    CancelSweep::default().confirmed(3)
}

async fn shows(node: &Node, value: u32) {
    eventually("it shows what the source has", PATIENCE, async || {
        let loader = move || async move { Ok::<_, io::Error>(value) };
        let shown = node.cache.get_or_load("k", loader).await.unwrap();
        (shown == value && node.cache.owed() == 0).then_some(())
    })
    .await;
}

#[derive(Clone, Copy, Debug)]
enum What {
    Load,
    Many,
    Invalidate,
    Put,
    WriteThrough,
}

async fn swept(what: What) {
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let name = prefix.as_str().trim_end_matches(':');
    // Through a proxy each answer is one that is waited for.
    let (_proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let (a, b) = (node(&url, name, LIFE).await, node(&url, name, LIFE).await);
    for node in [&a, &b] {
        eventually("it hears", PATIENCE, async || {
            node.cache
                .heard_within(Duration::from_millis(400))
                .then_some(())
        })
        .await;
    }
    let source = Cell::new(0_u32);
    let operation = async || {
        let value = source.get();
        let loader = move || async move { Ok::<_, io::Error>(value) };
        match what {
            What::Load => drop(a.cache.get_or_load("k", loader).await),
            What::Many => {
                let loader = move |keys: Vec<&'static str>| async move {
                    let both: Vec<_> = keys.into_iter().map(|key| (key, value)).collect();
                    Ok::<_, io::Error>(both)
                };
                drop(a.cache.get_many_or_load(["k", "l"], loader).await);
            }
            What::Invalidate => {
                source.set(value + 1);
                a.cache.invalidate("k").await;
            }
            What::Put => {
                source.set(value + 1);
                a.cache.put("k", value + 1).await;
            }
            What::WriteThrough => {
                let write = || async {
                    source.set(value + 1);
                    tokio::task::yield_now().await;
                    Ok::<_, io::Error>(value + 1)
                };
                drop(a.cache.write_through("k", write).await);
            }
        }
    };
    let check = async |_point| {
        let value = source.get();
        shows(&a, value).await;
        shows(&b, value).await;
        if matches!(what, What::Load | What::Many) {
            // The next has to come from the source again.
            source.set(value + 1);
            a.cache.invalidate("k").await;
            a.cache.invalidate("l").await;
            shows(&b, value + 1).await;
            a.cache.invalidate("k").await;
        }
    };
    let swept = sweep().run(operation, check).await;
    assert!(swept.points > 1, "{what:?} was dropped nowhere");
}

#[tokio::test]
async fn a_load_that_is_dropped_anywhere_leaves_nothing_old() {
    let _tally = buttress_testkit::tally::suite("CA3 X1");
    swept(What::Load).await;
    swept(What::Many).await;
}

#[tokio::test]
async fn an_invalidation_that_is_dropped_anywhere_is_finished() {
    let _tally = buttress_testkit::tally::suite("CA3 X1");
    swept(What::Invalidate).await;
}

#[tokio::test]
async fn a_write_that_is_dropped_anywhere_is_finished_or_made_up_for() {
    let _tally = buttress_testkit::tally::suite("CA3 X1");
    swept(What::Put).await;
    swept(What::WriteThrough).await;
}
