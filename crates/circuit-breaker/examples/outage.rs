//! A dependency goes down and comes back, seen through a breaker. Time is moved by hand, so a
//! minute takes no time at all:
//!
//! ```text
//! cargo run -p buttress-circuit-breaker --example outage
//! ```

#![allow(clippy::print_stdout, reason = "it is what the example is for")]

use std::{error::Error, time::Duration};

use buttress_circuit_breaker::{CircuitBreaker, Event, EventKind, OpenTime, Policy};
use buttress_core::{CallError, Clock};

/// Down from the 5th to the 25th second.
async fn carrier(second: u64) -> Result<&'static str, &'static str> {
    tokio::task::yield_now().await;
    match second {
        5..25 => Err("connection refused"),
        _ => Ok("3 to 5 days"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = Policy::builder()
        .count_window(10)
        .minimum_calls(5)
        .half_open_permits(2)
        .open_time(OpenTime::growing(
            Duration::from_secs(4),
            Duration::from_secs(60),
        ))
        .build()?;
    let (clock, hand) = Clock::manual();
    let breaker = CircuitBreaker::builder("carrier")
        .policy(policy)
        .clock(clock)
        .observer(|event: &Event| {
            if let EventKind::Moved {
                from, to, cause, ..
            } = event.kind
            {
                println!("           {from} -> {to}: {cause}");
            }
        })
        .build();

    for second in 0..40 {
        let quote = breaker.call(carrier(second)).await;
        match quote {
            Ok(quote) => println!("{second:>2} s       {quote}"),
            Err(CallError::Failed(error)) => println!("{second:>2} s       failed: {error}"),
            Err(CallError::Rejected(rejection)) => {
                println!(
                    "{second:>2} s       not asked; again in {:?}",
                    rejection.retry_after()
                );
            }
        }
        hand.advance(Duration::from_secs(1));
    }
    Ok(())
}
