//! Cases of the specification and of other libraries' tests, by their ids.

use std::time::{Duration, SystemTime};

use buttress_outbox::{
    Message,
    webhook::{ATTEMPTS, Fields, Secret, Signer, Verifier, VerifyError, retry_schedule},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SENT: u64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn sign(secret: &str, id: &str, sent: u64, body: &[u8]) -> String {
    let signer = Signer::new([Secret::parse(secret).unwrap()]).unwrap();
    let signed = signer.sign(id, at(sent), body).unwrap();
    assert_eq!(signed.timestamp(), sent.to_string());
    signed.signature().to_owned()
}

/// What becomes of WH-01's message with another timestamp field and another signature field.
fn verify(timestamp: &str, signature: &str, now: u64) -> Result<(), VerifyError> {
    let verifier = Verifier::new([Secret::parse(SECRET).unwrap()]).unwrap();
    let fields = Fields::new(ID, timestamp, signature);
    verifier.verify_at(fields, BODY, at(now)).map(drop)
}

#[test]
fn wh_01_to_wh_06_signatures() {
    let czech = "{\"n\":\"Žluťoučký €\"}".as_bytes();
    let second = (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1_649_367_553,
        br#"{"email":"test@example.com","username":"test_user"}"#.as_slice(),
    );
    for (row, (secret, id, sent, body), expected) in [
        ("WH-01", (SECRET, ID, SENT, BODY), SIGNATURE),
        (
            "WH-02",
            second,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            "WH-03",
            (SECRET, ID, SENT, b"".as_slice()),
            "v1,v48jdbgvh29KJz2Qc+ghw8G6vG3nAKnujWBg8oM/62A=",
        ),
        (
            "WH-05",
            (SECRET, ID, SENT, czech),
            "v1,UZZdwD57/RHxA76uFaEL81JZvB0YevBoS0G04EP+mvU=",
        ),
        (
            "WH-06",
            (SECRET, ID, SENT, b"\xff\xfe\x00".as_slice()),
            "v1,3jg4eW7u8bRdDDGq2uq+cH74GMn0QRxtzvZDV5Akycg=",
        ),
    ] {
        assert_eq!(sign(secret, id, sent, body), expected, "{row}");
        let verifier = Verifier::new([Secret::parse(secret).unwrap()]).unwrap();
        let timestamp = sent.to_string();
        let fields = Fields::new(id, &timestamp, expected);
        let verified = verifier.verify_at(fields, body, at(sent)).unwrap();
        assert_eq!((verified.id(), verified.sent()), (id, at(sent)), "{row}");
    }
}

#[test]
fn wh_07_a_secret_with_and_without_its_prefix_is_the_same_key() {
    let bare = SECRET.trim_start_matches("whsec_");
    assert_eq!(sign(bare, ID, SENT, BODY), SIGNATURE);
    for text in ["", "whsec_"] {
        assert!(Secret::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn wh_09_five_minutes_in_both_directions_and_not_a_second_more() {
    let now = |now| verify(&SENT.to_string(), SIGNATURE, now);
    assert_eq!(now(SENT + 300), Ok(()));
    assert_eq!(now(SENT - 300), Ok(()));
    assert_eq!(now(SENT + 301), Err(VerifyError::TooOld));
    assert_eq!(now(SENT - 301), Err(VerifyError::TooNew));
}

#[test]
fn wh_10_to_wh_14_what_is_refused() {
    let sent = SENT.to_string();
    let altered = SIGNATURE.replace("1OE=", "1OA=");
    let short = &SIGNATURE[..8];
    let other_version = SIGNATURE.replace("v1,", "v2,");
    let wrong = Err(VerifyError::Signature);
    for (row, signature) in [
        ("WH-10", altered.as_str()),
        ("WH-11", "v1,"),
        ("WH-11", short),
        ("WH-13", &other_version),
    ] {
        assert_eq!(verify(&sent, signature, SENT), wrong, "{row}");
    }
    for timestamp in ["+1614265330", "01614265330"] {
        let malformed = Err(VerifyError::Malformed("webhook-timestamp"));
        assert_eq!(verify(timestamp, SIGNATURE, SENT), malformed, "WH-14");
    }
}

#[test]
fn wh_15_the_schedule_ends_after_75_hours_35_minutes_and_5_seconds() {
    let retries = ATTEMPTS as usize - 1;
    let waits: Vec<_> = retry_schedule().delays().take(retries).collect();
    let minutes = [5, 30, 120, 300, 600, 840, 1200, 1440];
    let expected = minutes.map(|minutes| Duration::from_secs(minutes * 60));
    assert_eq!(waits[0], Duration::from_secs(5));
    assert_eq!(waits[1..], expected);
    let total: Duration = waits.iter().sum();
    assert_eq!(total.as_secs(), 75 * 3600 + 35 * 60 + 5);
    let later = retry_schedule().delays().nth(retries).unwrap();
    assert_eq!(later, Duration::from_secs(24 * 3600));
}

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";

/// Whether a message can carry this value. What it carries is sent as it is.
fn carries(traceparent: &str) -> bool {
    let message = Message::builder("orders", "/shop", "order.placed").traceparent(traceparent);
    message.build().is_ok()
}

#[test]
fn tp_01_to_tp_03_values_that_are_kept_and_values_that_are_not() {
    for (row, value, kept) in [
        ("TP-01", format!("00-{TRACE}-{SPAN}-01"), true),
        ("TP-02", format!("00-{TRACE}-{SPAN}-01."), false),
        (
            "TP-02",
            format!("00-{TRACE}-{SPAN}-01-what-the-future-will-be-like"),
            false,
        ),
        ("TP-03", format!("cc-{TRACE}-{SPAN}-01"), true),
        (
            "TP-03",
            format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"),
            true,
        ),
        (
            "TP-03",
            format!("cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like"),
            false,
        ),
    ] {
        assert_eq!(carries(&value), kept, "{row} {value}");
    }
}

#[test]
fn tp_05_malformed_parts_are_not_carried() {
    let zeros = "0".repeat(32);
    for trace in [
        &zeros,
        ".2345678901234567890123456789012",
        &TRACE[1..],
        "123456789012345678901234567890123",
    ] {
        assert!(!carries(&format!("00-{trace}-{SPAN}-01")), "{trace}");
    }
    for span in [
        "0000000000000000",
        ".234567890123456",
        "12345678901234567",
        &SPAN[1..],
    ] {
        assert!(!carries(&format!("00-{TRACE}-{span}-01")), "{span}");
    }
    for flags in [".0", "0.", "001", "1"] {
        assert!(!carries(&format!("00-{TRACE}-{SPAN}-{flags}")), "{flags}");
    }
}

#[test]
fn ce_01_an_event_has_an_id_a_source_and_a_type() {
    for (source, event_type) in [("", "order.placed"), ("/shop", "")] {
        assert!(
            Message::builder("orders", source, event_type)
                .build()
                .is_err()
        );
    }
    let message = Message::builder("orders", "/shop", "order.placed")
        .id("")
        .build();
    assert!(!message.unwrap().id().is_empty());
}
