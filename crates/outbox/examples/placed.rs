//! Orders are placed and announced in one commit each; one is taken back; the relay delivers what
//! was committed, and the consumer takes each message once, though it comes twice.
//!
//! `cargo run -p buttress-outbox --features sqlite --example placed`

#![allow(clippy::print_stdout, reason = "it shows what happens")]

use buttress_outbox::{
    Inbox, Message, Outbox, OutboxStore, PublishError, Relay, Taken, publisher::in_process,
};
use buttress_store::sqlite::{Writer, options};
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn place(pool: &SqlitePool, outbox: &Outbox, order: i64, good: bool) -> Result<(), Failure> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let insert = sqlx::query("INSERT INTO orders (id) VALUES (?)").bind(order);
    insert.execute(&mut *transaction).await?;
    let message = Message::builder("orders", "/shop", "order.placed")
        .key(order.to_be_bytes())
        .json(&order)
        .build()?;
    let wake = outbox.append_in(&mut *transaction, &message).await?;
    if good {
        transaction.commit().await?;
        wake.fire();
    } else {
        transaction.rollback().await?; // neither order nor message
    }
    Ok(())
}

async fn ship(pool: &SqlitePool, inbox: &Inbox, message: &Message) -> Result<(), Failure> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    if inbox.take_in(&mut *transaction, message.id()).await? == Taken::Before {
        println!("{} came again, and was left alone", message.id());
        return Ok(());
    }
    let shipped = sqlx::query("UPDATE orders SET shipped = shipped + 1 WHERE id = ?");
    let order: i64 = serde_json::from_slice(message.payload())?;
    shipped.bind(order).execute(&mut *transaction).await?;
    transaction.commit().await?;
    println!("order {order} is shipped");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let pool = SqlitePoolOptions::new().connect_lazy_with(options(folder.path().join("shop.db")));
    let store = OutboxStore::sqlite(Writer::new(pool.clone()))?;
    store.migrate().await?;
    sqlx::raw_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, shipped INTEGER DEFAULT 0)")
        .execute(&pool)
        .await?;
    let (outbox, inbox) = (Outbox::new(store.clone()), Inbox::new(store, "shipping")?);
    for (order, good) in [(7, true), (8, false), (9, true)] {
        place(&pool, &outbox, order, good).await?;
    }
    let shop = pool.clone();
    let publisher = in_process(move |delivery| {
        let (shop, inbox) = (shop.clone(), inbox.clone());
        async move {
            for _ in 0..2 {
                let shipped = ship(&shop, &inbox, delivery.message()).await;
                shipped.map_err(|_| PublishError::down("the shop's database"))?;
            }
            Ok(())
        }
    });
    let relay = Relay::builder(&outbox).topic("orders", publisher).build()?;
    println!("{:?}", relay.run_once().await?);
    Ok(())
}
