//! A gateway, and upstreams behind it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{Router, body::Body, extract::Request, http::Response};
use tokio::net::TcpListener;

/// Serves until the test ends.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async { axum::serve(listener, service).await });
    address
}

/// A gateway whose routes are these lines, at `http://…`.
pub(crate) async fn gateway(routes: &str) -> String {
    let config = format!("listen = \"127.0.0.1:0\"\n{routes}");
    let config = config.parse().unwrap();
    format!("http://{}", serve(gateway::router(&config).unwrap()).await)
}

/// An upstream that answers its n-th request, counted from 0, with what `answer` makes of it.
pub(crate) async fn upstream<F>(
    answer: impl Fn(usize, Request) -> F + Clone + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let router =
        Router::new().fallback(move |request: Request| answer(count.fetch_add(1, SeqCst), request));
    (serve(router).await, asked)
}

pub(crate) fn status(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("upstream {status}")));
    *response.status_mut() = status.try_into().unwrap();
    response
}

/// An address that nobody listens on.
pub(crate) fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
