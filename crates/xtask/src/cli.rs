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
    /// What is too long for everybody's run: all orders of threads, and the tests' long tier
    Torture {
        /// Install with apt-get what servers are missing
        #[arg(long)]
        install: bool,
        /// Repeat the choices of a run that printed this seed
        #[arg(long)]
        seed: Option<u64>,
        /// Only of these, as in `circuit-breaker store`; else of all
        packages: Vec<String>,
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
