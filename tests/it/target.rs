//! The service that is called: an axum router on the loopback, which goes wrong as it is told.

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, extract::State};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::ServiceExt as _;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is answered, with its effect when the status says success.
    Answer(u16),
    /// 503, and the number of seconds after which to come back.
    Busy(u64),
    /// It is done, this long after it came.
    Late(Duration),
    /// It is done, and never answered.
    Hang,
    /// It is done, and answered with this status all the same.
    DoneThen(u16),
    /// It is done, and the connection is cut.
    DoneThenCut,
}

/// Decides what becomes of a request when the script is at its end.
type Otherwise = Box<dyn Fn() -> Act + Send + Sync>;

struct Shared {
    script: Mutex<VecDeque<Act>>,
    otherwise: Mutex<Otherwise>,
    requests: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    keys: Mutex<HashSet<String>>,
    effects: AtomicUsize,
}

/// A running target. Ends with its owner.
pub(crate) struct Target {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

/// The connection is to be cut. hyper does so when a service fails.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

impl Target {
    /// Goes through `script`, one request after the other, and then answers all with 200.
    pub(crate) async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into_iter().collect()),
            otherwise: Mutex::new(Box::new(|| Act::Answer(200))),
            requests: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            keys: Mutex::default(),
            effects: AtomicUsize::new(0),
        });
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(accept(listener, router));
        Self {
            address,
            shared,
            serving,
        }
    }

    /// One that does the same with every request.
    pub(crate) async fn always(act: Act) -> Self {
        let target = Self::start([]).await;
        target.otherwise(move || act);
        target
    }

    /// What it does from now on, when its script is at its end.
    pub(crate) fn otherwise(&self, act: impl Fn() -> Act + Send + Sync + 'static) {
        *self.shared.otherwise.lock().unwrap() = Box::new(act);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn get(&self) -> Request<Full<Bytes>> {
        self.request(Method::GET, None)
    }

    pub(crate) fn post(&self, key: Option<&str>) -> Request<Full<Bytes>> {
        self.request(Method::POST, key)
    }

    fn request(&self, method: Method, key: Option<&str>) -> Request<Full<Bytes>> {
        let request = Request::builder().method(method).uri(self.url());
        let request = match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        };
        request.body(Full::from("an order")).unwrap()
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(SeqCst)
    }

    /// How many effects they had; the same key has one.
    pub(crate) fn effects(&self) -> usize {
        self.shared.effects.load(SeqCst)
    }

    /// How many requests were there at once, at most.
    pub(crate) fn most_under_way(&self) -> usize {
        self.shared.most_under_way.load(SeqCst)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One that counts itself while it is there.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        let now = shared.under_way.fetch_add(1, SeqCst) + 1;
        shared.most_under_way.fetch_max(now, SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    fn have_effect(&self, method: &Method, headers: &HeaderMap) {
        if method != Method::POST {
            return;
        }
        let fresh = headers.get("idempotency-key").is_none_or(|key| {
            let key = key.to_str().unwrap().to_owned();
            self.keys.lock().unwrap().insert(key)
        });
        self.effects.fetch_add(usize::from(fresh), SeqCst);
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    _body: Bytes,
) -> axum::response::Response {
    shared.requests.fetch_add(1, SeqCst);
    let _under_way = UnderWay::begin(&shared);
    let act = shared.script.lock().unwrap().pop_front();
    let act = act.unwrap_or_else(|| (shared.otherwise.lock().unwrap())());
    let effect = || shared.have_effect(&method, &headers);
    let status = match act {
        Act::Answer(status) => {
            if status < 300 {
                effect();
            }
            status
        }
        Act::Busy(_) => 503,
        Act::Late(wait) => {
            effect();
            tokio::time::sleep(wait).await;
            200
        }
        Act::Hang => {
            effect();
            std::future::pending().await
        }
        Act::DoneThen(status) => {
            effect();
            status
        }
        Act::DoneThenCut => {
            effect();
            200
        }
    };
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Act::Busy(seconds) = act {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response.extensions_mut().insert(act);
    response
}

async fn accept(listener: TcpListener, router: Router) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = router.clone().oneshot(request);
            async move {
                let response = match answer.await {
                    Ok(response) => response,
                    Err(never) => {
                        let never: Infallible = never;
                        match never {}
                    }
                };
                match response.extensions().get() {
                    Some(Act::DoneThenCut) => Err(Cut),
                    _ => Ok(response),
                }
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A caller that goes and a connection that is cut are what the tests are about.
        tokio::spawn(async { drop(connection.await) });
    }
}
