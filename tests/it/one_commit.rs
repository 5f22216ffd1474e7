//! One commit: the idempotency record, the business row, the start of the saga and the row of the
//! outbox are there together, or not at all, wherever the transaction ends.

use std::{sync::Arc, time::Duration};

use buttress_testkit::{
    child::{self, Child},
    eventually::eventually_as,
    proxy::{Cut, Proxy, Way},
    seed::Seed,
    short_or_long,
};

use crate::house::{At, Database, House, PATIENCE, Placed, Totals, message};

/// Works until every order is dealt with, and checks what came of it.
async fn all_is_done(house: &House, orders: i64) {
    assert_eq!(house.totals().await, Totals::all(orders));
    let working = house.work().unwrap();
    let done = eventually_as("everything is worked off", PATIENCE, async || {
        house.wrong().await
    });
    done.await;
    working.stop().await;
    let sagas = house.number("SELECT COUNT(*) FROM buttress_saga").await;
    assert_eq!(sagas.unwrap(), orders);
}

#[tokio::test]
async fn rolled_back_at_any_statement_nothing_is_there_and_the_key_is_free() {
    for database in Database::each().await {
        let house = House::open(&database.url()).await.unwrap();
        for (placed, at) in At::ALL[..6].iter().enumerate() {
            let placed = i64::try_from(placed).unwrap();
            let back = house.place(placed, async |here| here != *at).await;
            assert_eq!(back.unwrap(), Placed::Not, "{at:?}");
            assert_eq!(house.totals().await, Totals::all(placed), "{at:?}");
            assert_eq!(house.surely(placed).await, Placed::Now, "{at:?}");
            assert_eq!(house.surely(placed).await, Placed::Before);
        }
        all_is_done(&house, 6).await;
        house.close().await;
        database.close().await;
    }
}

/// What the check is worth: a message that is appended in a transaction of its own is found.
#[tokio::test]
async fn a_message_that_is_not_in_the_commit_is_found() {
    let database = Database::Sqlite(tempfile::tempdir().unwrap());
    let house = House::open(&database.url()).await.unwrap();
    let crate::house::Pool::Sqlite(writer) = &house.pool else {
        panic!("no SQLite");
    };
    let mut tx = writer.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let message = message(0).unwrap();
    drop(house.outbox.append_in(&mut *tx, &message).await.unwrap());
    tx.commit().await.unwrap();
    let back = house.place(0, async |here| here != At::Completed).await;
    assert_eq!(back.unwrap(), Placed::Not);
    assert_ne!(house.totals().await, Totals::all(0));
    assert_ne!(house.wrong().await, Ok(()));
    house.close().await;
}

#[tokio::test]
async fn places_and_waits_role() {
    let Some(role) = child::role("places_and_waits") else {
        return;
    };
    let house = House::open(&std::env::var("HOUSE_URL").unwrap())
        .await
        .unwrap();
    let number = std::env::var("HOUSE_NUMBER").unwrap().parse().unwrap();
    let placed = house.place(number, async |here| {
        role.wait_at(here.name());
        true
    });
    let _ = placed.await;
}

#[tokio::test]
async fn killed_at_any_statement_everything_is_there_or_nothing() {
    for database in Database::each().await {
        let house = House::open(&database.url()).await.unwrap();
        for (placed, at) in At::ALL.iter().enumerate() {
            let mut child = Child::role("places_and_waits", "one_commit::places_and_waits_role")
                .environment("HOUSE_URL", database.url())
                .environment("HOUSE_NUMBER", placed.to_string())
                .spawn();
            for here in At::ALL {
                child.until(here.name()).await;
                if here == *at {
                    break;
                }
                child.go_on();
            }
            child.kill();
            let placed = i64::try_from(placed).unwrap();
            let committed = *at == At::Committed;
            let there = Totals::all(placed + i64::from(committed));
            assert_eq!(house.totals().await, there, "{at:?}");
            // The server may hold what it held of the dead for a moment, and MySQL a claim.
            let expected = if committed {
                Placed::Before
            } else {
                Placed::Now
            };
            assert_eq!(house.surely(placed).await, expected, "{at:?}");
        }
        all_is_done(&house, 7).await;
        house.close().await;
        database.close().await;
    }
}

#[tokio::test]
async fn places_without_end_role() {
    let Some(role) = child::role("places_without_end") else {
        return;
    };
    let house = House::open(&std::env::var("HOUSE_URL").unwrap())
        .await
        .unwrap();
    let first: i64 = std::env::var("HOUSE_NUMBER").unwrap().parse().unwrap();
    role.announce("begins", "");
    for number in first.. {
        house.place(number, async |_| true).await.unwrap();
        role.announce("placed", &number.to_string());
    }
}

#[tokio::test]
async fn killed_at_any_moment_commits_included_everything_is_there_or_nothing() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    for database in Database::each().await {
        let house = House::open(&database.url()).await.unwrap();
        let mut acknowledged = 0;
        for round in 0..short_or_long(4, 100) {
            let mut child =
                Child::role("places_without_end", "one_commit::places_without_end_role")
                    .environment("HOUSE_URL", database.url())
                    .environment("HOUSE_NUMBER", (round * 1_000_000).to_string())
                    .spawn();
            child.until("begins").await;
            child.until("placed").await;
            child
                .kill_within(Duration::ZERO..Duration::from_millis(150), &mut rng)
                .await;
            acknowledged += child.count("placed");
            let totals = house.totals().await;
            assert_eq!(totals, Totals::all(totals.orders));
            assert!(
                totals.orders >= i64::try_from(acknowledged).unwrap(),
                "one is lost"
            );
        }
        let orders = house.totals().await.orders;
        all_is_done(&house, orders).await;
        house.close().await;
        database.close().await;
    }
}

#[tokio::test]
async fn cut_off_at_any_statement_and_in_the_commit_everything_is_there_or_nothing() {
    for database in Database::servers().await {
        let (proxy, through) = Proxy::before(&database.url()).await.unwrap();
        let proxy = Arc::new(proxy);
        let (house, cut_off) = (
            House::open(&database.url()).await.unwrap(),
            House::connect(&through).unwrap(),
        );
        let mut number = 0;
        for at in &At::ALL[..6] {
            let placed = cut_off.place(number, async |here| {
                if here == *at {
                    proxy.cut().await;
                }
                true
            });
            assert!(placed.await.is_err(), "{at:?}");
            assert_eq!(house.totals().await, Totals::all(number), "{at:?}");
            assert_eq!(house.surely(number).await, Placed::Now, "{at:?}");
            number += 1;
        }
        for cut in [Cut::Before, Cut::During, Cut::Answer] {
            let placed = cut_off.place(number, async |here| {
                if here == At::Completed {
                    proxy.cut_at(Way::ToServer, "COMMIT", cut);
                }
                true
            });
            assert!(placed.await.is_err(), "{cut:?}");
            let known = match cut {
                Cut::Before => Some(Placed::Now),
                Cut::Answer => Some(Placed::Before),
                _ => None,
            };
            // Who repeats it finds out what became of it, and it is there once.
            let placed = house.surely(number).await;
            assert!(
                known.is_none_or(|known| placed == known),
                "{cut:?}: {placed:?}"
            );
            number += 1;
            assert_eq!(house.totals().await, Totals::all(number), "{cut:?}");
        }
        assert_eq!(proxy.struck(), 3);
        all_is_done(&house, number).await;
        cut_off.close().await;
        house.close().await;
        database.close().await;
    }
}
