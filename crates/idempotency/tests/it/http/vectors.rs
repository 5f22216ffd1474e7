//! The rows of the vectors that are about HTTP, each under its id.

use http::{Method, Request};
use http_body_util::Full;

use super::stand::{Answer, Stand, ask, post};

/// A row: what is sent after one another, and what each is answered with.
struct Row {
    id: &'static str,
    /// The status with which the handler answers.
    handler: u16,
    steps: &'static [Step],
    /// How often the handler ran in the end.
    runs: u32,
}

/// Header (if any), body, caller; expected: status, code of a refusal, replayed.
type Step = (
    Option<&'static str>,
    &'static str,
    &'static str,
    u16,
    &'static str,
    bool,
);

const ROWS: &[Row] = &[
    Row {
        id: "ID-01",
        handler: 201,
        steps: &[(None, "{}", "alice", 400, "IDEMPOTENCY_KEY_MISSING", false)],
        runs: 0,
    },
    Row {
        id: "ID-02",
        handler: 201,
        steps: &[
            (Some("k"), "{\"a\":1}", "alice", 201, "", false),
            (
                Some("k"),
                "{\"a\":2}",
                "alice",
                422,
                "IDEMPOTENCY_KEY_REUSED",
                false,
            ),
        ],
        runs: 1,
    },
    // A bare one is not a string of RFC 8941, and is taken all the same, as the same key.
    Row {
        id: "ID-05",
        handler: 201,
        steps: &[
            (
                Some("\"8e03978e-40d5-43e8-bc93-6894a57f9324\""),
                "{}",
                "alice",
                201,
                "",
                false,
            ),
            (
                Some("8e03978e-40d5-43e8-bc93-6894a57f9324"),
                "{}",
                "alice",
                201,
                "",
                true,
            ),
        ],
        runs: 1,
    },
    Row {
        id: "ID-06",
        handler: 201,
        steps: &[
            (
                Some("\"clkyoesmbgybucifusbbtdsbohtyuuwz\""),
                "{}",
                "alice",
                201,
                "",
                false,
            ),
            (
                Some("\"clkyoesmbgybucifusbbtdsbohtyuuwz\""),
                "{}",
                "alice",
                201,
                "",
                true,
            ),
        ],
        runs: 1,
    },
    Row {
        id: "ID-07",
        handler: 201,
        steps: &[
            (Some("k"), "{}", "alice", 201, "", false),
            (Some("k"), "{}", "bob", 201, "", false),
            (Some("k"), "{}", "alice", 201, "", true),
        ],
        runs: 2,
    },
    Row {
        id: "ID-09",
        handler: 201,
        steps: &[
            (Some("k"), "{}", "alice", 201, "", false),
            (Some("k"), "{}", "alice", 201, "", true),
        ],
        runs: 1,
    },
    // Of the missing keys those that a header can say.
    Row {
        id: "ID-23",
        handler: 201,
        steps: &[
            (
                Some(""),
                "{}",
                "alice",
                400,
                "IDEMPOTENCY_KEY_INVALID",
                false,
            ),
            (
                Some("\"\""),
                "{}",
                "alice",
                400,
                "IDEMPOTENCY_KEY_INVALID",
                false,
            ),
            (Some("0"), "{}", "alice", 201, "", false),
            (Some("False"), "{}", "alice", 201, "", false),
        ],
        runs: 2,
    },
    Row {
        id: "ID-25",
        handler: 201,
        steps: &[
            (
                Some("k"),
                "{\"data\":1,\"more_data\":[2]}",
                "alice",
                201,
                "",
                false,
            ),
            (
                Some("k"),
                "{\"more_data\":[2],\"data\":1}",
                "alice",
                201,
                "",
                true,
            ),
        ],
        runs: 1,
    },
    Row {
        id: "ID-34",
        handler: 201,
        steps: &[
            (
                Some("k"),
                "{\"details\":[{\"currency\":\"SEK\"}]}",
                "alice",
                201,
                "",
                false,
            ),
            (
                Some("k"),
                "{\"details\":[{\"currency\":\"EUR\"}]}",
                "alice",
                422,
                "IDEMPOTENCY_KEY_REUSED",
                false,
            ),
        ],
        runs: 1,
    },
    Row {
        id: "ID-35",
        handler: 201,
        steps: &[
            (Some("k"), "{\"amount\":100}", "alice", 201, "", false),
            (
                Some("k"),
                "{\"amount\":10000}",
                "alice",
                422,
                "IDEMPOTENCY_KEY_REUSED",
                false,
            ),
            (Some("k"), "{\"amount\":100}", "alice", 201, "", true),
        ],
        runs: 1,
    },
    Row {
        id: "ID-47",
        handler: 422,
        steps: &[
            (Some("k"), "{\"a\":1}", "alice", 422, "", false),
            (Some("k"), "{\"a\":2}", "alice", 422, "", false),
        ],
        runs: 2,
    },
];

#[tokio::test]
async fn each_row_is_answered_as_it_says() {
    for row in ROWS {
        let stand = Stand::new();
        let (layer, service) = (stand.layer(), stand.answering(row.handler));
        let mut first: Option<Answer> = None;
        for (at, (key, body, caller, status, code, replayed)) in row.steps.iter().enumerate() {
            let mut request = match key {
                Some(key) => post(key, body),
                None => Request::post("/orders").body(Full::from(*body)).unwrap(),
            };
            request
                .headers_mut()
                .insert("x-caller", caller.parse().unwrap());
            let answer = ask(&layer, service.clone(), request).await;
            let id = row.id;
            assert_eq!(
                (answer.status, answer.is_replay()),
                (*status, *replayed),
                "{id} {at}"
            );
            if !code.is_empty() {
                assert_eq!(answer.code(), *code, "{id} {at}");
            }
            match &first {
                Some(first) if *replayed => assert_eq!(answer.body, first.body, "{id} {at}"),
                Some(_) => {}
                None => first = Some(answer),
            }
        }
        assert_eq!(stand.runs(), row.runs, "{}", row.id);
    }
}

/// ID-37: two functions, one payload, one store.
#[tokio::test]
async fn id_37_two_routes_have_keys_of_their_own() {
    let stand = Stand::new();
    for (path, method) in [
        ("/a", Method::POST),
        ("/b", Method::POST),
        ("/a", Method::PATCH),
    ] {
        let mut request = post("k", "{}");
        *request.uri_mut() = path.parse().unwrap();
        *request.method_mut() = method;
        assert!(
            !ask(&stand.layer(), stand.answering(201), request)
                .await
                .is_replay()
        );
    }
    assert_eq!(stand.runs(), 3);
}

/// ID-38: the handler changes what it was given.
#[tokio::test]
async fn id_38_a_handler_cannot_change_what_its_answer_is_kept_under() {
    let stand = Stand::new();
    let counted = stand.clone();
    let service = tower::service_fn(move |mut request: super::stand::Asked| {
        let run = counted.run();
        request
            .headers_mut()
            .insert("idempotency-key", "other".parse().unwrap());
        *request.uri_mut() = "/elsewhere".parse().unwrap();
        drop(request);
        let answer = super::stand::answer(201, &format!("run {run}"));
        async { Ok::<_, std::convert::Infallible>(answer) }
    });
    for replayed in [false, true] {
        let answer = ask(&stand.layer(), service.clone(), post("k", "{}")).await;
        assert_eq!((answer.is_replay(), answer.text()), (replayed, "run 1"));
    }
}
