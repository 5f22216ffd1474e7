//! The commands and their options.

use clap::{Parser, Subcommand};

/// What a developer and CI run.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything that must hold: format, lints, tidy, features, docs, and the tests against private servers
    Test {
        /// Install with apt-get what servers are missing
        #[arg(long)]
        install: bool,
    },
    /// Is everything formatted?
    Fmt {
        /// Format it
        #[arg(long)]
        fix: bool,
    },
    /// Is clippy silent, for all targets with all features?
    Lint,
    /// Has every file the shape and the place that the house gives it?
    Tidy,
    /// Does every feature build alone, and do the defaults pull no driver?
    Features,
    /// Does rustdoc build without a warning?
    Doc,
    /// Does the tour build and run by the packages alone, outside the workspace?
    Package,
    /// All tests, doctests included, against private servers
    Unit {
        /// Install with apt-get what servers are missing
        #[arg(long)]
        install: bool,
    },
    /// What is too long for everybody's run: all orders of threads, the tests' long tier or, for
    /// so many minutes, the torture suites again and again, and libFuzzer
    Torture {
        /// Install what servers are missing with apt-get, and cargo-deny with cargo
        #[arg(long)]
        install: bool,
        /// Share so many minutes among the suites, in rounds with fresh seeds; without it, each
        /// does its long tier once
        #[arg(long)]
        minutes: Option<u32>,
        /// Repeat the choices of a run that printed this seed
        #[arg(long)]
        seed: Option<u64>,
        /// Only suites that run on this store: postgres, mysql, sqlite, redis, nats, rabbitmq, or
        /// memory for those that take none; their time is all of it
        #[arg(long)]
        store: Option<String>,
        /// With the ordinary build, where there is no time for the other
        #[arg(long)]
        debug: bool,
        /// Only of these: packages, letters of risks, words of tests, targets of libFuzzer, as in
        /// `store X5 killed cursor`
        patterns: Vec<String>,
    },
    /// Writes the figures of the docs anew, from the report that is kept, or from another one
    Figures {
        /// That of a run, as in `target/torture.json`: it is kept then
        report: Option<std::path::PathBuf>,
    },
    /// Which servers there are, and how to get the others
    Servers {
        /// Install with apt-get what servers are missing
        #[arg(long)]
        install: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }
}
