//! An order of two steps on SQLite: the card is declined, and the stock is put back.

#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{error::Error, time::Duration};

use buttress_saga::{
    Context, Effect, Output, Saga, Sagas, StartOptions, Step, StepError, UndoContext,
    store::SqliteStore,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    product: String,
    amount: u64,
}

struct Reserve;

impl Step for Reserve {
    type Input = Order;
    type Output = String;

    async fn run(&self, context: &Context<'_, Order>) -> Result<String, StepError> {
        println!("reserve {}", context.input().product);
        Ok("shelf 7".to_owned())
    }

    async fn undo(&self, it: &UndoContext<'_, Order>, to: Effect<String>) -> Result<(), StepError> {
        println!("put {} back: {to:?}", it.input().product);
        Ok(())
    }
}

struct Charge {
    reserved: Output<String>,
}

impl Step for Charge {
    type Input = Order;
    type Output = ();

    async fn run(&self, context: &Context<'_, Order>) -> Result<(), StepError> {
        let shelf = context.output(self.reserved)?;
        println!("charge {} for {shelf}", context.input().amount);
        Err(StepError::refused("CARD_DECLINED"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let options = buttress_store::sqlite::options(folder.path().join("sagas.db"));
    let store = SqliteStore::new(sqlx::SqlitePool::connect_lazy_with(options))?;
    store.migrate().await?;

    let mut order = Saga::define("order", 1);
    let reserved = order.step("reserve", Reserve);
    order.step("charge", Charge { reserved });
    let order = order.build()?;

    let sagas = Sagas::new(store);
    let input = Order {
        product: "p1".to_owned(),
        amount: 1999,
    };
    let id = sagas.start(&order, &input, StartOptions::new()).await?.id();
    let runner = sagas.runner().saga(&order).build()?;
    runner
        .run_until(tokio::time::sleep(Duration::from_millis(300)))
        .await;

    let saga = sagas.get(id).await?;
    let (state, reason) = (saga.state.as_str(), saga.reason.unwrap_or_default());
    println!("{state}: {reason}");
    Ok(())
}
