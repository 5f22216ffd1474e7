//! What the gateway is told: a file, in which every policy passes the checks it would meet in code.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, ensure};
use buttress_circuit_breaker::Policy as BreakerPolicy;
use buttress_rate_limiter::Quota;
use buttress_retry_backoff::{BudgetRule, RetryPolicy, hedge::HedgeDelay};
use http::{Uri, uri::Scheme};
use serde::Deserialize;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How many proxies stand before it.
    #[serde(default)]
    pub proxies: usize,
    /// Where requests go. The longest prefix that fits decides.
    pub routes: Vec<Route>,
}

/// Where the requests to one prefix go, and what stands between.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What the path begins with, up to a slash.
    pub prefix: String,
    /// The addresses, as `http://host:port`. Each has a breaker of its own.
    pub upstreams: Vec<String>,
    /// How long an upstream may take until its answer begins.
    #[serde(default = "second")]
    pub attempt_ms: u64,
    /// The upstreams speak HTTP/2 from the first byte, as gRPC does.
    #[serde(default)]
    pub http2: bool,
    /// What one client may ask for.
    pub client: Option<Quota>,
    /// Tries again, where that can do no harm.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// When a second attempt is begun beside the first.
    pub hedge: Option<HedgeDelay>,
    /// What retries and hedges may cost together.
    #[serde(default = "BudgetRule::tokens")]
    pub budget: BudgetRule,
    /// Stops asking an upstream that fails.
    #[serde(default)]
    pub breaker: BreakerPolicy,
}

const fn second() -> u64 {
    1000
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// It is not there, or something in it cannot work; the error says where.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        text.parse()
            .with_context(|| format!("{} is wrong", path.display()))
    }
}

impl std::str::FromStr for Config {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text)?;
        ensure!(!config.routes.is_empty(), "routes must name at least one");
        for route in &config.routes {
            route
                .check()
                .with_context(|| format!("the route {}", route.prefix))?;
        }
        Ok(config)
    }
}

impl Route {
    fn check(&self) -> anyhow::Result<()> {
        let prefix = &self.prefix;
        let plain = prefix.len() > 1 && prefix.starts_with('/') && !prefix.ends_with('/');
        ensure!(
            plain && !prefix.contains(['{', '}', '?', '#', '*']),
            "prefix must be a path such as /quotes"
        );
        ensure!(
            (1..=600_000).contains(&self.attempt_ms),
            "attempt_ms must be from 1 to 600000"
        );
        ensure!(
            (1..=64).contains(&self.upstreams.len()),
            "upstreams must be from 1 to 64"
        );
        for upstream in &self.upstreams {
            let uri: Uri = upstream.parse().context("upstreams")?;
            ensure!(
                uri.scheme() == Some(&Scheme::HTTP) && uri.path() == "/" && uri.query().is_none(),
                "upstreams must be as http://host:port: {upstream}"
            );
        }
        Ok(())
    }
}
