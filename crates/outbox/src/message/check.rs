//! What a message's fields may hold.

use std::collections::BTreeMap;

use super::Message;
use crate::MessageError;

const fn wrong(field: &'static str, rule: &'static str) -> MessageError {
    MessageError::Field { field, rule }
}

/// Text of 1 to `longest` bytes without control characters: nothing that ends a line or a header.
pub(super) fn text(
    field: &'static str,
    value: &str,
    longest: usize,
    rule: &'static str,
) -> Result<(), MessageError> {
    if value.is_empty() || value.len() > longest || value.chars().any(char::is_control) {
        return Err(wrong(field, rule));
    }
    Ok(())
}

/// Names are lower-case tokens of RFC 9110, values visible text.
pub(super) fn headers(headers: &BTreeMap<String, String>) -> Result<(), MessageError> {
    if headers.len() > Message::MOST_HEADERS {
        return Err(wrong("headers", "at most 64"));
    }
    for (name, value) in headers {
        let token = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
        };
        if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
            return Err(wrong(
                "headers",
                "a name is 1 to 128 characters of a lower-case token (RFC 9110)",
            ));
        }
        if value.len() > 4096 || value.chars().any(char::is_control) {
            return Err(wrong(
                "headers",
                "a value is at most 4096 bytes without control characters",
            ));
        }
    }
    Ok(())
}

/// W3C Trace Context, level 1: `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zeros; of a later
/// version more may follow.
pub(super) fn traceparent(value: &str) -> Result<(), MessageError> {
    let rule = "W3C Trace Context: version-traceid-parentid-flags";
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = value.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (next(), next(), next(), next());
    let more = parts.next();
    let good = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && !zero(trace)
        && hex(parent, 16)
        && !zero(parent)
        && hex(flags, 2)
        && (more.is_none() || version != "00")
        && value.len() <= 256
        && value.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        Ok(())
    } else {
        Err(wrong("traceparent", rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(traceparent(good).is_ok());
        assert!(traceparent(&format!("01{}-more", &good[2..])).is_ok());
        for wrong in [
            "",
            &good[..54],
            &good.to_uppercase(),
            &format!("{good}-more"),
            &format!("ff{}", &good[2..]),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert!(traceparent(wrong).is_err(), "{wrong}");
        }
    }
}
