//! One layer around a service that knows nothing of it.

use std::future::ready;

use buttress_error_envelope::{
    Format, Problem,
    tower::{BoxError, EnvelopeLayer, RequestId, Verbatim},
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::stack::{Body, Outcome, PROBLEM_JSON, answer, ask, plain, rendered, request};

#[tokio::test]
async fn every_response_has_the_callers_id_or_a_new_one() {
    let outcomes: [fn() -> Outcome; 4] = [
        || plain(200, "fine"),
        || plain(404, "not here"),
        || Err("broken".into()),
        || panic!("broken"),
    ];
    for make in outcomes {
        let same = answer(make, request("GET", &[("x-request-id", "abc.DEF_1-2")])).await;
        assert_eq!(same.id(), "abc.DEF_1-2");
        let one = answer(make, request("GET", &[])).await;
        let other = answer(make, request("GET", &[("x-request-id", "no good")])).await;
        assert!(
            one.id() != other.id() && one.id().len() == 36,
            "{one:?} {other:?}"
        );
    }
}

#[tokio::test]
async fn the_service_finds_the_id_in_extensions_and_header() {
    let service = service_fn(|request: Request<()>| {
        let id = request
            .extensions()
            .get::<RequestId>()
            .expect("the layer put it there");
        assert_eq!(request.headers()["x-request-id"], id.as_str());
        let told = Full::from(id.to_string());
        let mut response = Response::new(told);
        // The service's own opinion about the id does not count.
        response
            .headers_mut()
            .insert("x-request-id", "mine".parse().unwrap());
        ready(Ok::<_, BoxError>(response))
    });
    let hostile = request("GET", &[("x-request-id", "a b")]);
    let answer = ask(EnvelopeLayer::new(), service, hostile).await;
    assert_eq!(answer.bytes, answer.id());
}

#[tokio::test]
async fn a_success_is_left_alone() {
    let make = || {
        let response = Response::builder()
            .status(201)
            .header("etag", "\"7\"")
            .header("content-type", "text/csv");
        Ok(response.body(Full::from("a,b")).unwrap())
    };
    let answer = answer(make, request("POST", &[PROBLEM_JSON])).await;
    assert_eq!((answer.status(), &*answer.bytes), (201, &b"a,b"[..]));
    let names: Vec<_> = answer
        .head
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    assert_eq!(names, ["etag", "content-type", "x-request-id"]);
}

#[tokio::test]
async fn a_problem_leaves_in_the_form_that_the_caller_accepts() {
    let make = || {
        rendered(&Problem::new(409, "VERSION_CONFLICT", "Too late.").with_extension("version", 3))
    };
    let as_json = answer(make, request("GET", &[])).await;
    assert_eq!(as_json.header("content-type"), Some("application/json"));
    assert_eq!(
        as_json.json(),
        json!({"success": false, "error": {
            "code": "VERSION_CONFLICT", "message": "Too late.", "details": {"version": 3}}})
    );
    let as_problem = answer(make, request("GET", &[PROBLEM_JSON])).await;
    assert_eq!(
        as_problem.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(
        (&as_problem.json()["version"], as_problem.status()),
        (&json!(3), 409)
    );
    for answer in [as_json, as_problem] {
        assert_eq!(answer.header("vary"), Some("accept"));
        assert_eq!(
            answer.header("content-length"),
            Some(&*answer.bytes.len().to_string())
        );
    }
}

#[tokio::test]
async fn a_bare_error_becomes_the_problem_of_its_status_and_keeps_the_headers_that_are_not_about_its_body()
 {
    for (status, code) in [
        (400, "MALFORMED_REQUEST"),
        (401, "UNAUTHORIZED"),
        (404, "ROUTE_NOT_FOUND"),
        (405, "METHOD_NOT_ALLOWED"),
        (408, "REQUEST_TIMEOUT"),
        (413, "PAYLOAD_TOO_LARGE"),
        (415, "UNSUPPORTED_MEDIA_TYPE"),
        (422, "VALIDATION_FAILED"),
        (429, "RATE_LIMITED"),
        (499, "HTTP_499"),
        (500, "INTERNAL"),
        (502, "UPSTREAM_FAILED"),
        (503, "UNAVAILABLE"),
        (504, "UPSTREAM_TIMEOUT"),
    ] {
        let make = move || {
            let response = Response::builder()
                .status(status)
                .header("allow", "GET")
                .header("www-authenticate", "Basic")
                .header("www-authenticate", "Bearer")
                .header("retry-after", "7")
                .header("vary", "Origin, ACCEPT")
                .header("cache-control", "max-age=1")
                .header("content-type", "text/html")
                .header("content-encoding", "gzip")
                .header("content-length", "6")
                .header("transfer-encoding", "chunked")
                .header("etag", "\"7\"");
            Ok(response.body(Full::from("c4n4ry")).unwrap())
        };
        let answer = answer(make, request("GET", &[])).await;
        assert_eq!((answer.status(), &*answer.code()), (status, code));
        for (name, value) in [
            ("allow", Some("GET")),
            ("retry-after", Some("7")),
            ("vary", Some("Origin, ACCEPT")),
            ("cache-control", Some("max-age=1")),
            ("content-encoding", None),
            ("transfer-encoding", None),
            ("etag", None),
            ("content-length", Some(&*answer.bytes.len().to_string())),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
        assert_eq!(
            answer
                .head
                .headers
                .get_all("www-authenticate")
                .iter()
                .count(),
            2
        );
        let shown = String::from_utf8_lossy(&answer.bytes);
        // Neither what the service wrote nor what the caller asked for.
        assert!(
            !shown.contains("c4n4ry") && !shown.contains("orders"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn an_error_that_is_marked_verbatim_keeps_its_body() {
    let make = || {
        let response = Response::builder()
            .status(400)
            .header("content-type", "application/json")
            .extension(Verbatim);
        Ok(response
            .body(Full::from(r#"{"error": "invalid_grant"}"#))
            .unwrap())
    };
    let answer = answer(make, request("POST", &[PROBLEM_JSON])).await;
    assert_eq!(
        (answer.status(), &*answer.bytes),
        (400, &br#"{"error": "invalid_grant"}"#[..])
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(!answer.id().is_empty());
}

#[tokio::test]
async fn the_status_of_the_line_governs_an_error_but_no_problem_leaves_as_a_success() {
    let with_status = |status: u16| {
        move || {
            let problem = Problem::new(404, "ORDER_NOT_FOUND", "None.");
            let mut response = problem.render(Format::Json).map(Full::from);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            Ok(response)
        }
    };
    let conflict = answer(with_status(409), request("GET", &[PROBLEM_JSON])).await;
    assert_eq!(
        (conflict.status(), &conflict.json()["status"]),
        (409, &json!(409))
    );
    assert_eq!(conflict.code(), "ORDER_NOT_FOUND");
    let covered_up = answer(with_status(201), request("GET", &[PROBLEM_JSON])).await;
    assert_eq!(
        (covered_up.status(), &covered_up.json()["status"]),
        (404, &json!(404))
    );
}

#[tokio::test]
async fn head_has_no_body_and_the_length_that_get_would_have() {
    for make in [
        || rendered(&Problem::from_status(StatusCode::NOT_FOUND)),
        || plain(404, "not here"),
        || plain(200, "a long answer"),
        || Err("broken".into()),
    ] {
        let get = answer(make, request("GET", &[])).await;
        let head = answer(make, request("HEAD", &[])).await;
        assert!(head.bytes.is_empty() && !get.bytes.is_empty());
        assert_eq!(head.status(), get.status());
        assert_eq!(
            head.header("content-length"),
            Some(&*get.bytes.len().to_string())
        );
    }
    let unknown = answer(|| plain(200, ""), request("HEAD", &[])).await;
    assert_eq!(unknown.header("content-length"), None);
}

#[tokio::test]
async fn no_content_and_not_modified_have_no_body() {
    let make = |status: u16| {
        move || {
            let response = Response::builder()
                .status(status)
                .header("content-length", "4");
            Ok(response.body(Full::from("body")).unwrap())
        }
    };
    let no_content = answer(make(204), request("GET", &[])).await;
    assert!(no_content.bytes.is_empty());
    assert_eq!(no_content.header("content-length"), None);
    let not_modified = answer(make(304), request("GET", &[])).await;
    assert!(not_modified.bytes.is_empty());
    assert_eq!(not_modified.header("content-length"), Some("4"));
}

#[tokio::test]
async fn the_layered_service_is_clone_send_and_sync_and_its_types_have_names() {
    fn check<S>(service: S) -> S
    where
        S: Service<Request<()>, Response = Response<Body>, Error = std::convert::Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        service
    }
    let service = service_fn(|_: Request<()>| ready(plain(200, "")));
    let service = ServiceBuilder::new()
        .layer(EnvelopeLayer::new())
        .service(service);
    let answered: Result<Response<Body>, _> = check(service).oneshot(request("GET", &[])).await;
    assert!(answered.is_ok());
}

#[tokio::test]
async fn a_huge_accept_is_answered() {
    let accept = "a/b;q=0.1,".repeat(10_000);
    let answer = answer(|| plain(404, ""), request("GET", &[("accept", &accept)])).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
}
