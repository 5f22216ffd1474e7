//! The whole service: started, and stopped.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use buttress_core::Registry;
use buttress_outbox::webhook::Secret;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clients::Clients,
    figures::Figures,
    http::{self, Readiness, Shop},
    nats::Nats,
    redis::Redis,
    repository::{self, Database},
    service::{Catalogue, OrderRate, Ordering, Quoting, Settlement, relay, webhooks},
    upstreams::Upstreams,
};

/// How long what is in flight may take to end after a stop.
const GRACE: Duration = Duration::from_secs(10);

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) database_url: String,
    /// Where instances share rates, what their breakers see, and products. Without it each has its own.
    pub(crate) redis_url: Option<String>,
    /// Through which events go to the subscriber. Without it they go straight to it.
    pub(crate) nats_url: Option<String>,
    /// How many orders a second one client may place.
    pub(crate) order_rate: u32,
    /// How long to answer "not ready" before the listener closes.
    pub(crate) drain: Duration,
    pub(crate) faults: bool,
    /// What events are signed with on their way to the subscriber.
    pub(crate) webhook_secret: Secret,
}

/// A running service.
pub(crate) struct Storefront {
    address: SocketAddr,
    drain: Duration,
    readiness: Readiness,
    registry: Registry,
    database: Database,
    stop_serving: CancellationToken,
    stop_upstreams: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    settling: JoinHandle<()>,
    relaying: JoinHandle<()>,
    consuming: JoinHandle<()>,
    reaping: JoinHandle<()>,
    sharing: JoinHandle<()>,
    upstreams: TaskTracker,
}

impl Storefront {
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        let (database, sagas) = repository::connect(&config.database_url).await?;
        let (stop_serving, stop_upstreams) = (CancellationToken::new(), CancellationToken::new());
        let upstreams = TaskTracker::new();
        let secret = config.webhook_secret;
        let behind = Upstreams::start(&database, secret.clone(), &stop_upstreams, &upstreams)
            .await
            .context("the services behind the shop cannot listen")?;
        let registry = Registry::new();
        let redis = config.redis_url.as_deref().map(Redis::new).transpose()?;
        let rate = OrderRate::new(config.order_rate, redis.as_ref(), &registry)
            .context("the order rate cannot work")?;
        let catalogue = Catalogue::new(Arc::clone(&database), redis.as_ref(), &registry)
            .context("the cache of products cannot work")?;
        let clients = Clients::new(&behind, &registry).context("no HTTP client")?;

        let fleet = redis
            .as_ref()
            .map(|redis| clients.shared_by(redis, &registry));
        let (fleet, stopped) = (fleet.transpose()?, stop_serving.clone());
        let sharing = tokio::spawn(async move {
            if let Some(fleet) = fleet {
                fleet.run_until(stopped.cancelled()).await;
            }
        });

        let figures = Figures::new(&registry)?;
        upstreams.spawn(figures.clone().keep_until(stop_upstreams.clone()));

        let settlement = Settlement::new(sagas, &database, &clients)?;
        let runner = settlement.runner()?;
        let settling = tokio::spawn(runner.run_until(stop_serving.clone().cancelled_owned()));

        let webhooks = webhooks(behind.subscriber, secret)?;
        let nats = match config.nats_url.as_deref() {
            None => None,
            Some(url) => Some(Nats::new(url).await?),
        };
        let (relay, consuming) = match nats.clone() {
            None => {
                let longest = webhooks.longest_publish();
                let relay = relay(database.outbox(), webhooks, longest)?;
                (relay, tokio::spawn(std::future::ready(())))
            }
            Some(nats) => {
                let publisher = nats.publisher()?;
                let longest = publisher.longest_publish();
                let relay = relay(database.outbox(), publisher, longest)?;
                let consuming = nats.consume_until(webhooks, stop_serving.clone());
                (relay, tokio::spawn(consuming))
            }
        };
        let stopped = stop_serving.clone();
        let relaying = async move { relay.run_until(stopped.cancelled()).await };
        let relaying = tokio::spawn(relaying);

        let (reaper, stopped) = (database.order_keys().reaper(), stop_serving.clone());
        let reaping = async move { reaper.run_until(stopped.cancelled()).await };
        let reaping = tokio::spawn(reaping);

        let readiness = Readiness::default();
        let shop = Shop {
            catalogue,
            ordering: Ordering::new(Arc::clone(&database), settlement),
            rate,
            quoting: Quoting::new(clients.carrier),
            database: Arc::clone(&database),
            redis,
            nats,
            figures,
            readiness: readiness.clone(),
            faults: config.faults.then_some(behind.faults),
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let app = http::app(shop).into_make_service_with_connect_info::<SocketAddr>();
        let stopped = stop_serving.clone().cancelled_owned();
        let serving = axum::serve(listener, app).with_graceful_shutdown(stopped);
        let serving = tokio::spawn(serving.into_future());
        tracing::info!(%address, "serving");
        Ok(Self {
            address,
            drain: config.drain,
            readiness,
            registry,
            database,
            stop_serving,
            stop_upstreams,
            serving,
            settling,
            relaying,
            consuming,
            reaping,
            sharing,
            upstreams,
        })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The handles of this instance: what stands before each service that it calls.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Stops accepting, ends what is in flight, hands the claims back. Takes at most the drain
    /// time and some 12 s; what is not at its end then is left to its leases.
    pub(crate) async fn stop(self) {
        self.readiness.take_back();
        tokio::time::sleep(self.drain).await;
        self.stop_serving.cancel();
        // The services behind go last: what is being settled still calls them.
        let ended = async {
            let told = (self.relaying.await, self.consuming.await);
            let background = (self.settling.await, told, self.reaping.await);
            (self.serving.await, background, self.sharing.await)
        };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("stopped before everything in flight was at its end");
        }
        self.stop_upstreams.cancel();
        self.upstreams.close();
        let last = async {
            self.upstreams.wait().await;
            self.database.close().await;
        };
        // Nothing is lost with a connection that is cut now: every write is a transaction.
        let _ = tokio::time::timeout(Duration::from_secs(2), last).await;
    }
}
