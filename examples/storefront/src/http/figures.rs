//! What Prometheus reads.

use axum::extract::State;
use http::header::CONTENT_TYPE;

use super::Shop;

/// The text format that Prometheus has read since its version 0.4.
pub(super) const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn show(
    State(shop): State<Shop>,
) -> ([(http::HeaderName, &'static str); 1], String) {
    let page = shop.figures.page(&shop.database).await;
    ([(CONTENT_TYPE, FORMAT)], page)
}
