//! What a success looks like when it leaves.

use buttress_error_envelope::{Envelope, Problem};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

#[test]
fn an_envelope_that_cannot_be_serialized_is_the_opaque_500() {
    struct Secret;
    impl Serialize for Secret {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("canary"))
        }
    }
    for response in [
        Envelope::new(Secret).render(),
        Envelope::new(1).with_meta(Secret).render(),
    ] {
        assert_eq!(response.status(), 500);
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"]["code"], "INTERNAL");
        assert!(!body.to_string().contains("canary"));
        assert!(response.extensions().get::<Problem>().is_some());
    }
}

#[test]
fn an_envelope_has_meta_only_where_there_is_something_to_say() {
    let body = |envelope: Envelope<u8>| {
        let response = envelope.render();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(
            response.headers()["content-length"],
            response.body().len().to_string()
        );
        String::from_utf8(response.body().to_vec()).unwrap()
    };
    assert_eq!(body(Envelope::new(7)), r#"{"success":true,"data":7}"#);
    assert_eq!(
        body(Envelope::new(7).with_meta(())),
        r#"{"success":true,"data":7}"#
    );
    let meta = Envelope::new(7).with_meta(json!({"next": null}));
    assert_eq!(
        body(meta),
        r#"{"success":true,"data":7,"meta":{"next":null}}"#
    );
}
