//! Recorded: claim, work, completion. A client that asks again is given the first answer.
//!
//! `cargo run -p buttress-idempotency --example recorded`

#![expect(clippy::print_stdout, reason = "an example that shows what happens")]

use std::{error::Error, time::Duration};

use buttress_core::Verdict;
use buttress_idempotency::{Fingerprint, Idempotency, Key, RunError, Scope, store::MemoryStore};

/// Why an order is not placed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no stock")]
    NoStock,
    #[error("the payment service did not answer")]
    NoAnswer,
}

/// What each failure says about the effect: no stock is a refusal, and frees the key; after no
/// answer nobody knows whether the customer was charged, and the key is in doubt.
fn judge(result: Result<&bytes::Bytes, &Refused>) -> Verdict {
    match result {
        Ok(_) => Verdict::success(),
        Err(Refused::NoStock) => Verdict::refused(),
        Err(Refused::NoAnswer) => Verdict::unknown(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let idempotency = Idempotency::new(MemoryStore::new());
    let asked = Fingerprint::new(1, [7; 32]); // a digest of the request
    let scope = Scope::of(["tenant 7", "POST /orders"]);

    let key = scope.key(&Key::new("first")?);
    for _ in 0..2 {
        let place = || async {
            println!("charging, under the key {}…", &key.derive("charge")[..8]);
            Ok::<_, Refused>("order 1".into())
        };
        let ran = idempotency.run_with(&key, &asked, &judge, place).await?;
        println!("{:?}, replayed: {}", ran.outcome, ran.replayed);
    }

    for failure in [Refused::NoStock, Refused::NoAnswer] {
        let key = scope.key(&Key::new(failure.to_string())?);
        println!("{failure}:");
        let fails = || async { Err(failure) };
        let failed = idempotency.run_with(&key, &asked, &judge, fails).await;
        assert!(matches!(failed, Err(RunError::Failed(_))));
        let again = || async { Ok::<_, Refused>("order 2".into()) };
        match idempotency.run_with(&key, &asked, &judge, again).await {
            Ok(ran) => println!("  asked again: {:?}", ran.outcome),
            Err(error) => {
                println!("  asked again: {error}: it is in doubt until its lease is over");
            }
        }
    }
    idempotency.drain(Duration::from_secs(5)).await;
    Ok(())
}
