//! Services that are killed in the middle of a request, and whose client never comes again.

use std::{env, path::Path, sync::Arc, time::Duration};

use axum::{Router, extract::Extension, response::IntoResponse, routing::post};
use buttress_idempotency::{
    Completer, Idempotency, Policy, Scope,
    store::{MySqlStore, PostgresStore, Store},
    tower::{IdempotencyLayer, Idempotent, KeptRequests, Redriven},
};
use buttress_store::{Deadline, Guarded, LeaseTerms, SqlDatabase, StoreError};
use buttress_testkit::{
    child::{Child, Role, Spawn, role},
    eventually,
};
use bytes::Bytes;
use http::StatusCode;
use sqlx::Pool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    completer::eager,
    stand::{OnMySql, OnPostgres, OnSqlite, SECOND, open, sql},
};

const TABLES: [&str; 2] = [
    "CREATE TABLE rides (number BIGINT, token BIGINT)",
    "CREATE TABLE charges (number BIGINT, token VARCHAR(64))",
];

/// Where it is killed: between any two steps.
const POINTS: [&str; 5] = [
    "begun",
    "ride passed",
    "ride committed",
    "charged",
    "charge passed",
];

/// A ride that kills whoever drives it.
const POISON: &str = "poison";

/// Who asks, as authentication has found him.
#[derive(Clone, Debug)]
struct Caller(Bytes);

type At = dyn Fn(&'static str) + Send + Sync;

/// What the handler works on. `at` is told each step.
struct Rides<DB: SqlDatabase> {
    pool: Pool<DB>,
    at: Box<At>,
}

impl<DB: SqlDatabase> Rides<DB>
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    async fn write(connection: &mut DB::Connection, text: String) -> Result<(), StoreError> {
        let done = sqlx::query::<DB>(sql(text)).execute(connection).await;
        done.map_err(StoreError::in_transaction).map(drop)
    }

    /// As a handler would write it: a ride here, a charge elsewhere, an answer.
    async fn ride(&self, handed: &Idempotent, number: i64) -> Option<String> {
        let mut guard = handed.take()?;
        (self.at)("begun");
        let token: i64 = match guard.passed("ride").ok()? {
            Some(token) => token,
            None => {
                let token: u32 = rand::random();
                let deadline = Deadline::after(Deadline::SQL);
                let mut transaction = Guarded::begin(&self.pool, deadline).await.ok()?;
                let text = format!("INSERT INTO rides VALUES ({number}, {token})");
                Self::write(&mut transaction, text).await.ok()?;
                let passed = guard.phase_in(&mut *transaction, "ride", &token);
                passed.await.ok()?;
                (self.at)("ride passed");
                transaction.commit().await.ok()?;
                (self.at)("ride committed");
                token.into()
            }
        };
        let charge: String = match guard.passed("charge").ok()? {
            Some(charge) => charge,
            None => {
                let charge = guard.derived_key("charge");
                let mut elsewhere = self.pool.acquire().await.ok()?;
                // He knows his keys.
                let text = format!(
                    "INSERT INTO charges SELECT {number}, '{charge}' FROM (SELECT 1 AS one) AS one \
                     WHERE NOT EXISTS (SELECT 1 FROM charges WHERE token = '{charge}')"
                );
                Self::write(&mut elsewhere, text).await.ok()?;
                drop(elsewhere);
                (self.at)("charged");
                guard.phase("charge", &charge).await.ok()?;
                (self.at)("charge passed");
                charge
            }
        };
        handed.give_back(guard);
        Some(format!("ride {token}, charge {charge}"))
    }

    /// With empty tables, and nobody who listens.
    async fn open(pool: Pool<DB>) -> Arc<Self> {
        for table in TABLES {
            let mut connection = pool.acquire().await.unwrap();
            let create = sqlx::query::<DB>(table);
            create.execute(&mut *connection).await.unwrap();
        }
        let at = Box::new(|_| ());
        Arc::new(Self { pool, at })
    }

    async fn count(&self, table: &str, number: usize) -> i64 {
        let text = format!("SELECT COUNT(*), COUNT(token) FROM {table} WHERE number = {number}");
        self.number(text).await
    }

    /// How many keys are done.
    async fn done(&self) -> i64 {
        let done = "SELECT COUNT(*), COUNT(state) FROM buttress_idempotency WHERE state = 2";
        self.number(done.to_owned()).await
    }

    async fn number(&self, text: String) -> i64 {
        let mut connection = self.pool.acquire().await.unwrap();
        let count = sqlx::query_as::<DB, (i64, i64)>(sql(text));
        let (rows, _) = count.fetch_one(&mut *connection).await.unwrap();
        rows
    }
}

/// Leases of this length, which are held for as long as their holder lives.
fn handle(store: impl Store + 'static, lease: Duration) -> Idempotency {
    let lease = LeaseTerms::new(lease).unwrap().with_ceiling(1000).unwrap();
    let policy = Policy::builder().lease(lease).build().unwrap();
    Idempotency::builder(store).policy(policy).build()
}

/// The service, as it is in each of its processes, and the layer in it.
fn service<DB: SqlDatabase>(
    rides: Arc<Rides<DB>>,
    idempotency: Idempotency,
) -> (Router, IdempotencyLayer)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let kept = KeptRequests::new("rides").unwrap().caller(
        |head| head.extensions.get().map(|Caller(name)| name.clone()),
        |name, head| {
            let caller = Caller(Bytes::copy_from_slice(name));
            head.extensions.insert(caller);
            true
        },
    );
    let layer = IdempotencyLayer::for_axum(idempotency, |head| {
        let Caller(name) = head.extensions.get()?;
        Some(Scope::of([name]))
    });
    let layer = layer.keep_requests(kept).unwrap();
    let place =
        async move |Extension(caller): Extension<Caller>, handed: Idempotent, body: String| {
            assert_eq!(caller.0, "ann");
            if body == POISON {
                std::process::abort();
            }
            match rides.ride(&handed, body.parse().unwrap()).await {
                Some(answer) => (StatusCode::CREATED, answer).into_response(),
                None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        };
    let authenticate = async |mut request: axum::extract::Request, next: axum::middleware::Next| {
        let token = request.headers().get("authorization");
        let ann = token.is_some_and(|it| it == "Bearer ann");
        if request.extensions().get::<Redriven>().is_none() {
            if !ann {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            request.extensions_mut().insert(Caller("ann".into()));
        }
        next.run(request).await
    };
    let router = Router::new()
        .route("/rides", post(place))
        .layer(layer.clone())
        .layer(axum::middleware::from_fn(authenticate));
    (router, layer)
}

/// Serves, and says at which port; or completes what others have left.
async fn run<DB: SqlDatabase>(role: Arc<Role>, pool: Pool<DB>, store: impl Store + 'static)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let point = env::var("POINT").unwrap_or_default();
    let waits = Arc::clone(&role);
    let at = Box::new(move |here: &'static str| {
        if here == point {
            waits.wait_at(here);
        }
    });
    let rides = Arc::new(Rides { pool, at });
    let (router, layer) = service(rides, handle(store, SECOND / 2));
    if env::var("COMPLETES").is_ok() {
        let completer = eager(layer.completer(router).unwrap()).drives(3).unwrap();
        role.announce("completes", "");
        completer.run_until(std::future::pending()).await;
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        role.announce("listens", &port.to_string());
        axum::serve(listener, router).await.unwrap();
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn play(role: Role) {
    let (store, url) = (env::var("STORE").unwrap(), env::var("URL").unwrap());
    let role = Arc::new(role);
    match &*store {
        "postgres" => {
            let pool = sqlx::PgPool::connect(&url).await.unwrap();
            let store = PostgresStore::new(pool.clone()).unwrap();
            run(role, pool, store).await;
        }
        "mysql" => {
            let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
            let store = MySqlStore::new(pool.clone()).unwrap();
            run(role, pool, store).await;
        }
        _ => {
            let (writer, store) = open(&url);
            run(role, writer.pool().clone(), store).await;
        }
    }
}

#[test]
fn service_role() {
    if let Some(role) = role("service") {
        play(role);
    }
}

fn child(store: &str, url: &str) -> Spawn {
    Child::role("service", "redriven::killed::service_role")
        .environment("STORE", store)
        .environment("URL", url)
}

/// A client who asks this once. What he is told, if anything.
async fn asks(port: &str, key: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.ok()?;
    let request = format!(
        "POST /rides HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: {key}\r\n\
         Authorization: Bearer ann\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A completer in this process.
fn completes<DB: SqlDatabase>(rides: &Arc<Rides<DB>>, store: impl Store + 'static) -> Completer
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let idempotency = handle(store, 30 * SECOND);
    let (router, layer) = service(Arc::clone(rides), idempotency);
    eager(layer.completer(router).unwrap())
}

/// Killed at each point; two completers find it; its client comes much later.
async fn kill_everywhere<DB: SqlDatabase>(
    pool: Pool<DB>,
    store: impl Store + Clone + 'static,
    [name, url]: [&str; 2],
) where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
    (i64, i64): for<'r> sqlx::FromRow<'r, DB::Row>,
{
    let rides = Rides::open(pool).await;
    for (number, point) in POINTS.into_iter().enumerate() {
        let mut service = child(name, url).environment("POINT", point).spawn();
        let port = service.until("listens").await;
        let key = format!("ride {number}");
        let client = {
            let (port, key) = (port.clone(), key.clone());
            tokio::spawn(async move { asks(&port, &key, &number.to_string()).await })
        };
        service.until(point).await;
        service.kill();
        assert!(client.await.unwrap().is_none(), "he is told nothing");
    }
    let mut completers: Vec<_> = (0..2).map(|_| completes(&rides, store.clone())).collect();
    eventually("all are finished", 60 * SECOND, async || {
        let [one, two] = &mut completers[..] else {
            unreachable!()
        };
        let _ = tokio::join!(one.run_once(), two.run_once());
        (rides.done().await == 5).then_some(())
    })
    .await;
    let mut service = child(name, url).spawn();
    let port = service.until("listens").await;
    for (number, point) in POINTS.into_iter().enumerate() {
        for table in ["rides", "charges"] {
            assert_eq!(rides.count(table, number).await, 1, "{table}, {point}");
        }
        let key = format!("ride {number}");
        let (first, again) = (
            asks(&port, &key, &number.to_string()).await.unwrap(),
            asks(&port, &key, &number.to_string()).await.unwrap(),
        );
        assert_eq!((first.0, &first), (201, &again), "{point}");
        assert_eq!(rides.count("rides", number).await, 1, "{point}");
    }
    service.kill();
}

#[tokio::test]
async fn killed_between_phases_over_http_on_postgres_it_is_finished_without_its_client() {
    let _tally = buttress_testkit::tally::suite("ID1 ID2 X5");
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let at = ["postgres", on.database.url()];
    kill_everywhere(on.pool.clone(), on.store.clone(), at).await;
    on.close().await;
}

#[tokio::test]
async fn killed_between_phases_over_http_on_mysql_it_is_finished_without_its_client() {
    let _tally = buttress_testkit::tally::suite("ID1 ID2 X5");
    let Some(on) = OnMySql::start().await else {
        return;
    };
    let at = ["mysql", on.database.url()];
    kill_everywhere(on.pool.clone(), on.store.clone(), at).await;
    on.close().await;
}

fn file(folder: &Path) -> String {
    folder.join("test.db").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn killed_between_phases_over_http_on_sqlite_it_is_finished_without_its_client() {
    let _tally = buttress_testkit::tally::suite("ID1 ID2 X5");
    let on = OnSqlite::start().await;
    let (pool, file) = (on.writer.pool().clone(), file(on.folder.path()));
    kill_everywhere(pool, on.store.clone(), ["sqlite", &file]).await;
}

/// What was begun by a client is killed in the hands of a completer, at each point, too.
#[tokio::test]
async fn a_completer_that_is_killed_at_any_point_loses_no_request() {
    let _tally = buttress_testkit::tally::suite("ID1 ID2 X5");
    let on = OnSqlite::start().await;
    let file = file(on.folder.path());
    let rides = Rides::open(on.writer.pool().clone()).await;
    let mut service = child("sqlite", &file).environment("POINT", "begun").spawn();
    let port = service.until("listens").await;
    let client = tokio::spawn(async move { asks(&port, "one", "1").await });
    service.until("begun").await;
    service.kill();
    assert!(client.await.unwrap().is_none());
    for point in POINTS {
        let completer = child("sqlite", &file).environment("COMPLETES", "yes");
        let mut completer = completer.environment("POINT", point).spawn();
        completer.until(point).await;
        completer.kill();
    }
    let mut completer = completes(&rides, on.store.clone());
    eventually("it is finished", 60 * SECOND, async || {
        let _ = completer.run_once().await;
        (rides.done().await == 1).then_some(())
    })
    .await;
    for table in ["rides", "charges"] {
        assert_eq!(rides.count(table, 1).await, 1, "{table}");
    }
}

/// Of four requests one takes its process with it each time.
#[tokio::test]
async fn a_request_that_kills_its_process_is_parked_and_its_neighbours_are_finished() {
    let _tally = buttress_testkit::tally::suite("ID2 X5");
    let on = OnSqlite::start().await;
    let file = file(on.folder.path());
    let rides = Rides::open(on.writer.pool().clone()).await;
    let clients = [("1", "1"), ("2", POISON), ("3", "3"), ("4", "4")];
    for (key, body) in clients {
        let point = if body == POISON { "" } else { "charge passed" };
        let mut service = child("sqlite", &file).environment("POINT", point).spawn();
        let port = service.until("listens").await;
        let client = tokio::spawn(async move { asks(&port, key, body).await });
        match body {
            POISON => drop(service.end().await),
            _ => {
                service.until(point).await;
                service.kill();
            }
        }
        assert!(client.await.unwrap().is_none());
    }
    // Completers that are started anew whenever one dies.
    let mut deaths = 0;
    let idempotency = handle(on.store.clone(), SECOND);
    let parked = loop {
        let completer = child("sqlite", &file).environment("COMPLETES", "yes");
        let mut completer = completer.spawn();
        completer.until("completes").await;
        let left = eventually("the others are finished", 60 * SECOND, async || {
            let left = idempotency.unfinished(Duration::ZERO, 10).await.ok()?;
            (left.len() == 1 && left[0].parked).then_some(left)
        });
        tokio::select! {
            _ = completer.end() => deaths += 1,
            left = left => break left,
        }
    };
    // A drive whose lease a slow machine let lapse has counted as well.
    assert!((1..=3).contains(&deaths), "{deaths}");
    assert_eq!(parked[0].drives, 3);
    for number in [1, 3, 4] {
        assert_eq!(rides.count("rides", number).await, 1);
        assert_eq!(rides.count("charges", number).await, 1);
    }
}
