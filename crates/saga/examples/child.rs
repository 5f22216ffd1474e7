//! A shipment is a saga of its own: the order that called it is declined, and both are undone.

#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{error::Error, time::Duration};

use buttress_saga::{
    Context, Effect, Output, Saga, Sagas, StartOptions, Step, StepError, UndoContext,
    store::MemoryStore,
};

/// Says what it does, for whatever saga it is in.
struct Say(&'static str);

impl Step for Say {
    type Input = String;
    type Output = String;

    async fn run(&self, context: &Context<'_, String>) -> Result<String, StepError> {
        println!("{} {}", self.0, context.input());
        Ok(format!("{} 7", self.0))
    }

    async fn undo(
        &self,
        context: &UndoContext<'_, String>,
        effect: Effect<String>,
    ) -> Result<(), StepError> {
        println!("undo {} {}: {effect:?}", self.0, context.input());
        Ok(())
    }
}

struct Charge {
    label: Output<String>,
}

impl Step for Charge {
    type Input = String;
    type Output = ();

    async fn run(&self, context: &Context<'_, String>) -> Result<(), StepError> {
        println!("charge for {}", context.output(self.label)?);
        Err(StepError::refused("CARD_DECLINED"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut shipping = Saga::define("shipping", 1);
    shipping.step("parcel", Say("parcel"));
    let label = shipping.step("label", Say("label"));
    let shipping: Saga<String, String> = shipping.build_returning(label)?;

    let mut order = Saga::define("order", 1);
    let shelf = order.step("shelf", Say("shelf"));
    let label = order.child("ship", &shipping, move |it| {
        Ok(format!("{} from {}", it.input(), it.output(shelf)?))
    });
    order.step("charge", Charge { label });
    let order = order.build()?;

    let sagas = Sagas::new(MemoryStore::new());
    let options = StartOptions::new();
    let started = sagas.start(&order, &"p1".to_owned(), options).await?;
    let runner = sagas.runner().saga(&order).saga(&shipping).build()?;
    runner
        .run_until(tokio::time::sleep(Duration::from_millis(300)))
        .await;

    for child in sagas.children(started.id()).await? {
        println!("{}: {}", child.definition.name, child.state.as_str());
    }
    let saga = sagas.get(started.id()).await?;
    println!("order: {} {:?}", saga.state.as_str(), saga.reason);
    Ok(())
}
