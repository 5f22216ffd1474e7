//! The gateway as a router: a stack for each prefix, its own two pages, and one shape for what goes
//! wrong.

use axum::{Router, routing::get};
use buttress_core::Registry;
use buttress_error_envelope::{Envelope, tower::EnvelopeLayer};
use serde::Serialize;

use crate::{config::Config, stack};

/// How one of the handles is.
#[derive(Serialize)]
struct Handle {
    pattern: &'static str,
    name: String,
    state: String,
}

/// The gateway. What it knows of upstreams and clients lives in it: it is made once, and served on as
/// many connections as come.
///
/// # Errors
///
/// Something in the configuration cannot work; the error names it.
pub fn router(config: &Config) -> anyhow::Result<Router> {
    let registry = Registry::new();
    let mut router = Router::new();
    for route in &config.routes {
        let stack = stack::build(route, config.proxies, &registry)?;
        let prefix = &route.prefix;
        router = router
            .route_service(prefix, stack.clone())
            .route_service(&format!("{prefix}/{{*rest}}"), stack);
    }
    let handles = move || std::future::ready(Envelope::new(show(&registry)));
    Ok(router
        .route("/-/health", get(async || Envelope::new("alive")))
        .route("/-/handles", get(handles))
        .layer(EnvelopeLayer::new()))
}

fn show(registry: &Registry) -> Vec<Handle> {
    let entries = registry.entries();
    let handle = entries.iter().map(|it| Handle {
        pattern: it.pattern(),
        name: it.name().to_owned(),
        state: it.state().to_owned(),
    });
    handle.collect()
}
