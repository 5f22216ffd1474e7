//! The fields and body of a webhook, of any bytes: never a panic, and only what was signed is
//! believed.
#![no_main]

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use buttress_outbox::webhook::{Fields, Secret, Signer, Verifier};
use libfuzzer_sys::fuzz_target;

static SECRET: LazyLock<Secret> = LazyLock::new(|| Secret::from_bytes(vec![7; 32]).unwrap());

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (id, time, signature, body) = (line(), line(), line(), line());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let verifier = Verifier::new([SECRET.clone()]).unwrap();
    // Nobody finds a code of 32 bytes.
    let made_up = Fields::new(id, time, signature);
    assert!(verifier.verify_at(made_up, body.as_bytes(), now).is_err());
    if let Ok(secret) = Secret::parse(signature) {
        assert_eq!(
            &*Secret::parse(&secret.expose()).unwrap().expose(),
            &*secret.expose()
        );
    }
    let signer = Signer::new([SECRET.clone()]).unwrap();
    let Ok(signed) = signer.sign(id, now, body.as_bytes()) else {
        return;
    };
    let fields = |id, time, signature| Fields::new(id, time, signature);
    let ours = fields(id, signed.timestamp(), signed.signature());
    assert_eq!(
        verifier.verify_at(ours, body.as_bytes(), now).unwrap().id(),
        id
    );
    // Together with anything else it still counts, and for nothing else does.
    if !time.is_empty() && time != signed.timestamp() {
        let other = fields(id, time, signed.signature());
        assert!(verifier.verify_at(other, body.as_bytes(), now).is_err());
    }
    let longer = format!("{body}x");
    assert!(verifier.verify_at(ours, longer.as_bytes(), now).is_err());
});
