//! What retries do to a service that fails for a while: a simulation, its table, and a picture.
//!
//! A thousand clients call a service that can answer somewhat more than they ask for. For ten
//! seconds it refuses everything. What they do then decides whether it comes back.

mod picture;
mod report;
mod service;
mod simulation;

use std::{io::Write as _, path::PathBuf};

use clap::Parser;

use self::simulation::{Means, Run};

/// Simulates 1,000 clients with retries against a service that fails for ten seconds.
#[derive(Debug, Parser)]
struct Args {
    /// Where to write the picture of the first table's runs.
    #[arg(long, default_value = "docs/patterns/retry-storm.svg")]
    svg: PathBuf,
    /// The same seed gives the same run.
    #[arg(long, default_value_t = 2)]
    seed: u64,
}

/// What the service can answer a second, where 500 calls a second come: one with some room, one
/// with little.
const CAPACITIES: [u32; 2] = [600, 540];

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut out = std::io::stdout().lock();
    for (number, capacity) in CAPACITIES.into_iter().enumerate() {
        let runs: Vec<_> = Means::ALL
            .into_iter()
            .map(|means| Run::play(means, capacity, args.seed))
            .collect::<Result<_, _>>()?;
        writeln!(
            out,
            "\n500 calls a second; the service answers up to {capacity}"
        )?;
        writeln!(out, "{}", report::table(&runs))?;
        if number == 0 {
            picture::draw(&runs, &args.svg)?;
        }
    }
    writeln!(
        out,
        "\nThe picture of the first is in {}",
        args.svg.display()
    )?;
    Ok(())
}
