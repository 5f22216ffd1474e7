//! Asks a service through the layer.

use std::convert::Infallible;

use buttress_error_envelope::{
    Format, Problem,
    tower::{BoxError, EnvelopeLayer, RequestId, ResponseBody},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::{Layer, Service, ServiceExt};

/// A response that has come in full.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The one value of this header, or nothing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} comes once");
        value
    }

    pub(crate) fn id(&self) -> &str {
        self.header(RequestId::HEADER.as_str())
            .expect("every response has an id")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The code of the error, in whichever form it came.
    pub(crate) fn code(&self) -> String {
        let body = self.json();
        let code = match self.header("content-type") {
            Some("application/json") => &body["error"]["code"],
            Some("application/problem+json") => &body["code"],
            other => panic!("no error of ours: {other:?}"),
        };
        code.as_str().unwrap().to_owned()
    }
}

/// What a service comes to.
pub(crate) type Outcome = Result<Response<Full<Bytes>>, BoxError>;

pub(crate) const PROBLEM_JSON: (&str, &str) = ("accept", "application/problem+json");

/// A response without a problem.
pub(crate) fn plain(status: u16, text: &'static str) -> Outcome {
    let response = Response::builder().status(status);
    Ok(response.body(Full::from(text)).unwrap())
}

pub(crate) fn rendered(problem: &Problem) -> Outcome {
    Ok(problem.render(Format::Json).map(Full::from))
}

pub(crate) fn request(method: &str, headers: &[(&str, &str)]) -> Request<()> {
    let uri = "/orders/7?token=c4n4ry";
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// What `service` answers through `layer`.
pub(crate) async fn ask<L, S, B>(layer: L, service: S, request: Request<()>) -> Answer
where
    L: Layer<S>,
    L::Service: Service<Request<()>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let (head, body) = match layer.layer(service).oneshot(request).await {
        Ok(response) => response.into_parts(),
        Err(never) => match never {},
    };
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    Answer { head, bytes }
}

/// What a service that always answers with the outcome of `make` answers through the plain layer.
pub(crate) async fn answer(make: impl Fn() -> Outcome + Clone, request: Request<()>) -> Answer {
    let service = tower::service_fn(move |_: Request<()>| std::future::ready(make()));
    ask(EnvelopeLayer::new(), service, request).await
}

/// The type of the body, named: a user can name it too.
pub(crate) type Body = ResponseBody<Full<Bytes>>;
