//! What stands between a caller and the upstreams of a route. From outside in: what a client may ask
//! for, the retry, the hedge, and for each upstream its breaker and the limit of an attempt.

use std::{convert::Infallible, net::SocketAddr};

use axum::{body::Body, extract::ConnectInfo, response::IntoResponse as _};
use buttress_core::{Fault, Registry};
use buttress_error_envelope::{Problem, ToProblem as _, tower::Verbatim};
use buttress_rate_limiter::{
    KeyedRateLimiter,
    http::{Client, Proxies},
    tower::HttpRateLimitLayer,
};
use buttress_retry_backoff::{
    Budget, Retry, RetryError,
    hedge::Hedge,
    tower::{HedgeLayer, HttpReplay, RetryLayer},
};
use http::{Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn, util::BoxCloneSyncService};

use crate::{
    answer::{ByAnswer, as_grpc, is_grpc},
    config::Route,
    failure::AttemptFailed,
    hops,
    upstreams::Upstreams,
};

/// All of it as one service, which answers whatever happens.
pub(crate) type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

type Asking = BoxCloneSyncService<Request<Body>, Response<Body>, RetryError<AttemptFailed>>;

pub(crate) fn build(route: &Route, proxies: usize, registry: &Registry) -> anyhow::Result<Stack> {
    let asking = asking(route, registry)?;
    let answering = service_fn(move |request| answer(asking.clone(), request));
    let Some(quota) = &route.client else {
        return Ok(BoxCloneSyncService::new(answering));
    };
    let clients = KeyedRateLimiter::new(route.prefix.clone(), quota.clone())?;
    let client = Client::address_of(Proxies::count(proxies), |extensions| {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        peer.map(|it| it.0.ip())
    });
    let refusal = |fault: &dyn Fault| fault.to_problem().into_response();
    let limit = HttpRateLimitLayer::new(clients, client).respond_with(refusal);
    Ok(BoxCloneSyncService::new(limit.layer(answering)))
}

/// The retry, with the hedge inside of it where one is wanted. Both pay from one budget.
fn asking(route: &Route, registry: &Registry) -> anyhow::Result<Asking> {
    let upstreams = Upstreams::new(route, registry)?;
    let budget = Budget::new(route.budget)?;
    let retry = Retry::new(route.prefix.clone(), route.retry.clone()).with_budget(budget.clone());
    retry.register(registry);
    let replay = HttpReplay::default();
    let retry = RetryLayer::with_replay(retry, ByAnswer, replay).unwrapped();
    Ok(match route.hedge {
        Some(delay) => {
            let hedge = Hedge::new(route.prefix.clone(), delay, 1)?.with_budget(budget);
            let hedge = HedgeLayer::with_replay(hedge, ByAnswer, replay).unwrapped();
            BoxCloneSyncService::new(retry.layer(hedge.layer(upstreams)))
        }
        None => BoxCloneSyncService::new(retry.layer(upstreams)),
    })
}

/// An upstream's answer goes out as it is, an error of its own as well. What went wrong here is told
/// in the shape that the caller reads.
async fn answer(asking: Asking, mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let grpc = is_grpc(request.headers());
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        let peer = peer.ip();
        hops::came_from(request.headers_mut(), peer);
    }
    let mut response = match asking.oneshot(request).await {
        Ok(response) => response,
        Err(failed) if grpc => as_grpc(failed.status(), &failed.public_message()),
        Err(failed) => return Ok(Problem::from(failed).into_response()),
    };
    response.extensions_mut().insert(Verbatim);
    Ok(response)
}
