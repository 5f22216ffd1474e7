//! The response to come: the service's, with fields, or the refusal.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Fault, Rejection, RejectionKind};
use http::{HeaderMap, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Limits,
    rules::{Deciding, Rules},
};
use crate::{
    Decision, Quota, SharedError,
    http::{Fields, Respond},
};

/// What the fields of a response are made of.
pub(super) struct Tail {
    fields: Fields,
    shadow: bool,
    /// Name and quota; only where fields were asked for.
    told: Option<(String, Quota)>,
    name: String,
    decision: Decision,
}

impl Tail {
    pub(super) fn new(rules: &Rules, limits: &Limits, decision: Decision) -> Self {
        let told = match rules.fields {
            Fields::None => None,
            _ => Some((limits.name().to_owned(), limits.quota())),
        };
        let name = if decision.is_allowed() {
            String::new()
        } else {
            limits.name().to_owned()
        };
        Self {
            fields: rules.fields,
            shadow: rules.shadow,
            told,
            name,
            decision,
        }
    }

    pub(super) const fn lets_through(&self) -> bool {
        self.decision.is_allowed() || self.shadow
    }

    fn write(&self, headers: &mut HeaderMap) {
        if let Some((name, quota)) = &self.told {
            self.fields.write(headers, name, quota, &self.decision);
        }
    }
}

/// Why there is no response of the service's.
pub(super) struct Refusal {
    fault: Box<dyn Fault + Send + Sync>,
    tail: Option<Tail>,
}

impl Refusal {
    pub(super) fn limited(mut tail: Tail) -> Self {
        let name = std::mem::take(&mut tail.name);
        let rejection = Rejection::new(RejectionKind::RateLimited, name);
        let fault = match tail.decision.retry_after() {
            Some(wait) => rejection.with_retry_after(wait),
            None => rejection,
        };
        Self {
            fault: Box::new(fault),
            tail: Some(tail),
        }
    }

    pub(super) fn error(error: SharedError) -> Self {
        Self {
            fault: Box::new(error),
            tail: None,
        }
    }
}

pin_project! {
    /// The response to come. Dropping it drops the service's own; permits stay taken.
    pub struct HttpResponseFuture<S, Request, F, R> {
        #[pin]
        work: Work<S, Request, F>,
        respond: Arc<R>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<S, Request, F> {
        Deciding {
            rules: Arc<Rules>,
            limits: Limits,
            deciding: Deciding,
            call: Option<(S, Request)>,
        },
        Running { #[pin] future: F, tail: Option<Tail> },
        Refused { refusal: Option<Refusal> },
    }
}

impl<S, Request, F, R> HttpResponseFuture<S, Request, F, R> {
    pub(super) const fn running(future: F, tail: Option<Tail>, respond: Arc<R>) -> Self {
        Self {
            work: Work::Running { future, tail },
            respond,
        }
    }

    pub(super) const fn refused(refusal: Refusal, respond: Arc<R>) -> Self {
        let refusal = Some(refusal);
        Self {
            work: Work::Refused { refusal },
            respond,
        }
    }

    pub(super) const fn deciding(
        rules: Arc<Rules>,
        limits: Limits,
        deciding: Deciding,
        service: S,
        request: Request,
        respond: Arc<R>,
    ) -> Self {
        Self {
            work: Work::Deciding {
                rules,
                limits,
                deciding,
                call: Some((service, request)),
            },
            respond,
        }
    }
}

impl<S, Request, R, B> Future for HttpResponseFuture<S, Request, S::Future, R>
where
    S: Service<Request, Response = Response<B>>,
    R: Respond<B>,
{
    type Output = Result<Response<B>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.work.as_mut().project() {
                WorkProjection::Deciding {
                    rules,
                    limits,
                    deciding,
                    call,
                } => {
                    let decided = ready!(deciding.as_mut().poll(context));
                    match decided {
                        Ok(decision) => {
                            let tail = Tail::new(rules, limits, decision);
                            match call.take() {
                                Some((mut service, request)) if tail.lets_through() => {
                                    Work::Running {
                                        future: service.call(request),
                                        tail: Some(tail),
                                    }
                                }
                                _ => Work::Refused {
                                    refusal: Some(Refusal::limited(tail)),
                                },
                            }
                        }
                        Err(_) if rules.shadow && call.is_some() => {
                            let (mut service, request) = call.take().expect("it was just seen");
                            Work::Running {
                                future: service.call(request),
                                tail: None,
                            }
                        }
                        Err(error) => Work::Refused {
                            refusal: Some(Refusal::error(error)),
                        },
                    }
                }
                WorkProjection::Running { future, tail } => {
                    let mut response = ready!(future.poll(context))?;
                    if let Some(tail) = tail {
                        tail.write(response.headers_mut());
                    }
                    return Poll::Ready(Ok(response));
                }
                WorkProjection::Refused { refusal } => {
                    let refusal = refusal.take();
                    let refusal = refusal.expect("a future is not polled again once it is ready");
                    let mut response = this.respond.respond(&*refusal.fault);
                    let headers = response.headers_mut();
                    if let Some(wait) = refusal.fault.retry_after() {
                        crate::http::write_retry_after(headers, wait);
                    }
                    if let Some(tail) = refusal.tail {
                        tail.write(headers);
                    }
                    return Poll::Ready(Ok(response));
                }
            };
            this.work.set(next);
        }
    }
}

impl<S, Request, F, R> fmt::Debug for HttpResponseFuture<S, Request, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponseFuture").finish_non_exhaustive()
    }
}
