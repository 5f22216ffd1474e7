//! A handler inside the layer completes its key in its own transaction.

use std::convert::Infallible;

use buttress_idempotency::{Idempotency, store::SqliteStore, tower::Idempotent};
use buttress_store::sqlite::{Writer, options};
use buttress_store::{Deadline, Guarded};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

use super::stand::{Asked, Stand, ask, post};

/// What a handler does after it has completed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Commits,
    /// And answers something else, which a layer in between might do.
    CommitsAndChangesItsAnswer,
    RollsBack,
    /// Neither: it is dropped, or it panics.
    Panics,
}

struct Shop {
    stand: Stand,
    writer: Writer,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_lazy_with(options(folder.path().join("shop.db")));
        let writer = Writer::new(pool);
        let store = SqliteStore::new(writer.clone()).unwrap();
        store.migrate().await.unwrap();
        let create = sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, run INTEGER)");
        create.execute(writer.pool()).await.unwrap();
        let idempotency = Idempotency::new(store);
        Self {
            stand: Stand::on(idempotency),
            writer,
            _folder: folder,
        }
    }

    async fn begin(writer: &Writer) -> Guarded<Sqlite> {
        writer.begin(Deadline::after(Deadline::SQL)).await.unwrap()
    }

    async fn orders(&self) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM orders");
        count.fetch_one(self.writer.pool()).await.unwrap()
    }

    fn placing(
        &self,
        then: Then,
    ) -> impl tower::Service<
        Asked,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let (stand, writer) = (self.stand.clone(), self.writer.clone());
        tower::service_fn(move |request: Asked| {
            let (stand, writer) = (stand.clone(), writer.clone());
            async move {
                let run = stand.run();
                let handed: Idempotent = request.extensions().get().cloned().unwrap();
                let mut tx = Self::begin(&writer).await;
                let insert = sqlx::query("INSERT INTO orders (run) VALUES (?)").bind(run);
                insert.execute(&mut *tx).await.unwrap();
                let answer = Response::builder()
                    .status(201)
                    .header("location", "/orders/1");
                let answer = answer.body(Bytes::from(format!("run {run}"))).unwrap();
                let committed = handed.complete_in(&mut *tx, &answer).await.unwrap();
                assert!(handed.take().is_none(), "it is completed once");
                assert!(then != Then::Panics, "planted");
                if then == Then::RollsBack {
                    tx.rollback().await.unwrap();
                    drop(committed);
                    return Ok(super::stand::answer(422, "no"));
                }
                tx.commit().await.unwrap();
                committed.fire();
                Ok(match then {
                    Then::Commits => answer.map(Full::from),
                    _ => super::stand::answer(500, "broken on its way out"),
                })
            }
        })
    }
}

#[tokio::test]
async fn what_the_transaction_committed_is_replayed() {
    let shop = Shop::open().await;
    let layer = shop.stand.layer();
    let first = ask(&layer, shop.placing(Then::Commits), post("k", "{}")).await;
    assert_eq!((first.status, first.text()), (201, "run 1"));
    let again = ask(&layer, shop.placing(Then::Commits), post("k", "{}")).await;
    assert!(again.is_replay() && again.body == first.body);
    assert_eq!(again.headers["location"], "/orders/1");
    assert_eq!((shop.stand.runs(), shop.orders().await), (1, 1));
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_commit_is_not_a_second_order() {
    let shop = Shop::open().await;
    let then = Then::CommitsAndChangesItsAnswer;
    let first = ask(&shop.stand.layer(), shop.placing(then), post("k", "{}")).await;
    assert_eq!(first.status, 500);
    let again = ask(&shop.stand.layer(), shop.placing(then), post("k", "{}")).await;
    assert!(again.is_replay());
    assert_eq!(
        (again.status, again.text(), shop.orders().await),
        (201, "run 1", 1)
    );
}

#[tokio::test]
async fn what_was_rolled_back_leaves_the_key_free() {
    let shop = Shop::open().await;
    for then in [Then::RollsBack, Then::Panics] {
        let (layer, service) = (shop.stand.layer(), shop.placing(then));
        let first = tokio::spawn(async move { ask(&layer, service, post("k", "{}")).await });
        match first.await {
            Ok(refused) => assert_eq!((refused.status, then), (422, Then::RollsBack)),
            Err(panicked) => assert!(panicked.is_panic() && then == Then::Panics),
        }
        assert_eq!(shop.orders().await, 0, "{then:?}");
        // It is handed back on a task, well before its lease is over.
        buttress_testkit::eventually::eventually(
            "the key is free",
            std::time::Duration::from_secs(20),
            async || {
                let fingerprint = buttress_idempotency::http::FingerprintRule::of_json(b"other");
                let key = super::layer::kept_under("k");
                let begun = shop.stand.idempotency.begin(&key, &fingerprint).await;
                match begun.unwrap() {
                    buttress_idempotency::Begin::New(guard) => {
                        guard.release().await.unwrap();
                        Some(())
                    }
                    _ => None,
                }
            },
        )
        .await;
    }
    let placed = ask(
        &shop.stand.layer(),
        shop.placing(Then::Commits),
        post("k", "{}"),
    )
    .await;
    assert_eq!((placed.status, shop.orders().await), (201, 1));
}

/// A handler takes its guard for work in phases, and gives it back: the layer keeps its answer.
#[tokio::test]
async fn a_handler_passes_its_phases_and_the_layer_keeps_its_answer() {
    let shop = Shop::open().await;
    let stand = shop.stand.clone();
    let service = tower::service_fn(move |request: Asked| {
        let stand = stand.clone();
        async move {
            let run = stand.run();
            let handed: Idempotent = request.extensions().get().cloned().unwrap();
            let mut guard = handed.take().unwrap();
            let Some(order) = guard.passed::<String>("order").unwrap() else {
                guard.phase("order", &format!("run {run}")).await.unwrap();
                // Something went wrong that had no effect.
                guard.release().await.unwrap();
                return Ok::<_, Infallible>(super::stand::answer(503, "later"));
            };
            handed.give_back(guard);
            Ok(super::stand::answer(201, &order))
        }
    });
    let layer = shop.stand.layer();
    let mut said = Vec::new();
    for _ in 0..3 {
        let answer = ask(&layer, service.clone(), post("k", "{}")).await;
        said.push((answer.status, answer.text().to_owned(), answer.is_replay()));
    }
    assert_eq!(
        said,
        [
            (503, "later".into(), false),
            (201, "run 1".into(), false),
            (201, "run 1".into(), true),
        ]
    );
    assert_eq!(shop.stand.runs(), 2);
}
