//! Several instances on one database.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::shop::{Shop, on_servers, two_of};

/// A stopped process that wakes up after its claims have lapsed is the zombie of this test.
///
/// On a server, which ends a session that stands still within a transaction. A process that is
/// stopped while it holds the lock on a SQLite file keeps everybody out until it goes on: that
/// lock is the kernel's, and no lease.
#[tokio::test]
async fn an_instance_that_slept_past_its_claims_changes_nothing_when_it_wakes() {
    let tally = buttress_testkit::tally::suite("ID3");
    on_servers(|database| async move {
        let (sleeper, other) = (Shop::start(&database), Shop::start(&database));
        sleeper.fault("payments", "slow", 1.0, 1000).await;
        other.fault("payments", "slow", 1.0, 1000).await;
        let mut ids = Vec::new();
        for number in 0..6 {
            let shop = if number % 2 == 0 { &sleeper } else { &other };
            ids.push(shop.accepted(&format!("k{number}"), &two_of("p1")).await);
        }
        sleeper.signal(Signal::SIGSTOP);
        for id in &ids {
            assert_eq!(other.settled(id).await["status"], "confirmed");
        }
        sleeper.signal(Signal::SIGCONT);
        // What it had asked of the database before its sleep may have been given up meanwhile, but
        // its sleep is no outage of the database's.
        sleeper.reads_again("/orders", Duration::from_secs(2)).await;
        // Its charges are answered by now, and what it makes of them is refused.
        assert_eq!(sleeper.all("orders").await.len(), ids.len());
        tokio::time::sleep(Duration::from_secs(2)).await;
        other.assert_invariants(1000).await;
        drop((sleeper, other));
        database.close().await;
    })
    .await;
    tally.kills(1);
}
