//! One service, limited by client and by route, in process: `cargo run --example layers --features http,tower`.

#![expect(clippy::print_stdout, reason = "it shows something")]

use std::{convert::Infallible, time::Duration};

use buttress_rate_limiter::{
    KeyedRateLimiter, Quota,
    http::{Client, Fields},
    tower::HttpRateLimitLayer,
};
use http::{HeaderName, Request, Response};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let everything = KeyedRateLimiter::new("everything", Quota::per_second(3)?)?;
    let logins = KeyedRateLimiter::new("logins", Quota::per(1, Duration::from_secs(30))?)?;
    let shop = service_fn(|request: Request<()>| async move {
        Ok::<_, Infallible>(Response::new(format!("served {}", request.uri())))
    });
    let layer = HttpRateLimitLayer::new(
        everything,
        Client::header(HeaderName::from_static("x-api-key")),
    )
    .route(|parts| parts.uri.path() == "/login", logins)
    .fields(Fields::Draft10);
    let mut shop = layer.layer(shop);

    for (client, path) in [
        ("alice", "/login"),
        ("alice", "/login"), // refused: one in half a minute
        ("alice", "/cart"),
        ("alice", "/cart"),
        ("alice", "/cart"),
        ("alice", "/cart"), // refused: three a second
        ("bob", "/cart"),
    ] {
        let request = Request::get(path).header("x-api-key", client).body(())?;
        let response = shop.ready().await?.call(request).await?;
        let field = |name| response.headers().get(name).and_then(|it| it.to_str().ok());
        println!(
            "{client:5} {path:6} {} {} {}",
            response.status().as_u16(),
            field("ratelimit").unwrap_or_default(),
            field("retry-after")
                .map(|it| format!("retry after {it} s"))
                .unwrap_or_default(),
        );
    }
    Ok(())
}
