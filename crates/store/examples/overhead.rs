//! What a guarded transaction and a hardened pool cost beside plain sqlx, on a server of yours.
//!
//! `cargo run --release -p buttress-store --example overhead --features postgres -- postgres://…`

#![allow(clippy::print_stdout, reason = "it is a program that tells")]

use std::{env, error::Error};

use buttress_core::Clock;
use buttress_store::{Deadline, Guarded, Harden as _, Phase, StoreError};
use sqlx::{PgPool, postgres::PgPoolOptions};

/// How often each kind has its turn, and for how many transactions.
const TURNS: usize = 20;
const ROUNDS: usize = 100;

async fn plain(pool: &PgPool) -> Result<(), StoreError> {
    let begun = pool.begin().await;
    let mut transaction = begun.map_err(StoreError::in_transaction)?;
    let select = sqlx::query("SELECT 1").execute(&mut *transaction).await;
    select.map_err(StoreError::in_transaction)?;
    let committed = transaction.commit().await;
    committed.map_err(|error| StoreError::of_sqlx(error, Phase::Commit))
}

async fn guarded(pool: &PgPool) -> Result<(), StoreError> {
    let deadline = Deadline::after(Deadline::SQL);
    let mut transaction = Guarded::begin(pool, deadline).await?;
    let select = sqlx::query("SELECT 1").execute(&mut *transaction);
    deadline.run(Phase::InTransaction, select).await?;
    transaction.commit().await
}

/// The median in microseconds, of turns that alternate, so that a noisy neighbour meets all.
fn median(times: &mut [u64]) -> f64 {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    f64::from(u32::try_from(middle).unwrap_or(u32::MAX)) / 1000.0
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("which server? give its URL")?;
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .connect(&url)
        .await?;
    let hardened = PgPoolOptions::new().max_connections(2).harden();
    let hardened = hardened.connect(&url).await?;
    let clock = Clock::tokio();
    let mut times = [const { Vec::new() }; 3];
    for turn in 0..TURNS * 3 {
        let kind = turn % 3;
        for _ in 0..ROUNDS {
            let begun = clock.now();
            match kind {
                0 => plain(&pool).await?,
                1 => guarded(&pool).await?,
                _ => plain(&hardened).await?,
            }
            let nanos = clock.now().saturating_since(begun).as_nanos();
            times[kind].push(u64::try_from(nanos)?);
        }
    }
    for (name, times) in ["plain", "guarded", "plain on a hardened pool"]
        .iter()
        .zip(&mut times)
    {
        println!(
            "{name}: {:.1} us a transaction (median of {})",
            median(times),
            times.len()
        );
    }
    Ok(())
}
