//! What a webhook's signature costs to make and to verify, beside the code over the same bytes,
//! which is the limit, and the specification's own library.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use buttress_outbox::webhook::{Fields, Secret, Signer, Verifier};
use criterion::{Criterion, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "0198c1f0-7b1d-7cc3-98c4-dc0c0c07398f";

fn now() -> SystemTime {
    #[expect(
        clippy::disallowed_methods,
        reason = "the peer reads the system's clock, and so both are given its time"
    )]
    SystemTime::now()
}

fn webhooks(c: &mut Criterion) {
    let secret = Secret::parse(SECRET).expect("a secret");
    let signer = Signer::new([secret.clone()]).expect("one secret");
    let verifier = Verifier::new([secret]).expect("one secret");
    let verifier = verifier.with_tolerance(Duration::from_secs(3600));
    let peer = standardwebhooks::Webhook::new(SECRET).expect("a secret");
    let keyed = Hmac::<Sha256>::new_from_slice(&[7; 24]).expect("any key");
    for size in [256, 4096] {
        let body = vec![b'x'; size];
        let now = now();
        let signed = signer.sign(ID, now, &body).expect("an id");
        let fields = Fields::new(ID, signed.timestamp(), signed.signature());
        let mut headers = http::HeaderMap::new();
        for (name, value) in [
            ("webhook-id", ID),
            ("webhook-timestamp", signed.timestamp()),
            ("webhook-signature", signed.signature()),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        let seconds = signed.timestamp().parse().expect("seconds");

        let mut group = c.benchmark_group(format!("{size} bytes"));
        group.bench_function("bare code", |b| {
            b.iter(|| {
                let mut mac = keyed.clone();
                Mac::update(&mut mac, black_box(&body));
                mac.finalize()
            });
        });
        group.bench_function("sign", |b| {
            b.iter(|| signer.sign(ID, now, black_box(&body)));
        });
        group.bench_function("verify", |b| {
            b.iter(|| verifier.verify_at(fields, black_box(&body), now).is_ok());
        });
        group.bench_function("sign, standardwebhooks", |b| {
            b.iter(|| peer.sign(ID, seconds, black_box(&body)));
        });
        group.bench_function("verify, standardwebhooks", |b| {
            b.iter(|| peer.verify(black_box(&body), &headers).is_ok());
        });
        group.finish();
    }
}

criterion_group!(benches, webhooks);
criterion_main!(benches);
