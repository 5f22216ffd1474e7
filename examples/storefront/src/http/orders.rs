//! `/orders`

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use buttress_error_envelope::{
    Envelope, FieldError, FieldErrors, Problem,
    axum::{Path, Query},
    parse_json, require_json,
};
use bytes::Bytes;
use garde::Validate;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    Shop, body,
    client::Client,
    cursor::{self, List, PageQuery},
    idempotency_key, is_id,
    refusal::Refusal,
};
use crate::{
    order::{NewItem, NewOrder, Order, PaymentMethod},
    repository::Acceptance,
};

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const NO_SUCH_PRODUCT: &str = "there is no such product";

#[derive(Debug, Deserialize, Validate)]
struct OrderBody {
    #[garde(length(chars, min = 1, max = 100), custom(no_control_characters))]
    customer: String,
    #[garde(length(min = 1, max = 50), dive)]
    items: Vec<ItemBody>,
    #[garde(skip)]
    payment_method: PaymentBody,
}

#[derive(Debug, Deserialize, Validate)]
struct ItemBody {
    #[garde(custom(names_a_product))]
    product_id: String,
    #[garde(range(min = 1, max = 100))]
    quantity: i64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PaymentBody {
    PmOk,
    PmDeclined,
}

/// Not every database takes a NUL, and no log or label wants the others.
pub(super) fn no_control_characters(text: &str, _: &()) -> garde::Result {
    if text.chars().any(char::is_control) {
        return Err(garde::Error::new("must not hold control characters"));
    }
    Ok(())
}

fn names_a_product(id: &str, _: &()) -> garde::Result {
    if is_id(id) {
        Ok(())
    } else {
        Err(garde::Error::new(NO_SUCH_PRODUCT))
    }
}

pub(super) async fn place(
    State(shop): State<Shop>,
    Client(client): Client,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = body::read(&headers, body).await?;
    require_json(&headers)?;
    let key = idempotency_key::read(&headers)?;
    let json: serde_json::Value = parse_json(&body)?;
    let order: OrderBody = parse_json(&body)?;
    order.validate().map_err(FieldErrors::from)?;
    let fingerprint = fingerprint(&json)?;
    match shop
        .ordering
        .place(order.into(), client, key, fingerprint, render)
        .await?
    {
        Acceptance::Accepted {
            order_id, response, ..
        } => accepted(&order_id, response, false),
        Acceptance::Replayed { order_id, response } => accepted(&order_id, response, true),
        Acceptance::KeyReused => Err(Refusal::KeyReused.into()),
        Acceptance::UnknownProducts(positions) => {
            let unknown = positions
                .into_iter()
                .map(|at| FieldError::pointer(&format!("/items/{at}/product_id"), NO_SUCH_PRODUCT));
            Err(unknown.collect::<FieldErrors>().into())
        }
    }
}

impl From<OrderBody> for NewOrder {
    fn from(body: OrderBody) -> Self {
        let item = |item: ItemBody| NewItem {
            product_id: item.product_id,
            quantity: item.quantity,
        };
        Self {
            customer: body.customer,
            items: body.items.into_iter().map(item).collect(),
            payment_method: match body.payment_method {
                PaymentBody::PmOk => PaymentMethod::PmOk,
                PaymentBody::PmDeclined => PaymentMethod::PmDeclined,
            },
        }
    }
}

/// The same for two bodies that are the same JSON (RFC 8785), however they are written.
fn fingerprint(body: &serde_json::Value) -> Result<Vec<u8>, Problem> {
    let canonical = serde_json_canonicalizer::to_vec(body).map_err(Problem::internal)?;
    Ok(Sha256::digest(canonical).to_vec())
}

/// The answer's body, as it is kept and sent again to the byte.
fn render(order: &Order) -> Vec<u8> {
    serde_json::to_vec(&Envelope::new(order))
        .expect("an order is strings, numbers and lists of them")
}

fn accepted(order_id: &str, response: Vec<u8>, replayed: bool) -> Result<Response, Problem> {
    let location =
        HeaderValue::try_from(format!("/orders/{order_id}")).map_err(Problem::internal)?;
    let json = HeaderValue::from_static("application/json");
    let head = [(header::LOCATION, location), (header::CONTENT_TYPE, json)];
    let mut response = (StatusCode::ACCEPTED, head, Bytes::from(response)).into_response();
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

pub(super) async fn show(
    State(shop): State<Shop>,
    Path(id): Path<String>,
) -> Result<Envelope<Order>, Problem> {
    if !is_id(&id) {
        return Err(Refusal::OrderNotFound.into());
    }
    let order = shop
        .ordering
        .find(&id)
        .await?
        .ok_or(Refusal::OrderNotFound)?;
    Ok(Envelope::new(order))
}

pub(super) async fn list(
    State(shop): State<Shop>,
    Query(query): Query<PageQuery>,
) -> Result<Envelope<Vec<Order>>, Problem> {
    let (limit, before) = (query.limit()?, query.after(List::Orders)?);
    let mut page = shop.ordering.page(before.as_deref(), limit + 1).await?;
    let meta = cursor::cut(&mut page, limit, List::Orders, |order| &order.id);
    Ok(Envelope::new(page).with_meta(meta))
}
