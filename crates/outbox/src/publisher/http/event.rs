//! A message as an event in HTTP (CloudEvents 1.0.2, HTTP protocol binding and JSON format).

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Serialize, de::IgnoredAny};

use super::{Form, fields};
use crate::{Delivery, Message, publisher::time::rfc3339};

/// What is encoded in the value of a `ce-` field; what is not ASCII always is.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

const STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json");

/// A message that does not fit a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("an attribute or a header of the message cannot be a field of a request")]
    Field,
    #[error("the message cannot be written as JSON")]
    Json,
}

/// The body of a request, and the fields that belong to the message.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) body: Bytes,
    pub(super) headers: HeaderMap,
}

/// The event as JSON, but for its data.
#[derive(Serialize)]
struct Attributes<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataschema: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// Renders a message; the same one always gives the same.
pub(super) fn render(delivery: &Delivery, form: Form) -> Result<Rendered, Unfit> {
    let message = delivery.message();
    let mut headers = HeaderMap::new();
    for (name, value) in message.headers() {
        if fields::may_be_a_messages(name) {
            let name = HeaderName::try_from(name).map_err(|_| Unfit::Field)?;
            headers.insert(name, field(value)?);
        }
    }
    for (name, value) in [
        ("traceparent", message.traceparent()),
        ("tracestate", message.tracestate()),
    ] {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), field(value)?);
        }
    }
    // When it happened, or else when it was said, which does not change either.
    let time = rfc3339(message.time().unwrap_or_else(|| delivery.created_at()));
    let body = match form {
        Form::Structured => {
            headers.insert(CONTENT_TYPE, STRUCTURED);
            structured(message, time.as_deref())?
        }
        Form::Binary => {
            binary(message, time.as_deref(), &mut headers)?;
            message.payload().clone()
        }
    };
    Ok(Rendered { body, headers })
}

fn field(value: &str) -> Result<HeaderValue, Unfit> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Unfit::Field)
}

fn structured(message: &Message, time: Option<&str>) -> Result<Bytes, Unfit> {
    let payload = message.payload();
    let json = message.data_content_type().is_some_and(is_json) && is_valid_json(payload);
    let encoded = (!json && !payload.is_empty()).then(|| STANDARD.encode(payload));
    let attributes = Attributes {
        specversion: "1.0",
        id: message.id(),
        source: message.source(),
        event_type: message.event_type(),
        subject: message.subject(),
        time,
        datacontenttype: message.data_content_type(),
        dataschema: message.data_schema(),
        traceparent: message.traceparent(),
        tracestate: message.tracestate(),
        data_base64: encoded,
    };
    let mut body = serde_json::to_vec(&attributes).map_err(|_| Unfit::Json)?;
    if json {
        // The payload's own bytes: parsed and written anew, large numbers would be others.
        let closing = body.pop();
        body.extend_from_slice(b",\"data\":");
        body.extend_from_slice(payload);
        body.extend(closing);
    }
    Ok(body.into())
}

fn binary(message: &Message, time: Option<&str>, headers: &mut HeaderMap) -> Result<(), Unfit> {
    for (name, value) in [
        ("ce-specversion", Some("1.0")),
        ("ce-id", Some(message.id())),
        ("ce-source", Some(message.source())),
        ("ce-type", Some(message.event_type())),
        ("ce-subject", message.subject()),
        ("ce-time", time),
        ("ce-dataschema", message.data_schema()),
        ("ce-traceparent", message.traceparent()),
        ("ce-tracestate", message.tracestate()),
    ] {
        if let Some(value) = value {
            let encoded = utf8_percent_encode(value, ENCODED).to_string();
            headers.insert(HeaderName::from_static(name), field(&encoded)?);
        }
    }
    if let Some(content_type) = message.data_content_type() {
        headers.insert(CONTENT_TYPE, field(content_type)?);
    }
    Ok(())
}

/// `…/json` or `…+json`, whatever parameters follow.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = media_type.rsplit('/').next().unwrap_or_default();
    let subtype = subtype.to_ascii_lowercase();
    subtype == "json" || subtype.ends_with("+json")
}

fn is_valid_json(payload: &[u8]) -> bool {
    std::str::from_utf8(payload).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use percent_encoding::percent_decode;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::MessageBuilder;

    const TRACE: &str = "00-12345678901234567890123456789012-1234567890123456-01";

    fn base() -> MessageBuilder {
        Message::builder("orders", "/shop", "order.placed").id("m-1")
    }

    fn rendered(builder: MessageBuilder, form: Form) -> Rendered {
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000);
        let message = builder.build().unwrap();
        let delivery = Delivery::new(message, 1, 1, created_at);
        render(&delivery, form).unwrap()
    }

    fn body(builder: MessageBuilder) -> Value {
        let rendered = rendered(builder, Form::Structured);
        serde_json::from_slice(&rendered.body).unwrap()
    }

    #[test]
    fn a_structured_event_has_all_of_it_in_its_body() {
        let builder = || {
            base()
                .subject("apple")
                .traceparent(TRACE)
                .tracestate("a=1")
                .data_schema("https://example.com/schema")
                .json(&json!({"n": 1}))
        };
        let expected = json!({
            "specversion": "1.0", "id": "m-1", "source": "/shop", "type": "order.placed",
            "subject": "apple", "time": "1970-01-01T00:00:01.5Z",
            "datacontenttype": "application/json", "dataschema": "https://example.com/schema",
            "traceparent": TRACE, "tracestate": "a=1", "data": {"n": 1},
        });
        assert_eq!(body(builder()), expected);
        let headers = rendered(builder(), Form::Structured).headers;
        assert_eq!(headers[CONTENT_TYPE], "application/cloudevents+json");
        // TP-01: the trace goes on. What comes after a span of our own would have another parent;
        // there is none.
        assert_eq!(headers["traceparent"], TRACE);
    }

    #[test]
    fn ce_06_and_07_data_or_data_base64_and_nothing_assumed() {
        let with = |content_type: &str, payload: &'static [u8]| {
            base().data_content_type(content_type).payload(payload)
        };
        // Kept to the byte, with its large number.
        let rendered = rendered(
            with("application/json", b"{ \"n\": 9007199254740993.0 }"),
            Form::Structured,
        );
        let text = std::str::from_utf8(&rendered.body).unwrap();
        assert!(
            text.ends_with(",\"data\":{ \"n\": 9007199254740993.0 }}"),
            "{text}"
        );
        for (content_type, payload, data, encoded) in [
            ("application/json", &b"null"[..], Some(Value::Null), None),
            (
                "application/hal+json; charset=utf-8",
                b"[1]",
                Some(json!([1])),
                None,
            ),
            ("application/JSON", b"7", Some(json!(7)), None),
            ("text/plain", b"null", None, Some("bnVsbA==")),
            ("application/json", b"not json", None, Some("bm90IGpzb24=")),
            ("application/json", b"1}, {", None, Some("MX0sIHs=")),
            ("application/json", b"\"\xff\"", None, Some("Iv8i")),
            ("application/json", b"", None, None),
        ] {
            let event = body(with(content_type, payload));
            assert_eq!(
                event.get("data"),
                data.as_ref(),
                "{content_type} {payload:?}"
            );
            let found = event.get("data_base64").and_then(Value::as_str);
            assert_eq!(found, encoded, "{content_type} {payload:?}");
        }
        let event = body(base().payload(&b"7"[..]));
        assert_eq!(event.get("datacontenttype"), None);
        assert_eq!(event["data_base64"], "Nw==");
    }

    #[test]
    fn a_binary_event_has_its_attributes_encoded_in_fields() {
        let builder = base()
            .subject("Žluť \"100%\"")
            .data_content_type("text/plain")
            .payload(&b"x"[..]);
        let Rendered { body, headers } = rendered(builder, Form::Binary);
        assert_eq!(body, "x");
        for (name, value) in [
            ("content-type", "text/plain"),
            ("ce-specversion", "1.0"),
            ("ce-id", "m-1"),
            ("ce-source", "/shop"),
            ("ce-type", "order.placed"),
            ("ce-subject", "%C5%BDlu%C5%A5%20%22100%25%22"),
            ("ce-time", "1970-01-01T00:00:01.5Z"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert!(
            rendered(base(), Form::Binary)
                .headers
                .get(CONTENT_TYPE)
                .is_none()
        );
    }

    #[test]
    fn a_messages_headers_cannot_frame_route_or_sign_the_request() {
        let mut builder = base().header("x-tenant", "ž 7").traceparent(TRACE);
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "webhook-id",
            "Webhook-Signature",
            "ce-type",
            "authorization",
            "cookie",
            "traceparent",
        ] {
            builder = builder.header(name, "evil");
        }
        let headers = rendered(builder, Form::Structured).headers;
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "traceparent", "x-tenant"]);
        assert_eq!(headers["traceparent"], TRACE);
        assert_eq!(headers["x-tenant"], "ž 7".as_bytes());
    }

    proptest! {
        #[test]
        fn every_message_can_be_rendered_and_read_again(
            source in ".{1,40}",
            event_type in ".{1,40}",
            subject in ".{1,40}",
            content_type in proptest::option::of(".{1,20}"),
            value in ".{0,40}",
            payload in any::<Vec<u8>>(),
        ) {
            let mut builder = Message::builder("orders", &*source, &*event_type)
                .subject(&*subject)
                .header("x-note", value)
                .payload(payload.clone());
            if let Some(content_type) = content_type {
                builder = builder.data_content_type(content_type);
            }
            // What has control characters in it is no message.
            let Ok(message) = builder.build() else {
                return Ok(());
            };
            let delivery = Delivery::new(message, 1, 1, SystemTime::UNIX_EPOCH);
            let structured = render(&delivery, Form::Structured).unwrap();
            let event: Value = serde_json::from_slice(&structured.body).unwrap();
            let binary = render(&delivery, Form::Binary).unwrap();
            prop_assert_eq!(&binary.body[..], &payload[..]);
            for (name, expected) in [("source", &source), ("type", &event_type), ("subject", &subject)] {
                prop_assert_eq!(event[name].as_str(), Some(expected.as_str()));
                let field = binary.headers[format!("ce-{name}")].as_bytes();
                prop_assert!(field.iter().all(u8::is_ascii_graphic));
                let decoded = percent_decode(field).decode_utf8().unwrap();
                prop_assert_eq!(&*decoded, expected.as_str());
            }
            match event.get("data_base64").and_then(Value::as_str) {
                Some(encoded) => prop_assert_eq!(STANDARD.decode(encoded).unwrap(), payload),
                None => prop_assert!(payload.is_empty() || event.get("data").is_some()),
            }
        }
    }
}
