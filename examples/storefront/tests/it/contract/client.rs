//! A client that has read the contract: it knows base URLs and HTTP, and nothing of how the shop is made. What every
//! answer must have it looks at with each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use reqwest::{
    Method, Request, RequestBuilder, Response,
    header::{HeaderMap, HeaderValue},
};
use serde_json::{Value, json};

pub(super) const JSON: &str = "application/json";
pub(super) const PROBLEM: &str = "application/problem+json";

/// How long an order may take: sixty seconds of the contract's, and what a loaded machine takes. The demonstration looks
/// at the sixty.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
const OFTEN: Duration = Duration::from_millis(50);

/// Words that no body of an error may hold: of statements, of paths, of types.
const INTERNAL: [&str; 12] = [
    "SELECT", "INSERT", "UPDATE", "sqlx", "serde", "::", "src/", ".rs", ".db", "panick", "/tmp",
    "Error(",
];

/// A customer of the shop, at one instance or at any of them in turn.
#[derive(Clone)]
pub(super) struct Client {
    /// Where it runs, for the words of a failure.
    pub(super) name: &'static str,
    pub(super) urls: Vec<String>,
    http: reqwest::Client,
    api_key: Option<String>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: AtomicUsize,
    customers: AtomicUsize,
    /// What somebody has set a product's stock to, before any order of it.
    starting: Mutex<BTreeMap<String, i64>>,
    /// Every order that anybody was told to be accepted.
    accepted: Mutex<BTreeSet<String>>,
}

impl Client {
    pub(super) fn new(name: &'static str, urls: Vec<String>) -> Self {
        Self {
            name,
            urls,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            api_key: None,
            shared: Arc::default(),
        }
    }

    /// The same shop, reached at other addresses from now on.
    pub(super) fn moved(&self, urls: Vec<String>) -> Self {
        let shop = self.clone();
        Self { urls, ..shop }
    }

    /// Somebody whose keys and rate are his own.
    pub(super) fn customer(&self) -> Self {
        let number = self.shared.customers.fetch_add(1, Relaxed);
        let shop = self.clone();
        Self {
            api_key: Some(format!("customer-{number}")),
            ..shop
        }
    }

    /// The same customer, at one instance only.
    pub(super) fn at(&self, instance: usize) -> Self {
        self.moved(vec![self.urls[instance % self.urls.len()].clone()])
    }

    /// One customer at each of the instances.
    pub(super) fn each(&self) -> impl Iterator<Item = Self> {
        (0..self.urls.len()).map(|instance| self.at(instance))
    }

    pub(super) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let next = self.shared.next.fetch_add(1, Relaxed);
        let url = format!("{}{path}", self.urls[next % self.urls.len()]);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, url);
        match &self.api_key {
            Some(key) => request.header("x-api-key", key),
            None => request,
        }
    }

    /// Sends it, and looks at what every answer must have.
    ///
    /// Comes again, as the contract has it, when the database has not answered for its five seconds: on a machine that is
    /// short of time it may not. One that is told to be away any sooner is away.
    pub(super) async fn send(&self, request: RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let mut patience = 5;
        loop {
            let asked = Instant::now();
            let answer = self.sent(request.try_clone().unwrap()).await;
            let is_slow =
                answer.code() == "UNAVAILABLE" && asked.elapsed() > Duration::from_secs(4);
            if !is_slow || patience == 0 {
                return answer;
            }
            patience -= 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn sent(&self, request: Request) -> Answer {
        let asked = format!("{}: {} {}", self.name, request.method(), request.url());
        let is_head = request.method() == Method::HEAD;
        let id = request.headers().get("x-request-id").cloned();
        let sent = self.http.execute(request).await;
        let response = sent.unwrap_or_else(|error| panic!("{asked}: {error:?}"));
        let answer = Answer::read(asked, response).await;
        answer.has_what_all_have(is_head, id.as_ref().map(HeaderValue::as_bytes));
        if answer.status == 202 {
            let id = answer.header("location").strip_prefix("/orders/").unwrap();
            let mut accepted = self.shared.accepted.lock().unwrap();
            accepted.insert(id.to_owned());
        }
        answer
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    /// Sends a body that calls itself JSON.
    pub(super) async fn send_json(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let request = self.request(method, path).header("content-type", JSON);
        self.send(request.body(body.into())).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send_json("POST", path, body.to_string()).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send_json("PATCH", path, body.to_string()).await
    }

    /// An order under a key, not sent yet.
    pub(super) fn order(&self, key: &str) -> RequestBuilder {
        let request = self.request("POST", "/orders").header("content-type", JSON);
        request.header("idempotency-key", key.as_bytes())
    }

    pub(super) async fn place(&self, key: &str, order: &Value) -> Answer {
        self.send(self.order(key).body(order.to_string())).await
    }

    /// Places an order, which must be taken, and gives its id.
    pub(super) async fn placed(&self, key: &str, order: &Value) -> String {
        let answer = self.place(key, order).await;
        answer.is(202);
        answer.data()["id"].as_str().unwrap().to_owned()
    }

    /// The order, once it is no longer pending.
    pub(super) async fn settled(&self, id: &str) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.get(&format!("/orders/{id}")).await;
            answer.is(200);
            if answer.data()["status"] != "pending" {
                return answer.data().clone();
            }
            assert!(begun.elapsed() < SETTLED_WITHIN, "{answer}: still pending");
            tokio::time::sleep(OFTEN).await;
        }
    }

    /// Every item of a paged list.
    pub(super) async fn all(&self, list: &str, limit: usize) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = format!("/{list}?limit={limit}");
        loop {
            let page = self.get(&path).await;
            page.is(200);
            let items = page.data().as_array().unwrap();
            all.extend(items.iter().cloned());
            let Some(cursor) = page.meta()["next_cursor"].as_str() else {
                assert!(page.meta()["next_cursor"].is_null(), "{page}");
                return all;
            };
            assert_eq!(items.len(), limit, "{page}: not full, and there is more");
            path = format!("/{list}?limit={limit}&cursor={cursor}");
        }
    }

    /// All that the subscriber has applied, page by page.
    pub(super) async fn events(&self) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.get(&format!("/events?after={after}&limit=1000")).await;
            page.is(200);
            let page = page.data().as_array().unwrap().clone();
            let Some(last) = page.last() else {
                return all;
            };
            after = last["seq"].as_i64().unwrap();
            all.extend(page);
        }
    }

    pub(super) async fn charges(&self) -> Vec<Value> {
        let ledger = self.get("/ledger").await;
        ledger.is(200);
        ledger.data()["charges"].as_array().unwrap().clone()
    }

    /// Breaks a service behind every instance.
    pub(super) async fn fault(&self, target: &str, mode: &str, rate: f64, latency_ms: u64) {
        let fault =
            json!({ "target": target, "mode": mode, "rate": rate, "latency_ms": latency_ms });
        for instance in self.each() {
            instance.post("/faults", &fault).await.is(204);
        }
    }

    /// Changes a starting stock, before anybody orders of it.
    pub(super) async fn stocked(&self, product: &str, stock: i64) {
        let change = json!({ "stock": stock });
        let answer = self.patch(&format!("/products/{product}"), &change).await;
        answer.is(200);
        assert_eq!(answer.data()["stock"], stock, "{answer}");
        let mut starting = self.shared.starting.lock().unwrap();
        starting.insert(product.to_owned(), stock);
    }

    /// With how many pieces of it the shop began.
    pub(super) fn starting_stock(&self, product: &str) -> i64 {
        let starting = self.shared.starting.lock().unwrap();
        starting.get(product).copied().unwrap_or(1000)
    }

    /// The ids of all orders that were accepted.
    pub(super) fn accepted(&self) -> BTreeSet<String> {
        self.shared.accepted.lock().unwrap().clone()
    }

    /// Looks again until it is so.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            assert!(begun.elapsed() < within, "{}: not yet: {what}", self.name);
            tokio::time::sleep(OFTEN).await;
        }
    }
}

/// What came back. Shown, it says what was asked as well.
pub(super) struct Answer {
    asked: String,
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) bytes: Vec<u8>,
    body: Value,
}

impl Answer {
    async fn read(asked: String, response: Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = response.bytes().await;
        let bytes = bytes
            .unwrap_or_else(|error| panic!("{asked}: {error:?}"))
            .to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self {
            asked,
            status,
            headers,
            bytes,
            body,
        }
    }

    fn has_what_all_have(&self, is_head: bool, id: Option<&[u8]>) {
        let given = self.header("x-request-id");
        assert!(is_request_id(given.as_bytes()), "{self}: {given}");
        match id {
            Some(id) if is_request_id(id) => assert_eq!(given.as_bytes(), id, "{self}"),
            Some(id) => assert_ne!(given.as_bytes(), id, "{self}"),
            None => {}
        }
        assert_eq!(
            self.headers.get_all("x-request-id").iter().count(),
            1,
            "{self}"
        );
        if let Some(wait) = self.may("retry-after") {
            assert!(
                wait.parse::<u64>().is_ok_and(|seconds| seconds >= 1),
                "{self}: {wait}"
            );
        }
        let waits = matches!(self.status, 409 | 429 | 503);
        assert!(
            self.may("retry-after").is_some() || !waits,
            "{self}: no Retry-After"
        );
        assert_eq!(self.may("allow").is_some(), self.status == 405, "{self}");
        if is_head || matches!(self.status, 204 | 304) {
            assert!(self.bytes.is_empty(), "{self}");
        } else if self.status >= 400 {
            self.has_an_errors_shape();
        } else if self.may("content-type") == Some(JSON) && self.body.get("openapi").is_none() {
            let keys = keys(&self.body);
            assert!(
                keys == ["data", "success"] || keys == ["data", "meta", "success"],
                "{self}"
            );
            assert_eq!(self.body["success"], true, "{self}");
        }
    }

    fn has_an_errors_shape(&self) {
        let varies = self.headers.get_all("vary").iter();
        let mut varies = varies.flat_map(|vary| vary.to_str().unwrap().split(','));
        assert!(
            varies.any(|vary| vary.trim().eq_ignore_ascii_case("accept")),
            "{self}: no Vary"
        );
        match self.header("content-type") {
            JSON => {
                assert_eq!(keys(&self.body), ["error", "success"], "{self}");
                assert_eq!(self.body["success"], false, "{self}");
                let error = keys(&self.body["error"]);
                assert!(
                    error == ["code", "message"] || error == ["code", "details", "message"],
                    "{self}"
                );
            }
            PROBLEM => {
                assert_eq!(self.body["status"], self.status, "{self}");
                assert!(self.body["title"].is_string(), "{self}");
            }
            other => panic!("{self}: {other}"),
        }
        assert!(
            !self.code().is_empty() && !self.message().is_empty(),
            "{self}"
        );
        let text = String::from_utf8_lossy(&self.bytes);
        let internal = INTERNAL.iter().find(|word| text.contains(**word));
        assert_eq!(internal, None, "{self}");
    }

    #[track_caller]
    pub(super) fn is(&self, status: u16) {
        assert_eq!(self.status, status, "{self}");
    }

    /// Checks that it is the error of that status and code.
    #[track_caller]
    pub(super) fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{self}");
    }

    pub(super) fn code(&self) -> &str {
        let code = self.body["error"]
            .get("code")
            .or_else(|| self.body.get("code"));
        code.and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn message(&self) -> &str {
        let message = self.body["error"]
            .get("message")
            .or_else(|| self.body.get("detail"));
        message.and_then(Value::as_str).unwrap_or_default()
    }

    /// The fields that are told to be wrong.
    #[track_caller]
    pub(super) fn fields(&self) -> Vec<String> {
        self.refused(422, "VALIDATION_FAILED");
        keys(&self.body["error"]["details"])
    }

    pub(super) fn data(&self) -> &Value {
        &self.body["data"]
    }

    pub(super) fn meta(&self) -> &Value {
        &self.body["meta"]
    }

    pub(super) fn body(&self) -> &Value {
        &self.body
    }

    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        self.may(name)
            .unwrap_or_else(|| panic!("{self}: no {name}"))
    }

    pub(super) fn may(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        let text: String = text.chars().take(600).collect();
        write!(f, "{} was answered {} {text}", self.asked, self.status)
    }
}

/// The names of an object's members, in order.
pub(super) fn keys(value: &Value) -> Vec<String> {
    let members = value.as_object().into_iter().flatten();
    let mut keys: Vec<_> = members.map(|(name, _)| name.clone()).collect();
    keys.sort();
    keys
}

/// Two pieces of a product, by somebody who can pay.
pub(super) fn two_of(product: &str) -> Value {
    json!({
        "customer": "Ada",
        "items": [{ "product_id": product, "quantity": 2 }],
        "payment_method": "pm_ok",
    })
}

/// The order with other members.
pub(super) fn with(order: &Value, change: &Value) -> Value {
    let mut order = order.clone();
    let members = change.as_object().unwrap().clone();
    order.as_object_mut().unwrap().extend(members);
    order
}

fn is_request_id(id: &[u8]) -> bool {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=64).contains(&id.len()) && id.iter().all(good)
}
