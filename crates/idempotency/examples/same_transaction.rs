//! Same transaction: the key, the order and the answer are committed together, or none of them.
//!
//! `cargo run -p buttress-idempotency --example same_transaction --features sqlite`

#![expect(clippy::print_stdout, reason = "an example that shows what happens")]

use std::error::Error;

use buttress_idempotency::{
    Begin, Fingerprint, Idempotency, Key, Scope, ScopedKey, store::SqliteStore,
};
use buttress_store::{Deadline, sqlite};

/// Places an order once, however often it is asked for and wherever it dies.
async fn place(
    idempotency: &Idempotency,
    writer: &sqlite::Writer,
    key: &ScopedKey,
    dies: bool,
) -> Result<Option<bytes::Bytes>, Box<dyn Error>> {
    let asked = Fingerprint::new(1, [7; 32]); // a digest of the request
    let mut transaction = writer.begin(Deadline::after(Deadline::SQL)).await?;
    match idempotency.begin_in(&mut *transaction, key, &asked).await? {
        Begin::New(guard) => {
            let order = sqlx::query("INSERT INTO orders (item) VALUES ('a lamp')");
            let id = order.execute(&mut *transaction).await?.last_insert_rowid();
            let answer = format!("order {id}");
            let done = guard.complete_in(&mut *transaction, answer.clone()).await?;
            if dies {
                return Ok(None); // the transaction is dropped, and all of it is gone
            }
            transaction.commit().await?;
            done.fire();
            Ok(Some(answer.into()))
        }
        Begin::Replay(answer) => Ok(Some(answer)),
        Begin::InFlight { .. } | Begin::Mismatch => Ok(None),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let pool = sqlx::SqlitePool::connect_lazy_with(sqlite::options(folder.path().join("shop.db")));
    sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT)")
        .execute(&pool)
        .await?;
    let writer = sqlite::Writer::new(pool.clone());
    let store = SqliteStore::new(writer.clone())?;
    store.migrate().await?;
    let idempotency = Idempotency::new(store);

    let key = Scope::of(["tenant 7", "POST /orders"]).key(&Key::new("8e03978e")?);
    for dies in [true, false, false] {
        let answer = place(&idempotency, &writer, &key, dies).await?;
        println!("dies before the commit: {dies}; answer: {answer:?}");
    }
    let count = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM orders");
    println!("orders: {}", count.fetch_one(&pool).await?);
    Ok(())
}
