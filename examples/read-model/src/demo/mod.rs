//! The demonstration: commands, a projector in a process of its own that is killed again and again,
//! a rebuild in the middle of it, and somebody who reads all the while.

pub(crate) mod report;

use std::{
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use buttress_core::Clock;
use rand::RngExt as _;
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};

use self::report::Check;
use crate::{
    cli::DemoArgs,
    commands::Shop,
    database::Database,
    queries::{Queries, Whole},
    rebuild::{Rebuilt, rebuild},
    traffic::Traffic,
};

/// Says to other processes where the database is.
pub(crate) const URL: &str = "READ_MODEL_DATABASE_URL";
/// How often the projector is killed.
const KILLS: u64 = 4;
/// Customers think, too.
const BETWEEN_COMMANDS: Duration = Duration::from_millis(3);
/// How long the read model may take to catch up when all is quiet.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

/// Plays it, prints what happened, and fails unless all held.
pub(crate) async fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let file = format!("sqlite://{}", folder.path().join("demo.db").display());
    let url = args.database_url.clone().unwrap_or(file);
    let database = Database::connect(&url).await?;
    let queries = Queries::new(database.clone());
    let mut story = Vec::new();

    let (stop, stopped) = watch::channel(false);
    let reading = tokio::spawn(read_on(queries.clone(), stopped));
    let mut projector = spawn(&url)?;
    let mut traffic = Traffic::new(Shop::new(database.clone()));
    let mut rebuilding = None;
    for round in 0..=KILLS {
        if round == KILLS / 2 {
            let database = database.clone();
            rebuilding = Some(tokio::spawn(async move { rebuild(&database).await }));
        }
        let commands = args.commands.div_ceil(KILLS + 1);
        let killed_at = rand::rng().random_range(0..commands.max(1));
        for nth in 0..commands {
            traffic.command().await?;
            sleep(BETWEEN_COMMANDS).await;
            if round < KILLS && nth == killed_at {
                projector.kill().await?;
                let (done, lag) = (traffic.done(), queries.lag().await?);
                story.push(format!(
                    "after {done} commands the projector was killed, {} events behind",
                    lag.events
                ));
                projector = spawn(&url)?;
            }
        }
    }
    let rebuilt = match rebuilding {
        Some(rebuilding) => rebuilding.await??,
        None => Rebuilt::default(),
    };
    story.push(format!(
        "meanwhile generation {} was built: {} events replayed, {} brought by the projector first",
        rebuilt.generation, rebuilt.replayed, rebuilt.before
    ));
    let caught_up = catch_up(&queries).await?;
    stop.send_replace(true);
    let read = reading.await??;
    projector.kill().await?;

    let (view, counted) = (queries.customers().await?, queries.counted().await?);
    let whole = queries.whole().await?;
    let (done, shown) = (traffic.done(), whole.generation);
    let checks = [
        Check {
            claim: "the read model is what folding all commands gives",
            held: view == *traffic.folded(),
            found: format!("{done} commands, {} events applied", whole.events),
        },
        Check {
            claim: "and what counting the orders gives",
            held: view == counted,
            found: format!("{} orders", whole.by_order),
        },
        Check {
            claim: "the new generation is shown",
            held: shown == rebuilt.generation,
            found: format!("generation {shown}"),
        },
        Check {
            claim: "it caught up when all was quiet",
            held: caught_up,
            found: format!("{} events behind", queries.lag().await?.events),
        },
        Check {
            claim: "every read was of a whole state, and none older than one before",
            held: read.torn == 0 && read.older == 0 && read.reads > 0,
            found: format!(
                "{} reads, {} torn, {} older; the longest took {} ms",
                read.reads,
                read.torn,
                read.older,
                read.longest.as_millis()
            ),
        },
    ];
    report::story(&story, &view, &checks)?;
    Ok(if checks.iter().all(|check| check.held) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// This program once more, as a projector. Killed when it is dropped.
fn spawn(url: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("project").env(URL, url).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().context("the projector cannot be started")
}

async fn catch_up(queries: &Queries) -> anyhow::Result<bool> {
    let caught_up = async {
        while queries.lag().await?.events > 0 {
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(true)
    };
    timeout(CAUGHT_UP_WITHIN, caught_up)
        .await
        .unwrap_or(Ok(false))
}

/// What somebody saw who read all the while.
#[derive(Default)]
struct Read {
    reads: u64,
    torn: u64,
    older: u64,
    longest: Duration,
}

async fn read_on(queries: Queries, stopped: watch::Receiver<bool>) -> anyhow::Result<Read> {
    let mut read = Read::default();
    let mut last: Option<Whole> = None;
    let clock = Clock::tokio();
    while !*stopped.borrow() {
        let begun = clock.now();
        let whole = queries.whole().await?;
        read.longest = read.longest.max(clock.now().saturating_since(begun));
        read.reads += 1;
        read.torn += u64::from(whole.by_customer != whole.by_order);
        read.older += u64::from(last.is_some_and(|last| whole.events < last.events));
        last = Some(whole);
        sleep(Duration::from_millis(2)).await;
    }
    Ok(read)
}
