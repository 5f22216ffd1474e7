//! A flaky service, asked by a closure that knows its attempt, with results judged by class.

use std::time::Duration;

use buttress_core::Verdict;
use buttress_retry_backoff::{Attempt, Backoff, Retry, RetryPolicy};

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("busy")]
    Busy,
    #[error("no such rate")]
    NotFound,
}

/// What is worth another attempt, and what is not.
fn judge(result: Result<&f64, &FetchError>) -> Verdict {
    match result {
        Ok(_) => Verdict::success(),
        Err(FetchError::Busy) => Verdict::not_done(),
        Err(FetchError::NotFound) => Verdict::refused(),
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = RetryPolicy::builder()
        .attempts(4)
        .backoff(Backoff::exponential(Duration::from_millis(20)))
        .total_time(Duration::from_secs(1))
        .build()?;
    let retry = Retry::new("rates", policy);

    let rate = retry
        .call_with(|attempt: Attempt<'_, FetchError>| {
            println!("attempt {}, {:?} left", attempt.number(), attempt.left());
            let number = attempt.number();
            async move {
                if number < 3 {
                    Err(FetchError::Busy)
                } else {
                    Ok(1.07)
                }
            }
        })
        .classify(judge)
        .await?;
    println!("the rate is {rate}");

    let missing = retry
        .call(async || Err::<f64, _>(FetchError::NotFound))
        .classify(judge)
        .await;
    if let Err(error) = missing {
        println!("{error}"); // failed after 1 attempt: it was refused for good
    }
    Ok(())
}
