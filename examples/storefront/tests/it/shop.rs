//! One instance of the program, and a client of its HTTP.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use buttress_testkit::{mysql, postgres};
use futures_util::future::join_all;
use nix::{sys::signal::Signal, unistd::Pid};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

/// How long the shop may take to settle what it can settle.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A database for one test, gone with it.
pub(crate) enum Database {
    Sqlite(tempfile::TempDir),
    Postgres(postgres::Database),
    MySql(mysql::Database),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// SQLite, and the servers that are there.
    pub(crate) async fn each() -> Vec<Self> {
        let mut each = vec![Self::sqlite()];
        each.extend(Self::servers().await);
        each
    }

    /// PostgreSQL and MySQL, where they are there.
    pub(crate) async fn servers() -> Vec<Self> {
        let mysql = mysql::fresh_database().await.map(Self::MySql);
        Self::postgres().await.into_iter().chain(mysql).collect()
    }

    /// PostgreSQL, where it is there.
    pub(crate) async fn postgres() -> Option<Self> {
        postgres::fresh_database().await.map(Self::Postgres)
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("shop.db").display()),
            Self::Postgres(database) => database.url().to_owned(),
            Self::MySql(database) => database.url().to_owned(),
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(database) => database.close().await.unwrap(),
            Self::MySql(database) => database.close().await.unwrap(),
        }
    }
}

/// The same on each database, side by side.
pub(crate) async fn on_each<F: Future<Output = ()>>(test: impl Fn(Database) -> F) {
    join_all(Database::each().await.into_iter().map(test)).await;
}

/// The same on PostgreSQL and MySQL.
pub(crate) async fn on_servers<F: Future<Output = ()>>(test: impl Fn(Database) -> F) {
    join_all(Database::servers().await.into_iter().map(test)).await;
}

/// A running instance. Killed when it is dropped.
pub(crate) struct Shop {
    child: Child,
    address: String,
    http: reqwest::Client,
    /// Open for as long as it runs: nobody may write to a pipe that nobody reads.
    out: BufReader<ChildStdout>,
    log: PathBuf,
    _log_folder: tempfile::TempDir,
    /// Kept for as long as the instance runs, where nobody else does.
    _database: Option<Database>,
}

impl Shop {
    /// With a database of its own, SQLite.
    pub(crate) fn alone() -> Self {
        let database = Database::sqlite();
        let mut shop = Self::start(&database);
        shop._database = Some(database);
        shop
    }

    pub(crate) fn start(database: &Database) -> Self {
        Self::start_with(database, &["--faults"])
    }

    pub(crate) fn start_with(database: &Database, options: &[&str]) -> Self {
        Self::spawn(database, options).ready()
    }

    pub(crate) fn start_at(database_url: &str, options: &[&str]) -> Self {
        Self::spawn_at(database_url, options, &[]).ready()
    }

    /// Starts the program, without waiting until it is ready.
    pub(crate) fn spawn(database: &Database, options: &[&str]) -> Starting {
        Self::spawn_at(&database.url(), options, &[])
    }

    /// The same with a variable in its environment, and faults allowed.
    pub(crate) fn spawn_with_env(database: &Database, name: &str, value: &str) -> Starting {
        Self::spawn_at(&database.url(), &["--faults"], &[(name, value)])
    }

    fn spawn_at(database_url: &str, options: &[&str], variables: &[(&str, &str)]) -> Starting {
        Self::spawn_as(|command| {
            command.args(options);
            command.env("STOREFRONT_DATABASE_URL", database_url);
            command.envs(variables.iter().copied());
        })
    }

    /// Starts it with what `own` adds: the database at least, or a folder of its own.
    pub(crate) fn spawn_as(own: impl FnOnce(&mut Command)) -> Starting {
        let log_folder = tempfile::tempdir().unwrap();
        let log = log_folder.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_storefront"));
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env_remove("STOREFRONT_DATABASE_URL")
            // Most tests are one client in a hurry; those of the rate choose their own.
            .env("STOREFRONT_ORDER_RATE", "100000")
            .env_remove("STOREFRONT_REDIS_URL")
            .env_remove("STOREFRONT_NATS_URL")
            .env_remove("STOREFRONT_OTLP")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        own(&mut command);
        let child = command.spawn().unwrap();
        Starting {
            child,
            log,
            log_folder,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.url(path))
    }

    pub(crate) fn patch(&self, path: &str) -> RequestBuilder {
        self.http.patch(self.url(path))
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.http.request(method.parse().unwrap(), self.url(path))
    }

    /// Sends an order under `key`.
    pub(crate) async fn order(&self, key: &str, order: &Value) -> Response {
        let request = self.post("/orders").header("idempotency-key", key);
        request.json(order).send().await.unwrap()
    }

    /// Sends an order and gives its id.
    pub(crate) async fn accepted(&self, key: &str, order: &Value) -> String {
        let response = self.order(key, order).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        data(response).await["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn read(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        response.json().await.unwrap()
    }

    /// Waits until a read succeeds.
    pub(crate) async fn reads_again(&self, path: &str, within: Duration) {
        let begun = Instant::now();
        loop {
            let status = self.get(path).send().await.unwrap().status();
            if status.is_success() {
                return;
            }
            assert!(begun.elapsed() < within, "{path}: still {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The order, once it is no longer pending.
    pub(crate) async fn settled(&self, id: &str) -> Value {
        let begun = Instant::now();
        loop {
            let order = self.read(&format!("/orders/{id}")).await["data"].take();
            if order["status"] != "pending" {
                return order;
            }
            assert!(begun.elapsed() < SETTLED_WITHIN, "still pending: {order}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every item of a paged list.
    pub(crate) async fn all(&self, list: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = format!("/{list}?limit=100");
        loop {
            let page = self.read(&path).await;
            all.extend(page["data"].as_array().unwrap().iter().cloned());
            let Some(cursor) = page["meta"]["next_cursor"].as_str() else {
                return all;
            };
            path = format!("/{list}?limit=100&cursor={cursor}");
        }
    }

    /// What the subscriber has applied, page by page.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let path = format!("/events?after={after}&limit=1000");
            let page = self.read(&path).await["data"].take();
            let page = page.as_array().unwrap();
            let Some(last) = page.last() else {
                return all;
            };
            after = last["seq"].as_i64().unwrap();
            all.extend(page.iter().cloned());
        }
    }

    pub(crate) async fn fault(&self, target: &str, mode: &str, rate: f64, latency_ms: u64) {
        let fault =
            json!({ "target": target, "mode": mode, "rate": rate, "latency_ms": latency_ms });
        let response = self.post("/faults").json(&fault).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub(crate) fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the program's own end.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < within {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// What it has written to standard output after the line that says where it listens, once it has ended.
    pub(crate) fn rest_of_its_output(&mut self) -> String {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        rest
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Checks what must hold for a shop in which nothing is pending: stock, money, keys.
    pub(crate) async fn assert_invariants(&self, starting_stock: i64) {
        let orders = self.all("orders").await;
        let charges = self.read("/ledger").await["data"]["charges"].take();
        let charges = charges.as_array().unwrap();
        for order in &orders {
            let own: Vec<_> = charges
                .iter()
                .filter(|charge| charge["order_id"] == order["id"])
                .collect();
            match order["status"].as_str().unwrap() {
                "confirmed" => {
                    assert_eq!(own.len(), 1, "{order}");
                    assert_eq!(
                        (&own[0]["amount"], &own[0]["refunded"]),
                        (&order["total"], &json!(0))
                    );
                    assert_eq!(order["reason"], Value::Null);
                }
                "cancelled" => {
                    assert!(own.len() <= 1, "{order}");
                    assert!(
                        own.iter()
                            .all(|charge| charge["amount"] == charge["refunded"]),
                        "{order}"
                    );
                    assert!(order["reason"].is_string(), "{order}");
                }
                other => panic!("{other}: {order}"),
            }
        }
        for product in self.all("products").await {
            let sold: i64 = orders
                .iter()
                .filter(|order| order["status"] == "confirmed")
                .flat_map(|order| order["items"].as_array().unwrap())
                .filter(|item| item["product_id"] == product["id"])
                .map(|item| item["quantity"].as_i64().unwrap())
                .sum();
            assert_eq!(
                product["stock"].as_i64().unwrap() + sold,
                starting_stock,
                "{product}"
            );
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that was started and is not ready yet.
pub(crate) struct Starting {
    child: Child,
    log: PathBuf,
    log_folder: tempfile::TempDir,
}

impl Starting {
    /// Waits for the line that says where it listens.
    pub(crate) fn ready(mut self) -> Shop {
        let mut line = String::new();
        let mut out = BufReader::new(self.child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").map(str::trim_end);
        let Some(address) = address else {
            let log = std::fs::read_to_string(&self.log).unwrap();
            panic!("did not start: {line:?}\n{log}");
        };
        Shop {
            address: address.to_owned(),
            child: self.child,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            out,
            log: self.log,
            _log_folder: self.log_folder,
            _database: None,
        }
    }
}

/// An order of two pieces of one product.
pub(crate) fn two_of(product: &str) -> Value {
    json!({
        "customer": "Ada",
        "items": [{ "product_id": product, "quantity": 2 }],
        "payment_method": "pm_ok",
    })
}

/// The `data` of a success.
pub(crate) async fn data(response: Response) -> Value {
    let mut body: Value = response.json().await.unwrap();
    assert_eq!(body["success"], true, "{body}");
    body["data"].take()
}

/// Checks that a response is the error `code` in the shop's shape, and gives its `error`.
pub(crate) async fn error(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status().as_u16(), status, "expected {code}");
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers.contains_key("x-request-id"));
    assert!(
        headers
            .get_all("vary")
            .iter()
            .any(|vary| vary.to_str().unwrap().eq_ignore_ascii_case("accept"))
    );
    let mut body: Value = response.json().await.unwrap();
    assert_eq!(body["success"], false, "{body}");
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(
        body["error"]["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{body}"
    );
    body["error"].take()
}
