//! Instances of this program as processes of their own, to be killed, stopped and started anew.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use buttress_core::{Clock, Moment};
use buttress_testkit::afterwards::Afterwards;
use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

use super::{super::customers::Addresses, ORDER_RATE};

/// What the page promises of a start.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long an instance is started again and again, when it does not come up.
const GIVEN_UP: Duration = Duration::from_secs(120);
/// How long a stop may take: what the page grants it, and a loaded machine's slowness.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// Variables that mean one instance, and not those of a fleet.
const NOT_HANDED_ON: [&str; 7] = [
    "STOREFRONT_LISTEN",
    "STOREFRONT_REDIS_URL",
    "STOREFRONT_NATS_URL",
    "STOREFRONT_DRAIN_MS",
    "STOREFRONT_OTLP",
    "STOREFRONT_WEBHOOK_SECRET",
    "RUST_LOG",
];

/// Ends the process of that number, unless it was said that it has ended.
const END_WITH_US: &str = r#"[ -n "$told" ] || kill -s KILL "$1" 2>/dev/null"#;

/// All of them. Each has a number, which stays; its process and its address change.
pub(super) struct Instances {
    program: PathBuf,
    logs: PathBuf,
    places: Vec<Place>,
    addresses: Addresses,
    clock: Clock,
    seen: Mutex<Seen>,
    started: AtomicU64,
}

/// Where an instance is started with: the stores as it is to see them.
pub(super) struct Place {
    pub(super) database_url: String,
    pub(super) redis_url: Option<String>,
    running: tokio::sync::Mutex<Option<Running>>,
}

struct Running {
    process: Child,
    /// Read on, so that nobody writes into a closed pipe.
    _out: BufReader<ChildStdout>,
    end_with_us: Afterwards,
}

/// What was done to them, and how they took it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) killed: usize,
    pub(super) stopped: usize,
    /// Stopped ones that did not end by themselves with 0.
    pub(super) ended_badly: Vec<String>,
    /// The longest time that a start took while nothing kept it from its stores.
    pub(super) slowest_start: Duration,
}

impl Place {
    pub(super) fn new(database_url: String, redis_url: Option<String>) -> Self {
        Self {
            database_url,
            redis_url,
            running: tokio::sync::Mutex::new(None),
        }
    }
}

impl Instances {
    pub(super) fn new(
        logs: &Path,
        places: Vec<Place>,
        addresses: Addresses,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            program: std::env::current_exe().context("which program is this?")?,
            logs: logs.to_owned(),
            places,
            addresses,
            clock: Clock::tokio(),
            seen: Mutex::default(),
            started: AtomicU64::new(0),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    pub(super) fn seen(&self) -> Seen {
        self.looked().clone()
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the instance, again if it gives up because a store is away, and waits until it is
    /// ready. `undisturbed`: nothing keeps it from its stores, so it is to be ready in time.
    pub(super) async fn start(&self, number: usize, undisturbed: bool) -> anyhow::Result<()> {
        let begun = self.clock.now();
        loop {
            match self.try_start(number).await {
                Ok(()) => {
                    if undisturbed {
                        let took = self.clock.now().saturating_since(begun);
                        let mut seen = self.looked();
                        seen.slowest_start = seen.slowest_start.max(took);
                    }
                    return Ok(());
                }
                Err(error) if self.has_taken(begun, GIVEN_UP) => {
                    return Err(error.context(format!("instance {number} does not start")));
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn has_taken(&self, begun: Moment, time: Duration) -> bool {
        self.clock.now().saturating_since(begun) > time
    }

    async fn try_start(&self, number: usize) -> anyhow::Result<()> {
        let place = &self.places[number];
        let mut running = place.running.lock().await;
        let run = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.logs.join(format!("instance-{number}-start-{run}.log"));
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--faults"])
            .args(["--order-rate", &ORDER_RATE.to_string()]);
        for variable in NOT_HANDED_ON {
            command.env_remove(variable);
        }
        // By the environment, where other users cannot read their passwords.
        command.env("STOREFRONT_DATABASE_URL", &place.database_url);
        if let Some(redis_url) = &place.redis_url {
            command.env("STOREFRONT_REDIS_URL", redis_url);
        }
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).context("no log")?)
            // A Ctrl-C in the terminal is for the demonstration, which then ends them.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("no process")?;
        let id = process.id().context("it has ended already")?;
        let end_with_us = Afterwards::new(END_WITH_US, [id.to_string()]).context("no shell")?;
        let mut out = BufReader::new(process.stdout.take().context("no pipe")?);
        let mut line = String::new();
        let said = timeout(READY_WITHIN * 2, out.read_line(&mut line)).await;
        let address = line
            .strip_prefix("listening on http://")
            .and_then(|address| address.trim_end().parse::<SocketAddr>().ok());
        let running_now = Running {
            process,
            _out: out,
            end_with_us,
        };
        let (Ok(Ok(_)), Some(address)) = (said, address) else {
            running_now.kill().await;
            bail!("it does not become ready; its log is {}", log.display());
        };
        *running = Some(running_now);
        self.addresses.set(number, Some(address));
        Ok(())
    }

    /// Kills the instance by SIGKILL, whatever it does.
    pub(super) async fn kill(&self, number: usize) {
        let running = self.places[number].running.lock().await.take();
        if let Some(running) = running {
            running.kill().await;
            self.addresses.set(number, None);
            self.looked().killed += 1;
        }
    }

    /// Asks the instance to stop, and waits for its end. Requests still come to it until then.
    pub(super) async fn stop(&self, number: usize) {
        let running = self.places[number].running.lock().await.take();
        let Some(running) = running else { return };
        let ended = running.stop().await;
        self.addresses.set(number, None);
        let mut seen = self.looked();
        seen.stopped += 1;
        if let Err(how) = ended {
            seen.ended_badly.push(format!("instance {number}: {how}"));
        }
    }

    /// How many lines in all their logs tell of a panic.
    pub(super) fn panics(&self) -> anyhow::Result<usize> {
        let mut panics = 0;
        for log in std::fs::read_dir(&self.logs)? {
            let log = std::fs::read(log?.path())?;
            let log = String::from_utf8_lossy(&log);
            panics += log
                .lines()
                .filter(|line| line.contains("\"panicked\""))
                .count();
        }
        Ok(panics)
    }
}

impl Running {
    async fn kill(mut self) {
        // It fails when it has ended: then there is nothing to do.
        let _ = self.process.kill().await;
        let _ = self.end_with_us.tell("it has ended");
    }

    async fn stop(mut self) -> Result<(), String> {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        let told = id.map(|id| nix::sys::signal::kill(Pid::from_raw(id), Signal::SIGTERM));
        if !matches!(told, Some(Ok(()))) {
            return Err("it had ended before it was asked to".to_owned());
        }
        let ended = timeout(STOPPED_WITHIN, self.process.wait()).await;
        let how = match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(status.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("still there after {STOPPED_WITHIN:?}")),
        };
        self.kill().await;
        how
    }
}
