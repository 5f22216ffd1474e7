//! An invalidation that is never lost after a commit: it goes through the outbox, in the transaction that changes the
//! source, and whoever delivers it tells the cache.

use std::{path::Path, sync::Arc, time::Duration};

use buttress_cache_aside::{
    Cache, CachePolicy, SecondLevel,
    codec::{Framing, Json, Schema},
    store::MemoryStore,
};
use buttress_outbox::{Message, Outbox, OutboxStore, PublishError, Relay, publisher::in_process};
use buttress_store::sqlite::{Writer, options};
use buttress_testkit::child::{self, Child};
use sqlx::SqlitePool;

async fn shop(file: &Path) -> (SqlitePool, Outbox) {
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let pool = SqlitePool::connect_lazy_with(options(file));
    let store = OutboxStore::sqlite(Writer::new(pool.clone())).unwrap();
    store.migrate().await.unwrap();
    let table = "CREATE TABLE IF NOT EXISTS prices (id TEXT PRIMARY KEY, price INTEGER)";
    sqlx::query(table).execute(&pool).await.unwrap();
    (pool, Outbox::new(store))
}

/// Changes a price and says so in one commit; whether it is committed is the caller's choice.
async fn change(pool: &SqlitePool, outbox: &Outbox, price: i64, commits: bool) {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::query("INSERT OR REPLACE INTO prices VALUES ('p1', $1)")
        .bind(price)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let message = Message::builder("changes", "/shop", "price.changed").key("p1");
    let message = message.json(&"p1").build().unwrap();
    let wake = outbox.append_in(&mut *transaction, &message).await.unwrap();
    if commits {
        transaction.commit().await.unwrap();
        wake.fire();
    } else {
        transaction.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn changes_and_dies_role() {
    let Some(role) = child::role("changes_and_dies") else {
        return;
    };
    let file = std::env::var("INVALIDATION_FILE").unwrap();
    let (pool, outbox) = shop(file.as_ref()).await;
    change(&pool, &outbox, 200, true).await;
    // Between the commit and the invalidation is where it dies.
    role.announce("committed", "");
    std::process::abort();
}

fn prices(store: &Arc<MemoryStore>) -> Cache<i64> {
    let framing = Framing::new(Json::new(), Schema::new("price", 1).unwrap());
    let policy = CachePolicy::builder().ttl(Duration::from_secs(3600));
    Cache::builder("prices", policy.build().unwrap())
        .second_level(SecondLevel::new(Arc::clone(store), framing))
        .build()
}

async fn price(cache: &Cache<i64>, pool: &SqlitePool) -> i64 {
    let pool = pool.clone();
    let load = || async move {
        let query = sqlx::query_scalar::<_, i64>("SELECT price FROM prices WHERE id = 'p1'");
        query.fetch_one(&pool).await
    };
    cache.get_or_load("p1", load).await.unwrap()
}

#[tokio::test]
async fn an_invalidation_through_the_outbox_is_never_lost_after_a_commit() {
    let _tally = buttress_testkit::tally::suite("X4");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let (pool, outbox) = shop(&file).await;
    change(&pool, &outbox, 100, true).await;
    let store = Arc::new(MemoryStore::new());
    let cache = prices(&store);
    let tells = cache.clone();
    let invalidate = in_process(move |delivery| {
        let (cache, key) = (tells.clone(), delivery.message().key().cloned());
        async move {
            cache.invalidate(key.unwrap()).await;
            // Not delivered before the store has heard it; it comes again then.
            match cache.owed() {
                0 => Ok(()),
                _ => Err(PublishError::down("the second level")),
            }
        }
    });
    let relay = Relay::builder(&outbox).topic("changes", invalidate);
    let relay = relay.build().unwrap();
    relay.run_once().await.unwrap();
    assert_eq!(price(&cache, &pool).await, 100);

    let mut dies = Child::role("changes_and_dies", "invalidation::changes_and_dies_role")
        .environment("INVALIDATION_FILE", &file)
        .spawn();
    dies.until("committed").await;
    dies.abort().await;
    assert_eq!(price(&cache, &pool).await, 100, "nobody has told it");
    relay.run_once().await.unwrap();
    assert_eq!(price(&cache, &pool).await, 200);
    assert_eq!(
        price(&prices(&store), &pool).await,
        200,
        "nor has the store the old one"
    );

    // What is rolled back is never said.
    change(&pool, &outbox, 300, false).await;
    relay.run_once().await.unwrap();
    assert_eq!(cache.get("p1").await, Some(200));
    pool.close().await;
}
