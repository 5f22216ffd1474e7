//! A service that is down, and two callers whose retries one budget pays.

use buttress_retry_backoff::{Backoff, Budget, BudgetRule, Retry, RetryPolicy};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = RetryPolicy::builder()
        .attempts(4)
        .backoff(Backoff::none())
        .build()?;
    let budget = Budget::new(BudgetRule::quota())?;
    let read = Retry::new("read", policy.clone()).with_budget(budget.clone());
    let list = Retry::new("list", policy).with_budget(budget.clone());

    let mut attempts = 0_u32;
    for call in 0..1000 {
        let retry = if call % 2 == 0 { &read } else { &list };
        let error = retry
            .call(|| {
                attempts += 1;
                async { Err::<(), _>("down") }
            })
            .await;
        if error.is_ok() {
            println!("it is up again");
        }
    }
    println!("1000 calls made {attempts} attempts, not 4000");
    println!("{} retries are left in the budget", budget.available());
    Ok(())
}
