//! From each crate's first schema to today's, with data in flight, on each dialect.
//!
//! The fixtures are what the first version made of an empty database, and what it left there when it
//! died in the middle of its work. They never change: what is released is migrated from, for ever.

use std::time::SystemTime;

use buttress_outbox::Topic;
use buttress_testkit::eventually::eventually_as;

use crate::house::{Database, House, PATIENCE, Placed, TOPIC};

/// What the first version left: ten orders, none of which it had dealt with.
const LEFT: std::ops::RangeInclusive<i64> = 1..=10;
/// A key that it had claimed, and not an order of it.
const ONLY_CLAIMED: i64 = 100;

fn fixture(database: &Database) -> String {
    let text = match database {
        Database::Sqlite(_) => include_str!("fixtures/sqlite.sql"),
        Database::Postgres(_) => include_str!("fixtures/postgres.sql"),
        Database::MySql(_) => include_str!("fixtures/mysql.sql"),
    };
    // Its times are told from the moment of its death, which is now.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i64::try_from(now.unwrap().as_micros()).unwrap();
    let mut parts = text.split("{now");
    let mut sql = parts.next().unwrap().to_owned();
    for part in parts {
        let (offset, rest) = part.split_once('}').unwrap();
        sql.push_str(&(now + offset.parse::<i64>().unwrap()).to_string());
        sql.push_str(rest);
    }
    sql
}

/// Every message that the first version had given up, put back into its line.
async fn put_back(house: &House) -> usize {
    let topic = Topic::new(TOPIC).unwrap();
    let dead = house.outbox.dead_letters(&topic, 0, 100).await.unwrap();
    for letter in &dead {
        house.outbox.requeue(&topic, letter.sequence).await.unwrap();
    }
    dead.len()
}

#[tokio::test]
async fn what_the_first_schemas_hold_is_worked_off_while_and_after_they_are_migrated() {
    for database in Database::each().await {
        let (house, other) = (
            House::connect(&database.url()).unwrap(),
            House::connect(&database.url()).unwrap(),
        );
        house.furnish().await.unwrap();
        house.run(&fixture(&database)).await.unwrap();
        let count = async |what: &str| {
            let sql = format!("SELECT COUNT(*) FROM {what}");
            house.number(&sql).await.unwrap()
        };
        assert_eq!(count("orders").await, 10);
        assert_eq!(count("charges").await, 0);
        for held in [
            "buttress_saga WHERE token IS NOT NULL",
            "buttress_outbox_lane WHERE token IS NOT NULL",
            "buttress_outbox_aside",
            "buttress_outbox_dead",
            "buttress_inbox",
            "buttress_idempotency WHERE state = 0",
            "buttress_rate_limits",
        ] {
            assert!(count(held).await > 0, "{held}");
        }

        // Both at once, as in a roll-out, and beside somebody who works already.
        let working = other.work().unwrap();
        let (one, two) = tokio::join!(house.migrate(), other.migrate());
        one.unwrap();
        two.unwrap();
        assert_eq!(put_back(&house).await, 2);
        let done = eventually_as("all that was left is worked off", PATIENCE, async || {
            house.wrong().await
        });
        done.await;
        for number in LEFT {
            assert_eq!(house.surely(number).await, Placed::Before, "{number}");
        }
        // Whoever claimed it is dead, and nothing of it was done.
        assert_eq!(house.surely(ONLY_CLAIMED).await, Placed::Now);
        assert_eq!(house.surely(200).await, Placed::Now);
        // The first version had let `a` through, and one an hour is all.
        assert!(!house.limiter.check("a").await.unwrap().is_allowed());
        assert!(house.limiter.check("b").await.unwrap().is_allowed());
        let done = eventually_as("the new ones are worked off", PATIENCE, async || {
            house.wrong().await
        });
        done.await;
        working.stop().await;
        assert_eq!(count("buttress_saga WHERE state = 2").await, 12);
        other.close().await;
        house.close().await;
        database.close().await;
    }
}
