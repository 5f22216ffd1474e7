//! A message of any parts, its trace context among them: never a panic, and nothing in it that
//! could leave its field.
#![no_main]

use buttress_outbox::{Message, Topic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(9, '\u{1}');
    let mut line = || lines.next().unwrap_or_default();
    let (topic, source, kind, id, subject) = (line(), line(), line(), line(), line());
    let (parent, state, name, value) = (line(), line(), line(), line());
    if let Ok(topic) = Topic::new(topic) {
        let bad = |character: char| character.is_control() || "*> ".contains(character);
        assert!(!topic.as_str().contains(bad), "{topic:?}");
    }
    let builder = Message::builder(topic, source, kind)
        .traceparent(parent)
        .tracestate(state)
        .header(name, value)
        .payload(value.as_bytes().to_vec());
    let builder = if id.is_empty() {
        builder
    } else {
        builder.id(id).subject(subject)
    };
    let Ok(message) = builder.build() else {
        return;
    };
    let is_plain = |text: &str| !text.contains(['\r', '\n', '\0']);
    assert!(
        [message.id(), message.source(), message.event_type()]
            .into_iter()
            .all(is_plain)
    );
    assert!(message.subject().is_none_or(is_plain));
    if let Some(parent) = message.traceparent() {
        // W3C Trace Context, of version 00: 2-32-16-2 hexadecimal digits.
        let lengths: Vec<_> = parent.split('-').map(str::len).collect();
        assert!(lengths.starts_with(&[2, 32, 16, 2]), "{parent}");
    }
    assert!(message.tracestate().is_none_or(is_plain));
    assert!(!format!("{message:?}").contains(char::is_control));
});
