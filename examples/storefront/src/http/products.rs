//! `/products`

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use buttress_cache_aside::{CacheOutcome, Served, http::CACHE_STATUS};
use buttress_error_envelope::{
    Envelope, Problem,
    axum::{Path, Query},
    page::PageQuery,
};
use garde::Validate;
use headers::{ETag, HeaderMapExt, IfMatch, IfNoneMatch};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer};

use super::{
    Shop, body,
    cursor::{self, List},
    is_id,
    refusal::Refusal,
};
use crate::{
    product::{Product, ProductChange},
    service::{Catalogue, Listing},
};

/// More than this, and an order's total could not be told in an integer that JSON keeps exact.
const HIGHEST: i64 = 1_000_000_000_000;

pub(super) async fn list(
    State(shop): State<Shop>,
    Query(query): Query<PageQuery>,
) -> Result<Envelope<Vec<Product>>, Problem> {
    let request = cursor::read(List::Products, &query)?;
    let after = request.after().map_or("", String::as_str);
    let rows = shop.catalogue.page(after, request.fetch().into()).await?;
    let page = request.page(rows, |product| product.id.clone())?;
    Ok(page.into())
}

pub(super) async fn show(
    State(shop): State<Shop>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !is_id(&id) {
        return Err(Refusal::ProductNotFound.into());
    }
    let served = shop.catalogue.find(&id).await?;
    let status = cache_status(&served)?;
    let listing = served.into_value().ok_or(Refusal::ProductNotFound)?;
    let etag = etag(listing.version)?;
    let fresh = headers.typed_get::<IfNoneMatch>();
    let unchanged = fresh.is_some_and(|theirs| !theirs.precondition_passes(&etag));
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Envelope::new(listing).into_response()
    };
    response.headers_mut().typed_insert(etag);
    response.headers_mut().insert(CACHE_STATUS, status);
    Ok(response)
}

/// As the contract writes it: with a space behind each semicolon, and no word on what is stored.
fn cache_status(served: &Served<Listing>) -> Result<HeaderValue, Problem> {
    let name = Catalogue::CACHE;
    let status = match served.outcome() {
        CacheOutcome::Loaded {
            collapsed: true, ..
        } => format!("{name}; fwd=miss; collapsed"),
        CacheOutcome::Loaded {
            was_stale: true, ..
        } => format!("{name}; fwd=stale"),
        CacheOutcome::Loaded { .. } => format!("{name}; fwd=miss"),
        _ if served.fresh_for().is_zero() => {
            let past = served.stale_for().as_secs() + 1;
            format!("{name}; hit; ttl=-{past}")
        }
        _ => format!("{name}; hit; ttl={}", served.fresh_for().as_secs()),
    };
    status.try_into().map_err(Problem::internal)
}

#[derive(Debug, Deserialize, Validate)]
struct ChangeBody {
    #[garde(inner(
        length(chars, min = 1, max = 200),
        custom(super::orders::no_control_characters)
    ))]
    #[serde(default, deserialize_with = "given")]
    name: Option<String>,
    #[garde(inner(range(min = 0, max = HIGHEST)))]
    #[serde(default, deserialize_with = "given")]
    price: Option<i64>,
    #[garde(inner(range(min = 0, max = HIGHEST)))]
    #[serde(default, deserialize_with = "given")]
    stock: Option<i64>,
    #[garde(skip)]
    #[serde(flatten)]
    _by_name: body::ByName,
}

/// A member that is there has a value: null is a wrong type, not an absent member.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

pub(super) async fn change(
    State(shop): State<Shop>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body: ChangeBody = body::read_json(&headers, body).await?;
    if !is_id(&id) {
        return Err(Refusal::ProductNotFound.into());
    }
    // A tag that cannot be read is one that the product does not have.
    let required = headers
        .typed_try_get::<IfMatch>()
        .map_err(|_| Refusal::VersionConflict)?;
    let passes = move |version: i64| match (&required, etag(version)) {
        (None, _) => true,
        (Some(required), Ok(etag)) => required.precondition_passes(&etag),
        (Some(_), Err(_)) => false,
    };
    let change = ProductChange {
        name: body.name,
        price: body.price,
        stock: body.stock,
    };
    let product = shop.catalogue.change(&id, change, &passes).await?;
    let etag = etag(product.version)?;
    let mut response = Envelope::new(product).into_response();
    response.headers_mut().typed_insert(etag);
    Ok(response)
}

fn etag(version: i64) -> Result<ETag, Problem> {
    format!("\"{version}\"").parse().map_err(Problem::internal)
}
