//! What a client is still sending when its answer is ready: of a request that nobody reads, or not to its end.
//!
//! A connection that is closed under a client that sends is reset, and he sees that instead of the answer; one that is
//! kept is of no use with half a body in it, and whoever sends the next request over it has no answer at all. So the
//! rest is read, within bounds, and thrown away; and where that is too much, the client is told not to come back this way.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, header};
use http_body::{Frame, SizeHint};

/// How much is thrown away, and for how long.
const LONGEST: usize = 8 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// Hands the body on, and sees to what comes back of it.
pub(super) async fn is_read(request: Request, next: Next) -> Response {
    if http_body::Body::is_end_stream(request.body()) {
        return next.run(request).await;
    }
    // Who asks before he sends has not sent anything, and will not.
    let asks = request.headers().contains_key(header::EXPECT);
    let rest = Rest::default();
    let lent = rest.clone();
    let request = request.map(|body| Body::new(Lent { body, rest: lent }));
    let mut response = next.run(request).await;
    if let Some(body) = rest.take()
        && (asks || !is_thrown_away(body.into_data_stream()).await)
    {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn is_thrown_away(mut body: BodyDataStream) -> bool {
    let to_the_end = async {
        let mut left = LONGEST;
        while let Some(part) = body.next().await {
            let Some(less) = part.ok().and_then(|part| left.checked_sub(part.len())) else {
                return false;
            };
            left = less;
        }
        true
    };
    let in_time = tokio::time::timeout(PATIENCE, to_the_end).await;
    in_time.unwrap_or(false)
}

/// Where a body goes that was not read to its end.
#[derive(Clone, Default)]
struct Rest(Arc<Mutex<Option<Body>>>);

impl Rest {
    fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body that goes back when it is dropped, if there is more of it.
struct Lent {
    body: Body,
    rest: Rest,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        if !http_body::Body::is_end_stream(&body) {
            *self.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.body = Body::empty();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
