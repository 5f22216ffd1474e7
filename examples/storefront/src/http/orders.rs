//! `/orders`

use axum::{body::Body, extract::State, response::Response};
use buttress_error_envelope::{
    Envelope, FieldError, FieldErrors, Problem,
    axum::{Path, Query},
    page::PageQuery,
    parse_json, require_json,
};
use buttress_idempotency::{
    Scope,
    http::{FingerprintRule, HttpRefusal, KeyRule, ReplayedHeaders, StoredResponse},
};
use bytes::Bytes;
use garde::Validate;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{
    Shop, body,
    client::Client,
    cursor::{self, List},
    is_id, rate,
    refusal::Refusal,
};
use crate::{
    order::{NewItem, NewOrder, Order, PaymentMethod},
    repository::{Acceptance, OrderKey},
};

const NO_SUCH_PRODUCT: &str = "there is no such product";

#[derive(Debug, Deserialize, Validate)]
struct OrderBody {
    #[garde(length(chars, min = 1, max = 100), custom(no_control_characters))]
    customer: String,
    #[garde(length(min = 1, max = 50), dive)]
    items: Vec<ItemBody>,
    #[garde(skip)]
    payment_method: PaymentBody,
    #[garde(skip)]
    #[serde(flatten)]
    _by_name: body::ByName,
}

#[derive(Debug, Deserialize, Validate)]
struct ItemBody {
    #[garde(custom(names_a_product))]
    product_id: String,
    #[garde(range(min = 1, max = 100))]
    quantity: i64,
    #[garde(skip)]
    #[serde(flatten)]
    _by_name: body::ByName,
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
    let key = KeyRule::default().require(&headers)?;
    let told = rate::take(&shop.rate, &client).await?;
    let order: OrderBody = parse_json(&body)?;
    order.validate().map_err(FieldErrors::from)?;
    let key = OrderKey {
        key: Scope::of([&*client, b"POST", b"/orders"]).key(&key),
        fingerprint: FingerprintRule::of_json(&body),
    };
    match shop.ordering.place(&order.into(), &key, answer).await? {
        Acceptance::Accepted(answer) => sent(answer.into_answer(), told),
        Acceptance::Replayed(record) => {
            let answer = StoredResponse::decode(&record).map_err(Problem::internal)?;
            sent(answer.into_replay(), told)
        }
        Acceptance::Refused(refusal) => Err(refusal.into()),
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

/// The answer to an accepted order, as it is kept and sent again to the byte.
fn answer(order: &Order) -> StoredResponse {
    let body = serde_json::to_vec(&Envelope::new(order))
        .expect("an order is strings, numbers and lists of them");
    let location = HeaderValue::try_from(format!("/orders/{}", order.id))
        .expect("an order's id is hexadecimal digits");
    let mut answer = http::Response::new(Bytes::from(body));
    *answer.status_mut() = StatusCode::ACCEPTED;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer.headers_mut().insert(header::LOCATION, location);
    StoredResponse::of(&answer, &ReplayedHeaders::all())
}

/// Every answer here is kept with its body. The rate is told anew each time.
fn sent(answer: Option<http::Response<Bytes>>, rate: HeaderMap) -> Result<Response, Problem> {
    let mut answer = answer.ok_or_else(|| Problem::internal(HttpRefusal::AnswerNotKept))?;
    answer.headers_mut().extend(rate);
    Ok(answer.map(Body::from))
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
    let request = cursor::read(List::Orders, &query)?;
    let before = request.after().map(String::as_str);
    let rows = shop.ordering.page(before, request.fetch().into()).await?;
    let page = request.page(rows, |order| order.id.clone())?;
    Ok(page.into())
}
