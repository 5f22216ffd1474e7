//! Health and metrics, for who runs the container.

use std::{future::IntoFuture as _, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::database::Database;

#[derive(Clone)]
struct Probed {
    database: Arc<Database>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
}

/// Where counters and gauges go from now on, and where they are read.
pub(crate) fn metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .context("metrics are recorded by somebody else")?;
    buttress_circuit_breaker::MetricsObserver::describe();
    buttress_outbox::MetricsObserver::describe();
    buttress_saga::MetricsObserver::describe();
    Ok(handle)
}

/// Answers until `done`. `/readyz` is 503 from the moment when it is told to stop.
pub(crate) async fn serve(
    listen: SocketAddr,
    database: Arc<Database>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
    done: CancellationToken,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route(
            "/metrics",
            get(async |State(it): State<Probed>| it.metrics.render()),
        )
        .with_state(Probed {
            database,
            metrics,
            stop,
        });
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let serving = axum::serve(listener, router).into_future();
    tokio::select! {
        served = serving => served.context("serving"),
        () = done.cancelled() => Ok(()),
    }
}

async fn ready(State(probed): State<Probed>) -> (StatusCode, &'static str) {
    if probed.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    match probed.database.is_there().await {
        true => (StatusCode::OK, "ready\n"),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer\n",
        ),
    }
}
