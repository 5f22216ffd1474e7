//! google.rpc.Status: its codes, its details, its JSON, and tonic's form of it.

use std::time::Duration;

use buttress_error_envelope::{
    BadRequest, ErrorInfo, FieldError, FieldViolation, Format, InvalidErrorInfo, MAX_BODY,
    PreconditionFailure, PreconditionViolation, Problem, RetryInfo, RpcCode, RpcDetail, RpcStatus,
};
use http::StatusCode;
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

fn shown(problem: &Problem) -> Value {
    let response = problem.render(Format::RpcStatus);
    let media_type = "application/protobuf+json; charset=utf-8";
    assert_eq!(response.headers()["content-type"], media_type);
    assert!(response.body().len() <= MAX_BODY);
    serde_json::from_slice(response.body()).unwrap()
}

#[test]
fn er_13_a_metadata_key_begins_with_a_small_letter() {
    let info = ErrorInfo::new("NO_VM", "compute.example.com").unwrap();
    assert!(info.clone().with_metadata("vmType", "e2").is_ok());
    assert!(info.clone().with_metadata("zone-1_a", "x").is_ok());
    let long = "a".repeat(65);
    for key in ["VmType", "", "v", "1a", "vm type", "größe", "_vm", &long] {
        let refused = info.clone().with_metadata(key, "e2").unwrap_err();
        assert_eq!(refused, InvalidErrorInfo::Key(key.to_owned()), "{key}");
    }
    // A problem has been made already, and leaves all the same, without it, and says so.
    let problem = Problem::new(409, "NO_VM", "No.")
        .with_extension("VmType", "e2")
        .with_extension("vmType", "e2");
    assert_eq!(
        shown(&problem)["details"][0]["metadata"],
        json!({"vmType": "e2", "truncated": "true"})
    );
}

#[test]
fn a_reason_is_in_upper_case_and_a_code_that_is_none_is_made_one() {
    for reason in [
        "",
        "A",
        "AB",
        "lower",
        "_ABC",
        "ABC_",
        "A B",
        "1AB",
        &"A".repeat(64),
    ] {
        assert!(ErrorInfo::new(reason, "").is_err(), "{reason}");
    }
    for (code, reason) in [
        ("ORDER_NOT_FOUND", "ORDER_NOT_FOUND"),
        ("order-not.found", "ORDER_NOT_FOUND"),
        ("_x9_", "UNKNOWN_REASON"),
        ("", "UNKNOWN_REASON"),
        ("größe", "GR__E"),
        (&"a".repeat(100), &"A".repeat(63)),
    ] {
        let problem = Problem::new(409, code.to_owned(), "No.");
        assert_eq!(shown(&problem)["details"][0]["reason"], *reason, "{code}");
    }
}

#[test]
fn er_14_each_type_of_detail_is_there_at_most_once() {
    let bad = || {
        RpcDetail::BadRequest(BadRequest {
            violations: vec![FieldViolation::new("a", "is wrong")],
        })
    };
    let failure = RpcDetail::PreconditionFailure(PreconditionFailure {
        violations: vec![PreconditionViolation::new(
            "TOS",
            "example.com",
            "not accepted",
        )],
    });
    let status = RpcStatus::new(RpcCode::InvalidArgument, "No.");
    let status = status.with_detail(bad()).unwrap();
    let twice = status.clone().with_detail(bad()).unwrap_err();
    assert_eq!(twice.type_name, "google.rpc.BadRequest");
    let both = status.with_detail(failure).unwrap();
    assert_eq!(
        serde_json::to_value(&both).unwrap(),
        json!({"code": 3, "message": "No.", "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "a", "description": "is wrong"}],
            },
            {
                "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
                "violations": [{
                    "type": "TOS", "subject": "example.com", "description": "not accepted",
                }],
            },
        ]})
    );
    let details = tonic::Status::from(&both).get_error_details();
    assert!(details.bad_request().is_some() && details.precondition_failure().is_some());
}

#[test]
fn er_15_each_code_has_the_http_status_of_code_proto() {
    let table = [
        (0, "OK", 200),
        (1, "CANCELLED", 499),
        (2, "UNKNOWN", 500),
        (3, "INVALID_ARGUMENT", 400),
        (4, "DEADLINE_EXCEEDED", 504),
        (5, "NOT_FOUND", 404),
        (6, "ALREADY_EXISTS", 409),
        (7, "PERMISSION_DENIED", 403),
        (8, "RESOURCE_EXHAUSTED", 429),
        (9, "FAILED_PRECONDITION", 400),
        (10, "ABORTED", 409),
        (11, "OUT_OF_RANGE", 400),
        (12, "UNIMPLEMENTED", 501),
        (13, "INTERNAL", 500),
        (14, "UNAVAILABLE", 503),
        (15, "DATA_LOSS", 500),
        (16, "UNAUTHENTICATED", 401),
    ];
    assert_eq!(table.len(), RpcCode::ALL.len());
    for (number, name, status) in table {
        let code = RpcCode::from_number(number);
        assert_eq!((code.number(), code.name()), (number, name));
        assert_eq!(code.http_status(), status, "{name}");
        assert_eq!(tonic::Code::from(code), tonic::Code::from_i32(number));
        // Back by the status: the same, or one that has the same status.
        let back = RpcCode::from_status(code.http_status());
        assert_eq!(back.http_status(), status, "{name}");
    }
    for number in [-1, 17, i32::MAX, i32::MIN] {
        assert_eq!(RpcCode::from_number(number), RpcCode::Unknown);
    }
}

#[test]
fn every_status_of_an_error_has_a_code_of_an_error() {
    for status in 400..600 {
        let code = RpcCode::from_status(StatusCode::from_u16(status).unwrap());
        assert_ne!(code, RpcCode::Ok, "{status}");
        assert_ne!(code, RpcCode::Unknown, "{status}");
        assert_eq!(
            code.http_status().is_server_error(),
            status >= 500 || status == 405 || status == 408
        );
    }
}

/// One that has everything.
fn full() -> Problem {
    Problem::new(429, "OUT_OF_CREDIT", "The balance is 30.")
        .with_domain("shop.example.com")
        .with_retry_after(Duration::from_millis(1500))
        .with_retryable(true)
        .with_extension("balance", 30)
        .with_extension("accounts", json!(["a"]))
        .with_field(FieldError::pointer("/items/0/quantity", "is too much").with_code("MAX"))
        .with_field(FieldError::parameter("limit", "is too much"))
        .with_source(std::io::Error::other("c4n4ry"))
}

#[test]
fn a_problem_has_error_info_bad_request_and_retry_info() {
    assert_eq!(
        shown(&full()),
        json!({"code": 8, "message": "The balance is 30.", "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "OUT_OF_CREDIT",
                "domain": "shop.example.com",
                "metadata": {"accounts": "[\"a\"]", "balance": "30", "retryable": "true"},
            },
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [
                    {"field": "items[0].quantity", "description": "is too much", "reason": "MAX"},
                    {"field": "limit", "description": "is too much"},
                ],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"},
        ]})
    );
    let exists = full().with_rpc_code(RpcCode::AlreadyExists);
    assert_eq!(shown(&exists)["code"], 6);
}

#[test]
fn a_delay_is_written_in_seconds_with_a_fraction() {
    for (delay, told) in [
        (Duration::from_secs(3), "3s"),
        (Duration::from_millis(1500), "1.5s"),
        (Duration::from_nanos(1), "0.000000001s"),
    ] {
        let status = RpcStatus::new(RpcCode::Unavailable, "");
        let status = status
            .with_detail(RpcDetail::RetryInfo(RetryInfo { delay }))
            .unwrap();
        let status = serde_json::to_value(&status).unwrap();
        assert_eq!(status["details"][0]["retryDelay"], told);
    }
}

#[test]
fn tonic_gets_the_same_details() {
    let status = tonic::Status::from(full());
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(status.message(), "The balance is 30.");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(
        (&*info.reason, &*info.domain),
        ("OUT_OF_CREDIT", "shop.example.com")
    );
    assert_eq!(info.metadata["balance"], "30");
    assert_eq!(
        details.retry_info().unwrap().retry_delay,
        Some(Duration::from_secs(2))
    );
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "items[0].quantity");
    assert!(!format!("{status:?}").contains("c4n4ry"));
}

#[test]
fn whatever_goes_in_the_body_and_the_header_stay_in_their_bounds() {
    let long = "\"\u{1}größe".repeat(500);
    let mut problem = Problem::new(422, "X".repeat(500), long.clone())
        .with_domain(long.clone())
        .with_extension("metadata", long.clone());
    for at in 0..1000 {
        problem = problem
            .with_field(FieldError::pointer(&format!("/{at}"), long.clone()))
            .with_extension(format!("key{at}"), at);
    }
    let body = shown(&problem);
    assert_eq!(body["details"][0]["metadata"]["truncated"], "true");
    let response = tonic::Status::from(&problem).into_http::<String>();
    let bytes: usize = response
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum();
    assert!(bytes < 8 * 1024, "{bytes}");
}

#[test]
fn a_grpc_client_reads_the_details_from_the_headers() {
    let response = tonic::Status::from(full()).into_http::<String>();
    assert_eq!(response.status(), 200);
    let read = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_eq!(
        read.get_error_details().error_info().unwrap().reason,
        "OUT_OF_CREDIT"
    );
}
