//! What a developer and CI run: `cargo xtask --help` lists it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command speaks to the one who runs it"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "how long a part takes is real time"
)]

mod cargo;
mod cli;
mod features;
mod package;
mod report;
mod servers;
mod tidy;
mod torture;
mod unit;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::{
    cargo::Cargo,
    cli::{Cli, Command},
    report::Report,
};

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    let cargo = Cargo::of_this_workspace()?;
    let mut report = Report::default();
    match *command {
        Command::Test { install } => {
            // First of all: who lacks a server should not learn it after ten minutes.
            let servers = servers::all();
            servers::require(&servers, install)?;
            report.part("format", || fmt(&cargo, false));
            report.part("lints", || lint(&cargo));
            report.part("tidy", || tidy::check(&cargo));
            report.part("features", || features::check(&cargo));
            report.part("docs", || doc(&cargo));
            report.part("packages", || package::check(&cargo));
            report.part("tests", || unit::test(&cargo, &servers));
        }
        Command::Fmt { fix } => report.part("format", || fmt(&cargo, fix)),
        Command::Lint => report.part("lints", || lint(&cargo)),
        Command::Tidy => report.part("tidy", || tidy::check(&cargo)),
        Command::Features => report.part("features", || features::check(&cargo)),
        Command::Doc => report.part("docs", || doc(&cargo)),
        Command::Package => report.part("packages", || package::check(&cargo)),
        Command::Unit { install } => {
            let servers = servers::all();
            servers::require(&servers, install)?;
            report.part("tests", || unit::test(&cargo, &servers));
        }
        Command::Torture {
            install,
            minutes,
            seed,
            debug,
            ref store,
            ref patterns,
        } => {
            let servers = servers::all();
            servers::require(&servers, install)?;
            let asked = torture::Asked {
                minutes,
                seed,
                debug,
                install,
                store: store.as_deref(),
                patterns,
            };
            torture::run(&cargo, &mut report, &servers, asked)?;
        }
        Command::Figures {
            report: ref written,
        } => {
            let kept = cargo.root().join(torture::figures::REPORT);
            let from = written.as_ref().unwrap_or(&kept);
            torture::figures::write(cargo.root(), from)?;
        }
        Command::Servers { install } => {
            let servers = servers::all();
            if install {
                servers::require(&servers, true)?;
            }
            servers::list(&servers);
        }
    }
    Ok(report.sum_up())
}

fn fmt(cargo: &Cargo, fix: bool) -> Result<()> {
    let check: &[&str] = if fix { &[] } else { &["--check"] };
    cargo.unlocked("fmt", [&["--all"], check].concat())
}

fn lint(cargo: &Cargo) -> Result<()> {
    cargo.run(
        "clippy",
        "--workspace --all-targets --all-features -- -D warnings".split(' '),
        &[],
    )
}

fn doc(cargo: &Cargo) -> Result<()> {
    cargo.run(
        "doc",
        "--workspace --no-deps --all-features".split(' '),
        &[("RUSTDOCFLAGS", "-D warnings")],
    )
}
