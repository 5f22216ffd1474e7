//! A rolling restart under load: no request fails beyond what a client's policy takes care of.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_retry_backoff::{Backoff, Retry, RetryPolicy};
use buttress_testkit::short_or_long;
use nix::sys::signal::Signal;
use reqwest::{RequestBuilder, StatusCode};

use crate::shop::{Shop, data, on_each, two_of};

const CLIENTS: usize = 6;
/// How often whoever balances the load asks who is ready, and how long an instance goes on after
/// it has said that it is not.
const LOOKED_AT: Duration = Duration::from_millis(50);
const DRAIN_MS: &str = "500";

/// Who sends each request to the next instance that was ready when it was last asked.
struct Balancer {
    http: reqwest::Client,
    known: Mutex<Vec<String>>,
    ready: Mutex<Vec<String>>,
    next: AtomicUsize,
}

impl Balancer {
    fn new(shops: &[Shop]) -> Arc<Self> {
        let all: Vec<_> = shops.iter().map(|shop| shop.address().to_owned()).collect();
        Arc::new(Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            known: Mutex::new(all.clone()),
            ready: Mutex::new(all),
            next: AtomicUsize::new(0),
        })
    }

    async fn look(&self) {
        let known = self.known.lock().unwrap().clone();
        let mut ready = Vec::new();
        for address in known {
            let asked = self.http.get(format!("http://{address}/readyz")).send();
            let asked = tokio::time::timeout(Duration::from_secs(2), asked).await;
            if matches!(asked, Ok(Ok(answer)) if answer.status() == StatusCode::OK) {
                ready.push(address);
            }
        }
        *self.ready.lock().unwrap() = ready;
    }

    /// Any instance's URL of that path.
    fn url(&self, path: &str) -> String {
        let ready = self.ready.lock().unwrap();
        let next = self.next.fetch_add(1, Relaxed);
        // With nobody ready any address does: the request fails, and comes again.
        let none = "127.0.0.1:1".to_owned();
        let address = ready.get(next % ready.len().max(1)).unwrap_or(&none);
        format!("http://{address}{path}")
    }

    /// Sends it by the client's policy: again where nothing was answered, or 503.
    async fn send(
        &self,
        retry: &Retry,
        request: impl Fn(&Self) -> RequestBuilder,
    ) -> Result<reqwest::Response, String> {
        let attempt = || async {
            let answer = request(self).send().await;
            let answer = answer.map_err(|error| format!("{error:?}"))?;
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                return Err("503".to_owned());
            }
            Ok(answer)
        };
        let sent = retry.call(attempt).await;
        sent.map_err(|error| error.to_string())
    }
}

#[derive(Default)]
struct Load {
    over: AtomicBool,
    requests: AtomicUsize,
    orders: Mutex<Vec<String>>,
    failed: Mutex<Vec<String>>,
}

async fn client(number: usize, balancer: Arc<Balancer>, load: Arc<Load>) {
    let policy = RetryPolicy::builder()
        .attempts(5)
        .backoff(Backoff::exponential(Duration::from_millis(50)))
        .build()
        .unwrap();
    let retry = Retry::new("client", policy);
    let mut round = 0;
    while !load.over.load(Relaxed) {
        let key = format!("{number}-{round}");
        let order = two_of(&format!("p{}", 1 + (number * 7 + round) % 40));
        let ordered = balancer.send(&retry, |to| {
            let request = to
                .http
                .post(to.url("/orders"))
                .header("idempotency-key", &key);
            request.json(&order)
        });
        match ordered.await {
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                let id = data(answer).await["id"].as_str().unwrap().to_owned();
                load.orders.lock().unwrap().push(id);
            }
            Ok(answer) => load
                .failed
                .lock()
                .unwrap()
                .push(answer.status().to_string()),
            Err(error) => load.failed.lock().unwrap().push(error),
        }
        for path in ["/products/p1", "/orders?limit=5"] {
            match balancer.send(&retry, |to| to.http.get(to.url(path))).await {
                Ok(answer) if answer.status() == StatusCode::OK => {}
                Ok(answer) => load
                    .failed
                    .lock()
                    .unwrap()
                    .push(answer.status().to_string()),
                Err(error) => load.failed.lock().unwrap().push(error),
            }
        }
        load.requests.fetch_add(3, Relaxed);
        round += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_rolling_restart_under_load_fails_no_request_beyond_the_policy() {
    on_each(|database| async move {
        let options = ["--drain-ms", DRAIN_MS];
        let mut shops: Vec<_> = (0..3)
            .map(|_| Shop::start_with(&database, &options))
            .collect();
        let (balancer, load) = (Balancer::new(&shops), Arc::new(Load::default()));
        let looking = tokio::spawn({
            let balancer = Arc::clone(&balancer);
            async move {
                loop {
                    balancer.look().await;
                    tokio::time::sleep(LOOKED_AT).await;
                }
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| tokio::spawn(client(number, Arc::clone(&balancer), Arc::clone(&load))))
            .collect();
        for _ in 0..short_or_long(1, 20) {
            for place in &mut shops {
                let before = load.requests.load(Relaxed);
                place.signal(Signal::SIGTERM);
                let ended = place.ended(Duration::from_secs(40)).await;
                assert!(ended.expect("it ends").success());
                // Up and ready before the next one goes.
                let spawned = Shop::spawn(&database, &options);
                let shop = tokio::task::spawn_blocking(|| spawned.ready())
                    .await
                    .unwrap();
                let gone = std::mem::replace(place, shop);
                {
                    let mut known = balancer.known.lock().unwrap();
                    known.retain(|address| address != gone.address());
                    known.push(place.address().to_owned());
                }
                while !balancer
                    .ready
                    .lock()
                    .unwrap()
                    .iter()
                    .any(|it| it == place.address())
                {
                    tokio::time::sleep(LOOKED_AT).await;
                }
                assert!(load.requests.load(Relaxed) > before, "there was no load");
            }
        }
        load.over.store(true, Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        looking.abort();
        assert_eq!(*load.failed.lock().unwrap(), Vec::<String>::new());
        let ids = load.orders.lock().unwrap().clone();
        for id in &ids {
            assert_eq!(shops[0].settled(id).await["status"], "confirmed");
        }
        assert_eq!(shops[1].all("orders").await.len(), ids.len());
        shops[2].assert_invariants(1000).await;
        println!(
            "{} requests, {} orders",
            load.requests.load(Relaxed),
            ids.len()
        );
        drop(shops);
        database.close().await;
    })
    .await;
}
