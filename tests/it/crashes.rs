//! The whole house at work, killed at any moment, again and again: who places, the runner, the relay and
//! the reaper die together, in whatever they do, and others take over.

use std::time::Duration;

use buttress_testkit::{
    child::{self, Child},
    eventually::eventually_as,
    seed::Seed,
    short_or_long,
};

use crate::house::{Database, House, PATIENCE};

/// Places orders from a number on, and works on everybody's, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_and_works_role() {
    let Some(role) = child::role("places_and_works") else {
        return;
    };
    let url = std::env::var("HOUSE_URL").unwrap();
    let house = House::open(&url).await.unwrap();
    let first: i64 = std::env::var("HOUSE_NUMBER").unwrap().parse().unwrap();
    let _working = house.work().unwrap();
    role.announce("works", "");
    for number in first.. {
        house.surely(number).await;
        role.announce("placed", "");
    }
}

#[tokio::test]
async fn killed_at_any_moment_of_its_work_the_house_loses_and_repeats_nothing() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    for database in Database::each().await {
        let house = House::open(&database.url()).await.unwrap();
        let mut acknowledged = 0;
        for round in 0..short_or_long(3, 100) {
            // Two at once, so that each also takes over from the other.
            let start = |place: i64| {
                Child::role("places_and_works", "crashes::places_and_works_role")
                    .environment("HOUSE_URL", database.url())
                    .environment(
                        "HOUSE_NUMBER",
                        ((round * 2 + place) * 1_000_000).to_string(),
                    )
                    .spawn()
            };
            let mut pair = [start(0), start(1)];
            for child in &mut pair {
                child.until("works").await;
                child.until("placed").await;
            }
            for child in &mut pair {
                let soon = Duration::ZERO..Duration::from_millis(400);
                child.kill_within(soon, &mut rng).await;
                acknowledged += child.count("placed");
            }
        }
        let working = house.work().unwrap();
        let done = eventually_as("everything is worked off", PATIENCE, async || {
            house.wrong().await
        });
        done.await;
        working.stop().await;
        let orders = house.number("SELECT COUNT(*) FROM orders").await.unwrap();
        assert!(
            orders >= i64::try_from(acknowledged).unwrap(),
            "one is lost"
        );
        for each in ["buttress_saga", "charges", "heard"] {
            let count = house.number(&format!("SELECT COUNT(*) FROM {each}")).await;
            assert_eq!(count.unwrap(), orders, "{each}");
        }
        house.close().await;
        database.close().await;
    }
}
