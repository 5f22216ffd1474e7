//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header).

use http::HeaderMap;

use super::refusal::Refusal;

const LONGEST: usize = 255;

/// The key, without its quotes: quoted and bare are one key.
pub(super) fn read(headers: &HeaderMap) -> Result<String, Refusal> {
    let mut values = headers.get_all("idempotency-key").iter();
    let value = values.next().ok_or(Refusal::KeyMissing)?;
    // Two keys are no key: which one would it be remembered under?
    if values.next().is_some() {
        return Err(Refusal::KeyInvalid);
    }
    let value = value.to_str().map_err(|_| Refusal::KeyInvalid)?;
    let key = unquote(value).ok_or(Refusal::KeyInvalid)?;
    let printable = key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && (1..=LONGEST).contains(&key.len()) {
        Ok(key)
    } else {
        Err(Refusal::KeyInvalid)
    }
}

/// Reads the string form of RFC 8941, section 3.3.3; anything that does not begin with a quote is
/// taken as it is.
fn unquote(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut key = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(key),
            '\\' => key.push(
                characters
                    .next()
                    .filter(|next| matches!(next, '"' | '\\'))?,
            ),
            other => key.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn reads(values: &[&str]) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                "idempotency-key",
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        read(&headers)
    }

    #[test]
    fn quoted_and_bare_are_one_key() {
        for value in ["8e03978e", "\"8e03978e\""] {
            assert_eq!(reads(&[value]).as_deref(), Ok("8e03978e"));
        }
        assert_eq!(reads(&[r#""a\"b\\c""#]).as_deref(), Ok(r#"a"b\c"#));
    }

    #[test]
    fn length_counts_without_the_quotes() {
        let longest = "k".repeat(255);
        assert!(reads(&[&format!("\"{longest}\"")]).is_ok());
        assert_eq!(reads(&[&format!("{longest}k")]), Err(Refusal::KeyInvalid));
    }

    #[test]
    fn an_empty_key_is_invalid_and_an_absent_one_is_missing() {
        assert_eq!(reads(&[]), Err(Refusal::KeyMissing));
        for value in [
            "",
            "\"\"",
            "\"open",
            "\"a\"b",
            r#""a\b""#,
            "\"",
            "schlüssel",
            "a\tb",
        ] {
            assert_eq!(reads(&[value]), Err(Refusal::KeyInvalid), "{value:?}");
        }
        assert_eq!(reads(&["one", "two"]), Err(Refusal::KeyInvalid));
    }
}
