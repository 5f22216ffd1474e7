//! The catalogue: each code once, and how it is shown.

use buttress_error_envelope::{
    Catalogue, CodeEntry, Codes, ExtensionEntry, ProblemCodes, ToProblem, ValueKind,
    openapi::{self, ErrorResponses},
};
use serde_json::{Value, json};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApiBuilder, path::OperationBuilder};

#[derive(Debug, thiserror::Error, ToProblem)]
#[expect(dead_code, reason = "only its codes are used")]
enum Orders {
    /// Nothing is known of the order.
    #[error("no such order")]
    #[problem(
        code = "ORDER_NOT_FOUND",
        status = 404,
        message = "There is no such order."
    )]
    NotFound,
    #[error("no credit")]
    #[problem(
        code = "OUT_OF_CREDIT",
        status = 403,
        message = "It costs more than {balance}."
    )]
    OutOfCredit {
        /// What is left | <b>in cents</b>.
        #[problem(extension, example = 30)]
        balance: u32,
        #[problem(extension)]
        hint: Option<String>,
    },
    #[error("closed")]
    #[problem(
        code = "CLOSED",
        status = 403,
        message = "Closed <now> | \"here\".",
        retry_after = 9
    )]
    Closed,
}

#[derive(Debug, thiserror::Error, ToProblem)]
#[expect(dead_code, reason = "only its codes are used")]
enum Payments {
    #[error("declined")]
    #[problem(code = "OUT_OF_CREDIT", status = 402, message = "Declined.")]
    Declined,
}

const LAYER: Codes = Codes::new(&[CodeEntry::of_status(404), CodeEntry::of_status(500)], &[]);
const CATALOGUE: Catalogue = Catalogue::new(&[LAYER, Orders::CODES, LAYER, Orders::CODES]);

fn codes(catalogue: Catalogue) -> Vec<&'static str> {
    catalogue
        .entries()
        .iter()
        .map(|entry| entry.code())
        .collect()
}

#[test]
fn a_definition_that_is_listed_twice_is_one() {
    assert_eq!(
        codes(CATALOGUE),
        [
            "CLOSED",
            "INTERNAL",
            "ORDER_NOT_FOUND",
            "OUT_OF_CREDIT",
            "ROUTE_NOT_FOUND"
        ]
    );
    assert!(CATALOGUE.get("ORDER").is_none());
}

#[test]
fn a_code_that_is_defined_twice_is_told_with_both_places() {
    let told = Catalogue::try_new(const { &[LAYER, Orders::CODES, Payments::CODES] });
    let told = told.unwrap_err().to_string();
    assert!(
        told.contains("the code OUT_OF_CREDIT is defined twice"),
        "{told}"
    );
    for place in [
        "catalogue::Orders::OutOfCredit at ",
        "catalogue::Payments::Declined at ",
    ] {
        assert!(told.contains(place), "{told}");
    }
    // The place is that of the variant, not of the derive.
    let line = |variant: &str| {
        let before = include_str!("catalogue.rs").lines();
        before.take_while(|line| line.trim() != variant).count() + 1
    };
    for variant in ["OutOfCredit {", "Declined,"] {
        let place = format!("{}:{}", file!(), line(variant));
        assert!(told.contains(&place), "{told}: {place}");
    }
}

#[test]
fn a_duplicate_stops_the_start_with_the_same_words() {
    let parts: &'static [Codes] = const { &[Orders::CODES, Payments::CODES] };
    let panic = std::panic::catch_unwind(|| Catalogue::new(parts)).unwrap_err();
    let told = panic.downcast_ref::<String>().unwrap();
    assert_eq!(*told, Catalogue::try_new(parts).unwrap_err().to_string());
}

#[test]
fn a_shared_code_means_the_same_in_all_places() {
    const ENTRY: CodeEntry = CodeEntry::new("BUSY", 409);
    const fn two(one: CodeEntry, other: CodeEntry) -> [CodeEntry; 2] {
        [one, other.named("another")]
    }
    const SAME: &[CodeEntry] = &two(ENTRY.shared(), ENTRY.shared().with_message("Busy."));
    const STATUS: &[CodeEntry] = &two(ENTRY.shared(), CodeEntry::new("BUSY", 503).shared());
    const TITLE: &[CodeEntry] = &two(ENTRY.shared(), ENTRY.shared().with_title("Busy"));
    const TYPE: &[CodeEntry] = &two(ENTRY.shared(), ENTRY.shared().with_type("urn:busy"));
    const ONE_SHARED: &[CodeEntry] = &two(ENTRY.shared(), ENTRY);
    let is_refused = |parts| Catalogue::try_new(parts).is_err();
    assert!(!is_refused(const { &[Codes::new(SAME, &[])] }));
    assert!(is_refused(const { &[Codes::new(STATUS, &[])] }));
    assert!(is_refused(const { &[Codes::new(TITLE, &[])] }));
    assert!(is_refused(const { &[Codes::new(TYPE, &[])] }));
    assert!(is_refused(const { &[Codes::new(ONE_SHARED, &[])] }));
    // Also deep within.
    const DEEP: &[Codes] = &[Codes::new(TITLE, &[])];
    const DEEPER: &[Codes] = &[Codes::new(&[], DEEP)];
    assert!(is_refused(const { &[Codes::new(&[], DEEPER)] }));
}

#[test]
fn json_has_all_that_is_known_and_an_example_of_each_form() {
    let page = CATALOGUE.to_json();
    let list = page["errors"].as_array().unwrap();
    assert_eq!(list.len(), 5);
    let credit = list
        .iter()
        .find(|it| it["code"] == "OUT_OF_CREDIT")
        .unwrap();
    assert_eq!(credit["status"], 403);
    assert_eq!(credit["grpc"], "PERMISSION_DENIED");
    assert_eq!(credit["retryable"], false);
    assert_eq!(credit["extensions"][0]["type"], "integer");
    let examples = &credit["examples"];
    assert_eq!(
        examples["application/json"],
        json!({"success": false, "error": {
            "code": "OUT_OF_CREDIT",
            "message": "It costs more than 30.",
            "details": {"balance": 30, "hint": "text"},
        }})
    );
    assert_eq!(examples["application/problem+json"]["balance"], 30);
    let details = &examples["application/protobuf+json; charset=utf-8"]["details"];
    assert_eq!(
        details[0]["metadata"],
        json!({"balance": "30", "hint": "text"})
    );
}

#[test]
fn markdown_is_a_table_and_a_chapter_for_each_code() {
    let page = CATALOGUE.to_markdown();
    let row = r#"| `CLOSED` | 403 | `PERMISSION_DENIED` | after `Retry-After` | Closed <now> \| "here". |"#;
    assert!(page.contains(row), "{page}");
    assert!(
        page.contains("\n## ORDER_NOT_FOUND\n\nNothing is known of the order.\n"),
        "{page}"
    );
    assert!(
        page.contains("- `balance` (integer): What is left | <b>in cents</b>."),
        "{page}"
    );
    assert!(page.contains("- `hint` (string, or absent)"), "{page}");
}

#[test]
fn nothing_of_a_definition_is_markup_in_the_page() {
    let page = CATALOGUE.to_html("Errors & <more>");
    assert!(
        page.contains("<h1>Errors &amp; &lt;more&gt;</h1>"),
        "{page}"
    );
    assert!(
        page.contains("Closed &lt;now&gt; | &quot;here&quot;."),
        "{page}"
    );
    assert!(
        page.contains("<h2 id=\"OUT_OF_CREDIT\">OUT_OF_CREDIT</h2>"),
        "{page}"
    );
    for markup in ["<now>", "<b>", "<more>", "<script"] {
        assert!(!page.contains(markup), "{markup}");
    }
}

fn document() -> Value {
    let operation = OperationBuilder::new()
        .responses(openapi::responses(
            &ErrorResponses::<(Orders, Vec404)>::codes(),
        ));
    let paths = utoipa::openapi::PathsBuilder::new().path(
        "/orders/{id}",
        utoipa::openapi::PathItem::new(utoipa::openapi::HttpMethod::Get, operation),
    );
    let document = OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Shop").version("1"))
        .paths(paths)
        .components(Some(openapi::components(ComponentsBuilder::new()).build()));
    serde_json::to_value(document.build()).unwrap()
}

/// One more error of the route, with a status that another has too.
struct Vec404;

impl ProblemCodes for Vec404 {
    const OWN: &'static [CodeEntry] = &[CodeEntry::of_status(404)
        .with_extensions(&[ExtensionEntry::new("nearest", ValueKind::Number).optional()])];
}

#[test]
fn every_error_of_a_route_is_in_its_operation_with_an_example_body() {
    let document = document();
    let responses = &document["paths"]["/orders/{id}"]["get"]["responses"];
    let statuses: Vec<_> = responses.as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["403", "404"]);
    // Two errors of one status are both there.
    for (status, codes) in [
        ("403", ["CLOSED", "OUT_OF_CREDIT"]),
        ("404", ["ORDER_NOT_FOUND", "ROUTE_NOT_FOUND"]),
    ] {
        for media_type in ["application/json", "application/problem+json"] {
            let examples = responses[status]["content"][media_type]["examples"]
                .as_object()
                .unwrap();
            assert_eq!(examples.keys().collect::<Vec<_>>(), codes);
            for (code, example) in examples {
                let value = &example["value"];
                let shown = value.get("code").unwrap_or(&value["error"]["code"]);
                assert_eq!(shown, code);
            }
        }
    }
    assert!(responses["403"]["headers"]["Retry-After"].is_object());
    assert!(responses["404"].get("headers").is_none());
}

#[test]
fn the_schemas_that_responses_name_are_among_the_components() {
    let document = document();
    let mut seen = Vec::new();
    refs(&document, &mut seen);
    assert!(!seen.is_empty());
    for name in seen {
        let pointer = name.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{name}");
    }
}

fn refs(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("$ref", Value::String(name)) => into.push(name.clone()),
                    _ => refs(value, into),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| refs(value, into)),
        _ => {}
    }
}
