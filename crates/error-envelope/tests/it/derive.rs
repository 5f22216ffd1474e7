//! What the derive makes of variants, structs and fields.

use std::{error::Error as _, fmt, time::Duration};

use buttress_core::{CallError, Fault, Rejection, RejectionKind, RetryAfter};
use buttress_error_envelope::{
    CodeEntry, Codes, FieldError, FieldErrors, Format, Problem, ProblemCodes, RpcCode, ToProblem,
    ValueKind,
};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

const CANARY: &str = "c4n4ry";

/// A driver's error, as the shop wraps it.
#[derive(Debug, thiserror::Error)]
#[error("row ({0})")]
struct Driver(String);

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

    fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(3))
    }
}

const DRIVER: Codes = Codes::new(&[CodeEntry::of_status(503).with_retry_after(3)], &[]);

#[derive(Debug, thiserror::Error, ToProblem)]
#[problem(domain = "shop.example.com")]
enum OrderError {
    /// No order has this id.
    ///
    /// Ids are opaque.
    #[error("no row {id} in orders_v2")]
    #[problem(
        code = "ORDER_NOT_FOUND",
        status = 404,
        message = "There is no such order."
    )]
    NotFound { id: u64 },

    #[error("account {account} has {balance}, needs {cost}")]
    #[problem(
        code = "OUT_OF_CREDIT",
        status = 403,
        title = "You do not have enough credit.",
        type = "https://example.com/probs/out-of-credit",
        message = "Your balance is {balance:>4}, but {{that}} costs {cost}; again: {balance}.",
        grpc = "FAILED_PRECONDITION",
        retryable = false
    )]
    OutOfCredit {
        account: String,
        /// What is left, in cents.
        #[problem(extension, example = 30)]
        balance: u32,
        #[problem(public)]
        cost: u32,
        #[problem(extension = "accounts")]
        others: Vec<String>,
        #[problem(extension)]
        hint: Option<&'static str>,
    },

    #[error("too many, {0:?}")]
    #[problem(code = "ORDERS_LIMITED", status = 429, message = "{1} is too many.")]
    Limited(
        #[problem(retry_after)] Duration,
        #[problem(public, example = 11)] u32,
    ),

    #[error("busy")]
    #[problem(
        code = "BUSY",
        status = 409,
        message = "Busy.",
        retry_after = 5,
        domain = "other"
    )]
    Busy,

    #[error("closed")]
    #[problem(code = "CLOSED", status = 503, message = "Closed.", retry_after = hours * 3600)]
    Closed { hours: u64 },

    #[error("wrong")]
    #[problem(code = "VALIDATION_FAILED", status = 422, message = "Wrong.", shared)]
    Wrong(#[problem(fields)] FieldErrors),

    #[error("wrong here")]
    #[problem(
        code = "VALIDATION_FAILED",
        status = 422,
        message = "Wrong here.",
        shared
    )]
    WrongHere {
        #[problem(fields)]
        list: Vec<FieldError>,
    },

    #[error("unknown caller")]
    #[problem(code = "UNAUTHENTICATED", status = 401, message = "Who is it?")]
    Unauthenticated(#[problem(headers)] HeaderMap),

    #[error(transparent)]
    #[problem(transparent, codes = DRIVER)]
    Driver(#[from] Driver),

    #[error(transparent)]
    #[problem(transparent)]
    Rejected(#[from] Rejection),

    #[error("odd: {0}")]
    #[problem(internal)]
    Odd(String, #[source] std::io::Error),
}

fn shown(error: &impl ToProblem, format: Format) -> Value {
    serde_json::from_slice(error.to_problem().render(format).body()).unwrap()
}

#[test]
fn a_variant_leaves_with_what_it_says_and_no_more() {
    let error = OrderError::NotFound { id: 7 };
    assert_eq!(
        shown(&error, Format::Json),
        json!({"success": false, "error": {
            "code": "ORDER_NOT_FOUND", "message": "There is no such order.",
        }})
    );
    let error = OrderError::OutOfCredit {
        account: CANARY.into(),
        balance: 30,
        cost: 50,
        others: vec!["a".into()],
        hint: None,
    };
    assert_eq!(
        shown(&error, Format::ProblemJson),
        json!({
            "type": "https://example.com/probs/out-of-credit",
            "title": "You do not have enough credit.",
            "status": 403,
            "detail": "Your balance is   30, but {that} costs 50; again: 30.",
            "code": "OUT_OF_CREDIT",
            "balance": 30,
            "accounts": ["a"],
            "retryable": false,
        })
    );
    let problem = error.to_problem();
    assert_eq!(problem.rpc_code(), RpcCode::FailedPrecondition);
    assert_eq!(problem.domain(), Some("shop.example.com"));
    assert!(!problem.is_retryable());
}

#[test]
fn a_time_to_come_back_is_a_number_an_expression_or_a_field() {
    let wait = |error: OrderError| error.to_problem().retry_after().map(RetryAfter::as_secs);
    assert_eq!(wait(OrderError::Busy), Some(5));
    assert_eq!(wait(OrderError::Closed { hours: 2 }), Some(7200));
    assert_eq!(
        wait(OrderError::Limited(Duration::from_millis(1500), 3)),
        Some(2)
    );
    assert_eq!(wait(OrderError::NotFound { id: 1 }), None);
    let limited = OrderError::Limited(Duration::ZERO, 3).to_problem();
    assert_eq!(limited.message(), "3 is too many.");
    assert_eq!(OrderError::Busy.to_problem().domain(), Some("other"));
}

#[test]
fn fields_and_headers_come_from_the_variant() {
    let list = vec![FieldError::pointer("/a", "is wrong")];
    let wrong = OrderError::Wrong(list.iter().cloned().collect()).to_problem();
    assert_eq!(wrong.fields(), list);
    assert_eq!(
        OrderError::WrongHere { list: list.clone() }
            .to_problem()
            .fields(),
        list
    );
    let challenge = HeaderValue::from_static("Bearer");
    let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, challenge)]);
    let problem = OrderError::Unauthenticated(headers).to_problem();
    let response = problem.render(Format::Json);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
}

#[test]
fn a_transparent_variant_leaves_as_its_field_does() {
    let problem = OrderError::from(Driver(CANARY.into())).to_problem();
    assert_eq!(problem.to_string(), "UNAVAILABLE (503)");
    assert_eq!(problem.retry_after().map(RetryAfter::as_secs), Some(3));
    let open = Rejection::new(RejectionKind::CircuitOpen, "payments");
    assert_eq!(OrderError::from(open).to_problem().code(), "CIRCUIT_OPEN");
}

#[test]
fn what_is_not_marked_stays_inside_and_the_error_is_kept_for_the_log() {
    let io = || std::io::Error::other(CANARY);
    for error in [
        OrderError::Odd(CANARY.into(), io()),
        OrderError::Driver(Driver(CANARY.into())),
        OrderError::OutOfCredit {
            account: CANARY.into(),
            balance: 1,
            cost: 2,
            others: Vec::new(),
            hint: Some("later"),
        },
    ] {
        let problem = Problem::from(error);
        for format in [Format::Json, Format::ProblemJson, Format::RpcStatus] {
            let response = problem.render(format);
            let seen = format!("{problem:?} {response:?}");
            assert!(!seen.contains(CANARY), "{seen}");
        }
        let source = problem.source().unwrap();
        assert!(source.downcast_ref::<OrderError>().is_some());
        assert!(format!("{source:?}").contains(CANARY));
    }
    assert_eq!(
        OrderError::Odd(String::new(), io()).to_problem().code(),
        "INTERNAL"
    );
}

#[test]
fn every_variant_has_its_entry_in_the_catalogue() {
    let entries = OrderError::CODES.entries();
    let codes: Vec<_> = entries.iter().map(|entry| entry.code()).collect();
    assert_eq!(
        codes,
        [
            "BUSY",
            "CIRCUIT_OPEN",
            "CLOSED",
            "CONCURRENCY_LIMITED",
            "DEADLINE_EXCEEDED",
            "INTERNAL",
            "ORDERS_LIMITED",
            "ORDER_NOT_FOUND",
            "OUT_OF_CREDIT",
            "RATE_LIMITED",
            "UNAUTHENTICATED",
            "UNAVAILABLE",
            "VALIDATION_FAILED",
        ]
    );
    let entry = |code| *entries.iter().find(|entry| entry.code() == code).unwrap();
    let not_found = entry("ORDER_NOT_FOUND");
    assert_eq!(not_found.status(), 404);
    assert_eq!(
        not_found.description(),
        "No order has this id.\n\nIds are opaque."
    );
    assert!(!not_found.is_retryable() && !not_found.has_retry_after());
    let limited = entry("ORDERS_LIMITED");
    assert!(limited.has_retry_after());
    assert_eq!(limited.message(), "{1} is too many.");
    assert_eq!(limited.example().message(), "11 is too many.");
    assert!(entry("VALIDATION_FAILED").has_fields());
    let credit = entry("OUT_OF_CREDIT");
    assert_eq!(credit.title(), Some("You do not have enough credit."));
    assert_eq!(credit.rpc_code(), RpcCode::FailedPrecondition);
    let extensions = credit.extensions().iter();
    let extensions: Vec<_> = extensions
        .map(|it| (it.name(), it.kind(), it.is_optional(), it.description()))
        .collect();
    assert_eq!(
        extensions,
        [
            (
                "balance",
                ValueKind::Integer,
                false,
                "What is left, in cents."
            ),
            ("accounts", ValueKind::Array, false, ""),
            ("hint", ValueKind::String, true, ""),
        ]
    );
    assert_eq!(credit.example().extensions()["balance"], 30);
    assert!(credit.example().message().contains("again: 30."));
}

/// A struct, with a type of its own, a lifetime and a raw name.
#[derive(Debug, thiserror::Error, ToProblem)]
#[error("taken by {by}")]
#[problem(
    code = "NAME_TAKEN",
    status = 409,
    message = "`{name}` is taken; try {kind}."
)]
struct Taken<'a, N: fmt::Display + fmt::Debug, const LIMIT: usize> {
    #[problem(extension)]
    name: N,
    #[problem(public)]
    r#kind: &'a str,
    by: String,
}

#[derive(Debug, thiserror::Error, ToProblem)]
enum Wrapped<E: std::error::Error + 'static> {
    #[error(transparent)]
    #[problem(transparent)]
    Inner(E),
    #[error("late")]
    #[problem(code = "LATE", status = 504, message = "Late.", retryable)]
    Late,
}

#[derive(Debug, thiserror::Error, ToProblem)]
#[error("unit")]
#[problem(code = "UNIT", status = 400, message = "A {{brace}}.")]
struct Unit;

#[derive(Debug, thiserror::Error, ToProblem)]
#[error(transparent)]
#[problem(transparent)]
struct Newtype(#[from] CallError<Rejection>);

#[derive(Debug, thiserror::Error, ToProblem)]
enum Never {}

#[test]
fn generic_types_and_structs_leave_too() {
    let taken = Taken::<'_, _, 3> {
        name: 7_u8,
        kind: "eight",
        by: CANARY.into(),
    };
    let problem = taken.to_problem();
    assert_eq!(problem.message(), "`7` is taken; try eight.");
    assert_eq!(problem.extensions()["name"], 7);
    assert_eq!(Wrapped::Inner(Unit).to_problem().message(), "A {brace}.");
    let late = Wrapped::<Unit>::Late.to_problem();
    assert!(late.is_retryable());
    assert_eq!(
        Wrapped::<Unit>::CODES
            .entries()
            .iter()
            .map(|it| it.code())
            .collect::<Vec<_>>(),
        ["LATE", "UNIT"]
    );
    let rejected = || Rejection::new(RejectionKind::RateLimited, "orders");
    let limited = Newtype::from(CallError::Failed(rejected()));
    assert_eq!(limited.to_problem().code(), "RATE_LIMITED");
    assert_eq!(Newtype::CODES.entries().len(), 5);
    assert!(Never::CODES.entries().is_empty());
}

#[test]
fn a_wrapped_call_leaves_by_its_rejection_or_by_its_own_error() {
    let failed = Problem::from_call(CallError::Failed(OrderError::Busy));
    assert_eq!(failed.to_string(), "BUSY (409)");
    let source = failed.source().unwrap();
    assert!(source.downcast_ref::<CallError<OrderError>>().is_some());
    let open = Rejection::new(RejectionKind::CircuitOpen, "payments");
    let rejected = Problem::from_call(CallError::<OrderError>::from(open));
    assert_eq!(rejected.to_string(), "CIRCUIT_OPEN (503)");
}

/// What cannot be serialized is left out, and nothing else with it.
#[derive(Debug)]
struct Unreadable;

impl serde::Serialize for Unreadable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

#[derive(Debug, thiserror::Error, ToProblem)]
#[error("odd")]
#[problem(code = "ODD", status = 400, message = "Odd.")]
struct Odd(
    #[problem(extension = "one")] Unreadable,
    #[problem(extension = "two")] f64,
    #[problem(extension = "three")] u8,
);

#[test]
fn an_extension_that_cannot_be_written_is_left_out_alone() {
    let problem = Odd(Unreadable, f64::NAN, 3).to_problem();
    assert_eq!(problem.extensions().keys().collect::<Vec<_>>(), ["three"]);
}
