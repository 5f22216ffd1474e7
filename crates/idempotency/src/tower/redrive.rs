//! Makes abandoned requests again, through the service that they came to.

use std::{
    future::poll_fn,
    time::{Duration, SystemTime},
};

use buttress_core::{RetryAfter, Verdict};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;
use tower_service::Service;

use super::{IdempotencyLayer, KeptRequests, Redriven, kept::NotMade};
use crate::{
    Completer, IdempotencyError, Orphan,
    completer::{Handling, Said},
};

impl IdempotencyLayer {
    /// A completer that makes again what clients have left: requests that were
    /// [kept](Self::keep_requests), and whose process died, or whose answer left their key in
    /// doubt. `service` is what they came to, this layer in it: the same router. Of a router that is
    /// nested in another it is the inner one, for the path that is kept is the one that the layer saw.
    ///
    /// The request goes through it as it came, marked by [`Redriven`], under the key, scope and
    /// fingerprint it had, and knows which phases were passed. Whoever comes with the key meanwhile
    /// is told that it is in flight, and later is given the answer that was kept.
    ///
    /// | the answer | and then |
    /// | --- | --- |
    /// | one that is [kept](crate::http::StatusRule) | done |
    /// | 401, 403, 404, 405: of what the program is by now, not of the request; any other that is not kept | never kept, whatever the rule says, unless the handler says it by [`Keep`](crate::http::Keep); the drive counts, and in the end the key is parked |
    /// | 429, 503 | the drive does not count; the completer pauses, as long as it was told |
    /// | the caller may not any more, or what was kept is damaged | parked at once |
    /// | 2xx, and this layer was not come to: `service` has it not, and did it without its key | parked at once |
    ///
    /// How often, and how long apart, is the [`Completer`]'s to say. The request's own time is not
    /// bounded but by the lease's ceiling; nor is that for which its answer is read to the end.
    ///
    /// # Errors
    ///
    /// [`IdempotencyError::NoRequests`], when the layer keeps none.
    pub fn completer<S, R>(&self, service: S) -> Result<Completer, IdempotencyError>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        R: Body + Send + 'static,
        R::Data: Send,
    {
        let kept = self.settings().kept.clone();
        let kept = kept.ok_or(IdempotencyError::NoRequests)?;
        let (idempotency, driver) = (self.settings().idempotency.clone(), kept.driver().clone());
        let lease = idempotency.policy().lease();
        let longest = lease.length().saturating_mul(lease.ceiling());
        let handler = move |orphan: Orphan| -> Handling {
            Box::pin(drive(service.clone(), kept.clone(), longest, orphan))
        };
        Ok(Completer::new(idempotency, driver, handler))
    }
}

const fn said(verdict: Verdict, clean: bool) -> Said {
    Said { verdict, clean }
}

async fn drive<S, R>(mut service: S, kept: KeptRequests, longest: Duration, orphan: Orphan) -> Said
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>>,
    R: Body,
{
    let made = kept.make(orphan.guard.key(), &orphan.request);
    let (mut request, version) = match made {
        Ok(made) => made,
        Err(why) => {
            // Said or not, its lease is over in time.
            let _ = orphan.guard.keep_unknown().await;
            return match why {
                NotMade::ByThisOne => said(Verdict::unknown(), false),
                NotMade::ForGood => said(Verdict::refused(), false),
            };
        }
    };
    let redriven = Redriven::new(orphan, version);
    request.extensions_mut().insert(redriven.clone());
    let answered = match poll_fn(|cx| service.poll_ready(cx)).await {
        Ok(()) => service.call(request.map(Full::new)).await,
        Err(error) => Err(error),
    };
    let answer = match answered {
        Ok(response) => {
            let (head, body) = response.into_parts();
            // When its key is done no lease ends it any more, and others wait for this drive.
            let _ = timeout(longest, read(body)).await;
            Some((head.status, head.headers))
        }
        Err(_) => None,
    };
    // The layer was not come to: something further out has answered.
    let untouched = redriven.take();
    let clean = untouched.is_some();
    if let Some(guard) = untouched {
        let _ = guard.keep_unknown().await;
    }
    if redriven.is_done() {
        return said(Verdict::success(), clean);
    }
    match answer {
        // It was done, and not under its key: the layer is not in there. Once is enough.
        Some((status, _)) if clean && status.is_success() => said(Verdict::refused(), false),
        Some((StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, headers)) => {
            let verdict = Verdict::not_done();
            said(
                match told(&headers) {
                    Some(wait) => verdict.with_retry_after(wait.as_duration()),
                    None => verdict,
                },
                clean,
            )
        }
        _ => said(Verdict::unknown(), clean),
    }
}

/// To its end, as a client would: what comes late in a stream is a part of the work.
async fn read<R: Body>(body: R) {
    let mut body = std::pin::pin!(body);
    while let Some(Ok(_)) = body.frame().await {}
}

#[expect(
    clippy::disallowed_methods,
    reason = "a date in a header is told by the wall"
)]
fn told(headers: &HeaderMap) -> Option<RetryAfter> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    RetryAfter::parse(value, SystemTime::now())
}
