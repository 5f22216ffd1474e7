//! One service on its own port, with its faults in front of it.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, sync::Arc};

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::Instrument as _;

use super::fault::{FaultMode, FaultSwitch};
use crate::telemetry;

/// What the shop sends is small; more is a mistake.
const LARGEST_BODY: usize = 64 * 1024;

/// Serves `router` on a free port of the loopback until `stop`.
///
/// Its connections are cut then, as those of a crashed service would be: the shop bears that.
pub(super) async fn listen(
    router: Router,
    switch: Arc<FaultSwitch>,
    stop: CancellationToken,
    tasks: TaskTracker,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let service = Faulty { router, switch };
    tasks.clone().spawn(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    tasks.spawn(
                        stop.clone()
                            .run_until_cancelled_owned(serve(stream, service.clone())),
                    );
                }
                // Out of file handles, say: what is open goes on, and so does accepting, later.
                Err(error) => {
                    tracing::warn!(%error, "a service behind the shop cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(address)
}

async fn serve(stream: TcpStream, service: Faulty) {
    // Callers that go, and cut connections, end here as errors: both are part of the show.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A router, and what goes wrong with its calls.
#[derive(Clone)]
struct Faulty {
    router: Router,
    switch: Arc<FaultSwitch>,
}

/// The connection is to be cut without an answer. hyper does so when a service fails.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
struct Cut;

impl Service<Request<Incoming>> for Faulty {
    type Response = Response<Body>;
    type Error = Cut;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Cut>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mode, latency) = self.switch.draw();
        let router = self.router.clone();
        Box::pin(async move {
            if mode == FaultMode::Error {
                return Ok(plain(StatusCode::SERVICE_UNAVAILABLE));
            }
            let (head, body) = request.into_parts();
            let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
                return Ok(plain(StatusCode::BAD_REQUEST));
            };
            let request = Request::from_parts(head, Body::from(body.to_bytes()));
            // On a task of its own: it works to its end, whether the caller waits for it or not.
            let work = tokio::spawn(async move {
                if mode == FaultMode::Slow {
                    tokio::time::sleep(latency).await;
                }
                answer(router, request).await
            });
            let response = work
                .await
                .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR));
            match mode {
                FaultMode::Hang => std::future::pending().await,
                FaultMode::Lost => Err(Cut),
                _ => Ok(response),
            }
        })
    }
}

async fn answer(router: Router, request: Request<Body>) -> Response<Body> {
    let name = telemetry::request_name(request.method(), request.uri().path());
    let span = tracing::info_span!("behind", otel.name = name, otel.kind = "server");
    telemetry::follow_headers(&span, request.headers());
    match router.oneshot(request).instrument(span).await {
        Ok(response) => response,
        Err(never) => {
            let never: Infallible = never;
            match never {}
        }
    }
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
