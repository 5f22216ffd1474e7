//! Signatures: what is believed and what is not.

use std::time::{Duration, SystemTime};

use buttress_core::Fault;
use buttress_outbox::webhook::{Fields, Secret, SignError, Signer, Verifier, VerifyError};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn secret(byte: u8) -> Secret {
    Secret::from_bytes(vec![byte; 32]).unwrap()
}

fn signer(secrets: &[u8]) -> Signer {
    Signer::new(secrets.iter().copied().map(secret)).unwrap()
}

fn verifier(secrets: &[u8]) -> Verifier {
    Verifier::new(secrets.iter().copied().map(secret)).unwrap()
}

/// A way to verify, ours or a broken one.
type Verify<'a> = &'a dyn Fn(&Verifier, Fields<'_>, &[u8]) -> Result<(), VerifyError>;

fn ours(verifier: &Verifier, fields: Fields<'_>, body: &[u8]) -> Result<(), VerifyError> {
    verifier.verify_at(fields, body, now()).map(drop)
}

/// What of a set of right and tampered webhooks is not judged as it should be.
fn misjudged(verify: Verify<'_>) -> Vec<&'static str> {
    let body = br#"{ "b":1, "a":1.0 }"#;
    let signed = signer(&[1]).sign("msg_1", now(), body).unwrap();
    let (time, signature) = (signed.timestamp(), signed.signature());
    let later = (NOW + 1).to_string();
    let unknown_first = format!("v1a,AAAA v9 {signature} v1,short");
    let plus = format!("+{NOW}");
    let cases: [(&'static str, Fields<'_>, &[u8], bool); 10] = [
        (
            "as it was sent",
            Fields::new("msg_1", time, signature),
            body,
            true,
        ),
        (
            "among unknown versions",
            Fields::new("msg_1", time, &unknown_first),
            body,
            true,
        ),
        (
            "another id",
            Fields::new("msg_2", time, signature),
            body,
            false,
        ),
        (
            "another time",
            Fields::new("msg_1", &later, signature),
            body,
            false,
        ),
        (
            "a plus before the time",
            Fields::new("msg_1", &plus, signature),
            body,
            false,
        ),
        (
            "other spaces in the body",
            Fields::new("msg_1", time, signature),
            br#"{"b":1,"a":1.0}"#,
            false,
        ),
        (
            "other keys' order in the body",
            Fields::new("msg_1", time, signature),
            br#"{ "a":1.0, "b":1 }"#,
            false,
        ),
        ("no body", Fields::new("msg_1", time, signature), b"", false),
        ("no signature", Fields::new("msg_1", time, ""), body, false),
        (
            "the time at another place",
            Fields::new("msg_1.1", time, signature),
            body,
            false,
        ),
    ];
    cases
        .into_iter()
        .filter(|(_, fields, body, right)| verify(&verifier(&[1]), *fields, body).is_ok() != *right)
        .map(|(name, ..)| name)
        .collect()
}

#[test]
fn what_was_tampered_with_is_not_believed() {
    assert_eq!(misjudged(&ours), Vec::<&str>::new());
}

/// Planted: the body is parsed and written again before it is looked at.
#[test]
fn a_verifier_that_writes_the_body_anew_is_caught() {
    let rewrites = |verifier: &Verifier, fields: Fields<'_>, body: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let again = serde_json::to_vec(&value).unwrap();
        ours(verifier, fields, &again)
    };
    assert!(misjudged(&rewrites).contains(&"as it was sent"));
}

/// Planted: the time is read as a number, and what is verified is the number written anew.
#[test]
fn a_verifier_that_writes_the_time_anew_is_caught() {
    let rewrites = |verifier: &Verifier, fields: Fields<'_>, body: &[u8]| {
        let Ok(number) = fields.timestamp().parse::<u64>() else {
            return Err(VerifyError::Malformed("webhook-timestamp"));
        };
        let again = number.to_string();
        let fields = Fields::new(fields.id(), &again, fields.signature());
        ours(verifier, fields, body)
    };
    assert_eq!(misjudged(&rewrites), ["a plus before the time"]);
}

#[test]
fn while_a_secret_is_changed_old_and_new_receivers_are_served() {
    let signed = signer(&[2, 1]).sign("msg_1", now(), b"x").unwrap();
    assert_eq!(signed.signature().split(' ').count(), 2);
    let fields = Fields::new("msg_1", signed.timestamp(), signed.signature());
    for (secrets, believed) in [
        (&[1][..], true),
        (&[2], true),
        (&[3, 2], true),
        (&[3], false),
    ] {
        let result = ours(&verifier(secrets), fields, b"x");
        assert_eq!(result.is_ok(), believed, "{secrets:?}");
    }
    // And a sender that has changed at once is believed by a receiver that knows both.
    let signed = signer(&[2]).sign("msg_1", now(), b"x").unwrap();
    let fields = Fields::new("msg_1", signed.timestamp(), signed.signature());
    assert_eq!(ours(&verifier(&[1, 2]), fields, b"x"), Ok(()));
}

#[test]
fn sent_again_a_message_has_its_id_another_time_and_another_signature() {
    // WH-17
    let later = now() + Duration::from_secs(5);
    let first = signer(&[1]).sign("msg_1", now(), b"x").unwrap();
    let second = signer(&[1]).sign("msg_1", later, b"x").unwrap();
    assert_ne!(first.timestamp(), second.timestamp());
    assert_ne!(first.signature(), second.signature());
    let fields = Fields::new("msg_1", second.timestamp(), second.signature());
    assert_eq!(ours(&verifier(&[1]), fields, b"x"), Ok(()));
}

#[test]
fn an_id_that_could_be_cut_elsewhere_or_leave_its_field_is_not_signed() {
    let long = "x".repeat(256);
    for id in ["", "a.b", "a b", "a\r\nx-evil: 1", "a\0b", "ž", &long] {
        let refused = signer(&[1]).sign(id, now(), b"x");
        assert_eq!(refused, Err(SignError::Id), "{id:?}");
    }
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let refused = signer(&[1]).sign("msg_1", early, b"x");
    assert_eq!(refused, Err(SignError::Time));
}

#[test]
fn no_secrets_and_too_many_are_refused() {
    let many = |count| (0..count).map(|_| secret(1));
    for (count, fits) in [(0, false), (1, true), (8, true), (9, false)] {
        assert_eq!(Signer::new(many(count)).is_ok(), fits, "{count}");
        assert_eq!(Verifier::new(many(count)).is_ok(), fits, "{count}");
    }
    // It does not wait for the end of a list that has none.
    assert!(Signer::new(std::iter::repeat_with(|| secret(1))).is_err());
}

#[test]
fn a_flood_of_signatures_costs_no_more_than_a_few() {
    let wrong = format!("v1,{}", "A".repeat(43) + "=");
    let flood = vec![wrong; 1000].join(" ");
    let time = NOW.to_string();
    let refused = ours(&verifier(&[1]), Fields::new("msg_1", &time, &flood), b"x");
    assert_eq!(refused, Err(VerifyError::Malformed("webhook-signature")));
}

#[test]
fn a_clock_at_the_ends_of_time_is_an_error_and_no_panic() {
    let forever = verifier(&[1]).with_tolerance(Duration::MAX);
    let signed = signer(&[1]).sign("msg_1", now(), b"x").unwrap();
    let fields = Fields::new("msg_1", signed.timestamp(), signed.signature());
    for at in [
        SystemTime::UNIX_EPOCH,
        now(),
        now() - Duration::from_secs(u64::from(u32::MAX)),
    ] {
        assert!(forever.verify_at(fields, b"x", at).is_ok());
    }
    let far = Fields::new("msg_1", "999999999999", signed.signature());
    assert_eq!(ours(&verifier(&[1]), far, b"x"), Err(VerifyError::TooNew));
}

#[test]
fn what_is_missing_is_named_and_nothing_is_repeated() {
    let missing = Fields::by(|name| (name != "webhook-timestamp").then_some("x"));
    assert_eq!(
        missing.unwrap_err(),
        VerifyError::Missing("webhook-timestamp")
    );
    let canary = "canary";
    let time = NOW.to_string();
    for fields in [
        Fields::new("canary.canary", &time, canary),
        Fields::new(canary, canary, canary),
        Fields::new(canary, &time, canary),
        Fields::new(canary, "1", canary),
    ] {
        let error = ours(&verifier(&[1]), fields, b"canary").unwrap_err();
        let said = format!(
            "{error} {error:?} {} {}",
            error.public_message(),
            error.code()
        );
        assert!(!said.contains(canary), "{said}");
        assert!(matches!(error.status(), 400 | 401));
    }
}

#[test]
fn no_secret_is_shown_by_debug() {
    let canary = Secret::parse("whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5").unwrap();
    let signer = Signer::new([canary.clone()]).unwrap();
    let verifier = Verifier::new([canary.clone()]).unwrap();
    let shown = format!("{canary:?} {signer:#?} {verifier:#?}");
    for part in ["canary", "Y2Fu", "99, 97, 110"] {
        assert!(!shown.contains(part), "{shown}");
    }
}

proptest! {
    #[test]
    fn what_was_signed_is_believed_and_with_one_bit_changed_it_is_not(
        id in "[!-\\-/-~]{1,64}",
        body in any::<Vec<u8>>(),
        key in proptest::collection::vec(any::<u8>(), 24..=64),
        bit in any::<proptest::sample::Index>(),
    ) {
        let secret = Secret::from_bytes(key).unwrap();
        let signer = Signer::new([secret.clone()]).unwrap();
        let verifier = Verifier::new([secret]).unwrap();
        let signed = signer.sign(&id, now(), &body).unwrap();
        let fields = Fields::new(&id, signed.timestamp(), signed.signature());
        prop_assert_eq!(ours(&verifier, fields, &body), Ok(()));
        if !body.is_empty() {
            let mut other = body.clone();
            let bit = bit.index(other.len() * 8);
            other[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(ours(&verifier, fields, &other), Err(VerifyError::Signature));
        }
    }

    #[test]
    fn no_fields_make_it_panic(id in ".*", timestamp in ".*", signature in ".*", body: Vec<u8>) {
        let fields = Fields::new(&id, &timestamp, &signature);
        prop_assert!(ours(&verifier(&[1]), fields, &body).is_err());
    }
}
