//! `/openapi.json`: the API, with every error of each operation out of the catalogue.

mod operation;
mod schemas;

use axum::Json;
use utoipa::openapi::{
    HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Paths, PathsBuilder,
};

use self::operation::Route;
use super::figures;

/// Any read of the database.
const READ: &[&str] = &["INTERNAL", "UNAVAILABLE"];
/// Any body.
const BODY: &[&str] = &[
    "MALFORMED_REQUEST",
    "PAYLOAD_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "VALIDATION_FAILED",
];
/// Any query.
const QUERY: &[&str] = &["MALFORMED_REQUEST"];
/// Any key, and its client's rate.
const KEY: &[&str] = &[
    "IDEMPOTENCY_KEY_MISSING",
    "IDEMPOTENCY_KEY_INVALID",
    "IDEMPOTENCY_KEY_IN_USE",
    "IDEMPOTENCY_KEY_REUSED",
    "RATE_LIMITED",
];
const NO_PRODUCT: &[&str] = &["PRODUCT_NOT_FOUND"];
const NO_ORDER: &[&str] = &["ORDER_NOT_FOUND"];
const CARRIER: &[&str] = &["UPSTREAM_FAILED", "UPSTREAM_TIMEOUT", "CIRCUIT_OPEN"];

pub(super) async fn document() -> Json<OpenApi> {
    Json(api())
}

fn api() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Storefront")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A small shop. Every response has `X-Request-Id`. An error is the JSON envelope, or \
             problem+json (RFC 9457) where `Accept` prefers it; all codes stand at `/errors`.",
        ));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths())
        .components(Some(schemas::components()))
        .build()
}

fn paths() -> Paths {
    let routes = [system(), products(), orders(), others()].concat();
    let path = |paths: PathsBuilder, route: Route| {
        let (method, path, operation) = route.into_parts();
        paths.path(path, PathItem::new(method, operation))
    };
    routes.into_iter().fold(PathsBuilder::new(), path).build()
}

fn system() -> Vec<Route> {
    vec![
        Route::new(HttpMethod::Get, "/healthz", "Whether the process lives").data("Health"),
        Route::new(HttpMethod::Get, "/readyz", "Whether the shop can serve")
            .data("Health")
            .errors(&[&["NOT_READY"]]),
        Route::new(
            HttpMethod::Get,
            "/errors",
            "Every code of an error, as a page",
        )
        .bare("200", "A page", Some("text/html; charset=utf-8")),
        Route::new(
            HttpMethod::Get,
            "/metrics",
            "Figures, as Prometheus reads them",
        )
        .bare("200", "A page of text", Some(figures::FORMAT)),
        Route::new(HttpMethod::Get, "/openapi.json", "This document").bare(
            "200",
            "This document",
            Some("application/json"),
        ),
        Route::new(
            HttpMethod::Post,
            "/faults",
            "Disturbs a service behind the shop, where allowed",
        )
        .body("Fault")
        .bare("204", "From now on", None)
        .errors(&[BODY]),
    ]
}

fn products() -> Vec<Route> {
    vec![
        Route::new(
            HttpMethod::Get,
            "/products",
            "Products by id, a page at a time",
        )
        .page()
        .list("Product", Some("PageMeta"))
        .errors(&[QUERY, READ]),
        Route::new(
            HttpMethod::Get,
            "/products/{id}",
            "One product, without its stock",
        )
        .id()
        .header("If-None-Match", false)
        .data("ProductView")
        .bare("304", "It is as `If-None-Match` says", None)
        .errors(&[NO_PRODUCT, READ]),
        Route::new(
            HttpMethod::Patch,
            "/products/{id}",
            "Changes name, price or stock",
        )
        .id()
        .header("If-Match", false)
        .body("ProductChange")
        .data("Product")
        .errors(&[BODY, NO_PRODUCT, &["VERSION_CONFLICT"], READ]),
    ]
}

fn orders() -> Vec<Route> {
    vec![
        Route::new(
            HttpMethod::Post,
            "/orders",
            "Places an order, once by its key",
        )
        .header("Idempotency-Key", true)
        .header("X-Api-Key", false)
        .body("NewOrder")
        .answer("202", "Accepted, and settled after", "Order")
        .errors(&[KEY, BODY, READ]),
        Route::new(
            HttpMethod::Get,
            "/orders",
            "Orders, newest first, a page at a time",
        )
        .page()
        .list("Order", Some("PageMeta"))
        .errors(&[QUERY, READ]),
        Route::new(HttpMethod::Get, "/orders/{id}", "One order and its steps")
            .id()
            .data("Order")
            .errors(&[NO_ORDER, READ]),
    ]
}

fn others() -> Vec<Route> {
    vec![
        Route::new(HttpMethod::Get, "/shipping-quotes", "What the carrier asks")
            .text("country", true)
            .number("quantity", true)
            .data("Quote")
            .errors(&[QUERY, CARRIER]),
        Route::new(
            HttpMethod::Get,
            "/events",
            "What the subscriber has applied, in order",
        )
        .number("after", false)
        .number("limit", false)
        .list("Event", Some("EventsMeta"))
        .errors(&[QUERY, READ]),
        Route::new(HttpMethod::Get, "/ledger", "What was charged and refunded")
            .number("after", false)
            .number("limit", false)
            .data("Ledger")
            .errors(&[QUERY, READ]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use buttress_error_envelope::CodeEntry;
    use serde_json::Value;

    use super::{super::errors::CATALOGUE, *};

    /// No operation has these: there is no such operation.
    const OF_NO_ROUTE: [&str; 2] = ["METHOD_NOT_ALLOWED", "ROUTE_NOT_FOUND"];

    #[test]
    fn every_code_of_the_catalogue_is_in_an_operation_and_none_besides() {
        let routes = [system(), products(), orders(), others()].concat();
        let told: BTreeSet<_> = routes.iter().flat_map(Route::codes).collect();
        let known = CATALOGUE.entries().into_iter().map(CodeEntry::code);
        let known: BTreeSet<_> = known.filter(|code| !OF_NO_ROUTE.contains(code)).collect();
        assert_eq!(told, known);
    }

    #[test]
    fn what_the_document_refers_to_is_in_it() {
        fn refs(value: &Value, into: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, value)| match value {
                    Value::String(name) if key == "$ref" => drop(into.insert(name.clone())),
                    value => refs(value, into),
                }),
                Value::Array(list) => list.iter().for_each(|value| refs(value, into)),
                _ => {}
            }
        }
        let document = serde_json::to_value(api()).unwrap();
        let mut seen = BTreeSet::new();
        refs(&document, &mut seen);
        assert!(
            seen.contains("#/components/schemas/ErrorEnvelope"),
            "{seen:?}"
        );
        for name in seen {
            let pointer = name.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{name}");
        }
    }
}
