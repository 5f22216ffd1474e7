//! What is private never leaves: neither in a body or header, nor in `Display` or `Debug`.

use std::{error::Error, fmt, io};

use buttress_core::{Boxed, CallError, Fault, Rejection, RejectionKind};
use buttress_error_envelope::{
    Format, Problem, ToProblem,
    client::{RemoteProblem, reqwest::RemoteError},
    page::PageError,
    parse_json,
    tower::BoxError,
};
use http::{HeaderMap, HeaderValue, StatusCode};

pub(crate) const CANARY: &str = "c4n4ry";

/// Like a driver's error: its words hold bound values, its `Debug` the row, its source more.
#[derive(Debug)]
struct Driver {
    row: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Driver {
    fn new(source: Option<Box<dyn Error + Send + Sync>>) -> Self {
        let row = format!("(7, {CANARY})");
        Self { row, source }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "error returned from database: Key (id)={} already exists",
            self.row
        )
    }
}

impl Error for Driver {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Fault for Driver {
    fn code(&self) -> &'static str {
        "UNAVAILABLE"
    }

    fn status(&self) -> u16 {
        503
    }

    fn public_message(&self) -> std::borrow::Cow<'_, str> {
        "Later.".into()
    }
}

pub(crate) fn sources() -> Vec<Box<dyn Error + Send + Sync>> {
    let url = format!("postgres://shop:{CANARY}@db.internal/shop");
    let io = || io::Error::other(format!("open /srv/{CANARY}: denied"));
    let json = serde_json::from_str::<u8>(&format!("\"{CANARY}\"")).unwrap_err();
    vec![
        CANARY.into(),
        format!("a panic: {CANARY}").into(),
        url.clone().into(),
        Box::new(io()),
        Box::new(io::Error::new(io::ErrorKind::ConnectionRefused, url)),
        Box::new(io::Error::other(Driver::new(Some(Box::new(io()))))),
        Box::new(json),
        Box::new(Driver::new(None)),
        Box::new(Driver::new(Some(Box::new(Driver::new(Some(Box::new(
            io(),
        ))))))),
        Box::new(CallError::Failed(Driver::new(None))),
        Box::new(Rejection::new(RejectionKind::Unavailable, CANARY).with_source(io())),
        Box::new(std::sync::Arc::new(Driver::new(None))),
        Box::new(Problem::internal(io())),
        Box::new(anyhow_like(CANARY)),
        Box::new(
            String::from_utf8(
                format!("{CANARY}\u{0}")
                    .into_bytes()
                    .into_iter()
                    .chain([255])
                    .collect(),
            )
            .unwrap_err(),
        ),
        Box::new(std::ffi::CString::new(format!("{CANARY}\0x")).unwrap_err()),
        Box::new(reqwest_error()),
        Box::new(RemoteError::from(reqwest_error())),
        Box::new(RemoteError::from(remote())),
        Box::new(remote()),
        Box::new(Boxed::from(BoxError::from(io()))),
        Box::new(CallError::Failed(Boxed::from(BoxError::from(CANARY)))),
        Box::new(CallError::<io::Error>::from(
            Rejection::new(RejectionKind::RateLimited, CANARY).with_source(io()),
        )),
        Box::new(PageError::Unwritable(CANARY.into())),
    ]
}

/// A real one, with a URL in it that has a password and a token.
fn reqwest_error() -> reqwest::Error {
    let client = reqwest::Client::new();
    let request = client.get(format!("nowhere://shop:{CANARY}@db/?token={CANARY}"));
    request.header("a\nb", CANARY).build().unwrap_err()
}

/// The error of another service, every text of which is private here.
fn remote() -> RemoteProblem {
    let mut headers = HeaderMap::new();
    headers.insert("x-request-id", HeaderValue::from_static("r-7"));
    let body = format!(
        r##"{{"type":"urn:{CANARY}","title":"{CANARY}","detail":"{CANARY}","instance":"/{CANARY}",
        "code":"not a word {CANARY}","errors":[{{"detail":"{CANARY}","pointer":"#/{CANARY}"}}],
        "{CANARY}":"{CANARY}"}}"##
    );
    RemoteProblem::from_parts(StatusCode::BAD_GATEWAY, &headers, body.as_bytes())
}

/// An error whose `Debug` prints its chain, as those of report libraries do.
fn anyhow_like(words: &'static str) -> impl Error + Send + Sync {
    #[derive(thiserror::Error)]
    #[error("it failed")]
    struct Report(#[source] Driver, &'static str);
    impl fmt::Debug for Report {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{self}\n\nCaused by:\n    {}\n{}", self.0, self.1)
        }
    }
    Report(Driver::new(None), words)
}

type Constructor = fn(Box<dyn Error + Send + Sync>) -> Problem;

/// A user's own error, by both of the ways that make a problem of it.
#[derive(Debug, thiserror::Error)]
#[error("order {0}")]
struct Own(String, #[source] Box<dyn Error + Send + Sync>);

impl ToProblem for Own {
    fn to_problem(&self) -> Problem {
        Problem::new(409, "CONFLICT", "No.")
    }
}

#[derive(Debug, thiserror::Error)]
#[error("order {0}")]
struct OwnFault(String, #[source] Box<dyn Error + Send + Sync>);

impl Fault for OwnFault {
    fn code(&self) -> &'static str {
        "UPSTREAM_FAILED"
    }

    fn status(&self) -> u16 {
        502
    }

    fn public_message(&self) -> std::borrow::Cow<'_, str> {
        "It failed.".into()
    }
}

const CONSTRUCTORS: [(&str, Constructor); 8] = [
    ("internal", |source| Problem::internal(source)),
    ("new", |source| {
        Problem::new(404, "NOT_FOUND", "No.").with_source(source)
    }),
    ("new 5xx", |source| {
        Problem::new(503, "UNAVAILABLE", "Later.").with_source(source)
    }),
    ("from_status", |source| {
        Problem::from_status(StatusCode::BAD_GATEWAY).with_source(source)
    }),
    ("changed", |source| {
        Problem::internal(source)
            .with_status(422)
            .with_title("Title")
            .with_type("urn:x")
            .with_instance("/a")
            .with_extension("abc", 1)
    }),
    ("ToProblem", |source| Own(CANARY.into(), source).into()),
    ("Fault", |source| OwnFault(CANARY.into(), source).into()),
    ("CallError", |source| {
        CallError::Failed(OwnFault(CANARY.into(), source)).into()
    }),
];

#[test]
fn ee1_no_source_shows_through_any_constructor() {
    let tally = buttress_testkit::tally::suite("EE1");
    for (name, make) in CONSTRUCTORS {
        for source in sources() {
            let told = format!("{name} of {source:?}");
            let problem = make(source);
            let mut seen = vec![
                format!("{problem}"),
                format!("{problem:?}"),
                format!("{problem:#?}"),
                format!("{:?}", Err::<(), _>(problem.clone())),
            ];
            for format in [Format::Json, Format::ProblemJson, Format::RpcStatus] {
                let response = problem.render(format);
                // Headers, extensions and body as `Debug` prints them, and the bytes.
                seen.push(format!("{:?}", response.headers()));
                seen.push(format!("{response:?}"));
                seen.push(String::from_utf8(response.body().to_vec()).unwrap());
            }
            seen.push(format!("{:?}", tonic::Status::from(&problem)));
            seen.push(format!(
                "{:?}",
                tonic::Status::from(problem.clone()).into_http::<String>()
            ));
            for text in seen {
                assert!(!text.contains(CANARY), "{told}: {text}");
            }
            let kept = std::iter::successors(problem.source(), |&error| error.source());
            let kept: Vec<_> = kept.map(|error| format!("{error} {error:?}")).collect();
            assert!(!kept.is_empty(), "{told}: the source is kept for the log");
        }
    }
    tally.operations(CONSTRUCTORS.len() * sources().len());
}

#[test]
fn the_opaque_500_is_the_same_whatever_its_source() {
    let bodies: std::collections::HashSet<_> = sources()
        .into_iter()
        .map(|source| Problem::internal(source).render(Format::Json).into_body())
        .collect();
    assert_eq!(bodies.len(), 1);
}

#[test]
fn the_source_comes_back_by_type() {
    let problem = Problem::internal(Driver::new(None));
    assert!(problem.source().unwrap().downcast_ref::<Driver>().is_some());
    let problem = Problem::from(Own(CANARY.into(), "why".into()));
    assert!(problem.source().unwrap().downcast_ref::<Own>().is_some());
}

#[test]
fn a_value_that_the_caller_sent_is_not_sent_back() {
    #[derive(Debug, serde::Deserialize)]
    struct Order {
        #[expect(dead_code, reason = "only its shape is used")]
        quantity: u8,
    }
    for body in [
        format!(r#"{{"quantity": "{CANARY}"}}"#),
        format!(r#"{{"quantity": 1}} {CANARY}"#),
        format!(r#"{{"quantity": {{"{CANARY}": 1}}}}"#),
    ] {
        let problem = parse_json::<Order>(body.as_bytes()).unwrap_err();
        let seen = format!("{problem:?} {:?}", problem.render(Format::Json));
        assert!(!seen.contains(CANARY), "{seen}");
    }
}
