//! The database and Redis as the instances see them: through a proxy each, which can be cut.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use buttress_core::{Clock, Moment};
use buttress_testkit::{
    proxy::{Cut, Proxy, Way},
    redis,
};

use super::instances::Place;

/// How long after a disturbance an instance may still be without Redis: it looks for it every two
/// seconds at least.
const FOUND_AGAIN: Duration = Duration::from_secs(5);

/// What all instances share, and the lines that lead there.
pub(super) struct Stores {
    lines: Vec<Lines>,
    redis: Redis,
    clock: Clock,
    pub(super) done: Done,
}

/// The lines of one instance.
struct Lines {
    /// `None` for SQLite, which is a file.
    database: Option<Proxy>,
    redis: Option<Proxy>,
    redis_trouble: Mutex<Trouble>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    now: bool,
    until: Option<Moment>,
}

enum Redis {
    None,
    /// Somebody else's: its connections can be cut, but it cannot be restarted.
    Given,
    Own(Box<redis::Server>),
}

/// How often something was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) database: AtomicUsize,
    pub(super) redis: AtomicUsize,
    pub(super) redis_restarts: AtomicUsize,
}

/// What can be done to a line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    /// All open connections are reset.
    Reset,
    /// Nothing comes back any more.
    Silence,
    /// Open connections are reset, and new ones refused.
    Refusal,
    /// The next commit is done, and its answer lost.
    LostCommit,
}

impl Stores {
    /// For `count` instances. Without a `redis_url` it starts a Redis of its own, if there is one
    /// on this machine.
    pub(super) async fn new(
        count: usize,
        database_url: &str,
        redis_url: Option<&str>,
    ) -> anyhow::Result<(Self, Vec<Place>)> {
        let (redis, redis_url) = match redis_url {
            Some(url) => (Redis::Given, Some(url.to_owned())),
            None if redis::find().is_ok() => {
                let server = tokio::task::spawn_blocking(redis::Server::start_appending).await?;
                let server = server.context("the demonstration's own Redis does not start")?;
                let url = server.url();
                (Redis::Own(Box::new(server)), Some(url))
            }
            None => (Redis::None, None),
        };
        let (mut lines, mut places) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (database, through) = if database_url.starts_with("sqlite:") {
                (None, database_url.to_owned())
            } else {
                let (proxy, through) = before(database_url, "database").await?;
                (Some(proxy), through)
            };
            let (redis, redis_through) = match &redis_url {
                Some(url) => {
                    let (proxy, through) = before(url, "Redis").await?;
                    (Some(proxy), Some(through))
                }
                None => (None, None),
            };
            places.push(Place::new(through, redis_through));
            lines.push(Lines {
                database,
                redis,
                redis_trouble: Mutex::default(),
            });
        }
        let stores = Self {
            lines,
            redis,
            clock: Clock::tokio(),
            done: Done::default(),
        };
        Ok((stores, places))
    }

    pub(super) fn has_network(&self) -> bool {
        self.lines.iter().any(|lines| lines.database.is_some())
    }

    pub(super) const fn has_redis(&self) -> bool {
        !matches!(self.redis, Redis::None)
    }

    /// What stands in the report of Redis.
    pub(super) const fn redis_is(&self) -> &'static str {
        match self.redis {
            Redis::None => "none: redis-server is not installed",
            Redis::Given => "given: its connections are cut, it is not restarted",
            Redis::Own(_) => "its own: killed and restarted",
        }
    }

    /// Does `harm` to one instance's line to the database, for `time`.
    pub(super) async fn harm_database(
        &self,
        number: usize,
        harm: Harm,
        time: Duration,
    ) -> anyhow::Result<()> {
        if let Some(proxy) = &self.lines[number].database {
            self.done.database.fetch_add(1, Ordering::Relaxed);
            harmed(proxy, harm, time).await?;
        }
        Ok(())
    }

    /// The same with its line to Redis.
    pub(super) async fn harm_redis(
        &self,
        number: usize,
        harm: Harm,
        time: Duration,
    ) -> anyhow::Result<()> {
        if let Some(proxy) = &self.lines[number].redis {
            self.done.redis.fetch_add(1, Ordering::Relaxed);
            self.trouble(number, true);
            let harmed = harmed(proxy, harm, time).await;
            self.trouble(number, false);
            harmed?;
        }
        Ok(())
    }

    /// Kills a Redis of its own, and starts it anew after `time`. It keeps what it acknowledged.
    pub(super) async fn restart_redis(&self, time: Duration) -> anyhow::Result<bool> {
        let Redis::Own(server) = &self.redis else {
            return Ok(false);
        };
        self.done.redis_restarts.fetch_add(1, Ordering::Relaxed);
        (0..self.lines.len()).for_each(|number| self.trouble(number, true));
        tokio::task::block_in_place(|| server.kill());
        tokio::time::sleep(time).await;
        tokio::task::block_in_place(|| server.restart()).context("Redis does not start again")?;
        (0..self.lines.len()).for_each(|number| self.trouble(number, false));
        Ok(true)
    }

    fn trouble(&self, number: usize, begins: bool) {
        let trouble = &self.lines[number].redis_trouble;
        let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.now = begins;
        trouble.until = Some(self.clock.now().saturating_add(FOUND_AGAIN));
    }

    /// Whether this instance may have been kept from Redis a moment ago.
    pub(super) fn redis_in_trouble(&self, number: usize) -> bool {
        let trouble = &self.lines[number].redis_trouble;
        let trouble = *trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.now || trouble.until.is_some_and(|until| self.clock.now() < until)
    }
}

async fn before(url: &str, what: &str) -> anyhow::Result<(Proxy, String)> {
    // The error of a URL may hold it, and that a password.
    let proxy = Proxy::before(url).await;
    proxy.map_err(|_| anyhow::anyhow!("the URL of the {what} names no host, or no port is free"))
}

async fn harmed(proxy: &Proxy, harm: Harm, time: Duration) -> anyhow::Result<()> {
    match harm {
        Harm::Reset => proxy.cut().await,
        Harm::Silence => {
            proxy.black_hole(Way::ToClient);
            tokio::time::sleep(time).await;
        }
        Harm::Refusal => {
            // Somebody may have taken the port in between; then it is no refusal, and no harm.
            let _ = proxy.refuse().await;
            proxy.cut().await;
            tokio::time::sleep(time).await;
        }
        Harm::LostCommit => {
            proxy.cut_at(Way::ToServer, "COMMIT", Cut::Answer);
            tokio::time::sleep(time).await;
        }
    }
    proxy.heal().await.context("a proxy's port was taken")
}
