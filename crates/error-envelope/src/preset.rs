//! The code and the sentence that stand for a bare status.

use std::borrow::Cow;

use http::StatusCode;

/// Code and public message of an error status about which no more is known.
pub(crate) fn of(status: StatusCode) -> (Cow<'static, str>, Cow<'static, str>) {
    if let Some((code, message)) = known(status.as_u16()) {
        return (code.into(), message.into());
    }
    status.canonical_reason().map_or_else(
        || {
            let message = "The request could not be served.";
            (format!("HTTP_{}", status.as_u16()).into(), message.into())
        },
        |phrase| (screaming(phrase).into(), format!("{phrase}.").into()),
    )
}

/// The statuses for which there are words of ours.
pub(crate) const fn known(status: u16) -> Option<(&'static str, &'static str)> {
    Some(match status {
        400 => ("MALFORMED_REQUEST", "The request cannot be read."),
        404 => ("ROUTE_NOT_FOUND", "There is nothing at this address."),
        405 => (
            "METHOD_NOT_ALLOWED",
            "This method is not allowed at this address.",
        ),
        408 => ("REQUEST_TIMEOUT", "The request was not complete in time."),
        413 => ("PAYLOAD_TOO_LARGE", "The body of the request is too large."),
        415 => (
            "UNSUPPORTED_MEDIA_TYPE",
            "The body of the request is of a type that is not supported here.",
        ),
        422 => ("VALIDATION_FAILED", "The request is not valid."),
        429 => ("RATE_LIMITED", "Too many requests."),
        500 => ("INTERNAL", "Something went wrong on our side."),
        502 => ("UPSTREAM_FAILED", "A service behind this one failed."),
        503 => ("UNAVAILABLE", "The service cannot take requests right now."),
        504 => (
            "UPSTREAM_TIMEOUT",
            "A service behind this one did not answer in time.",
        ),
        _ => return None,
    })
}

/// `I'm a teapot` becomes `IM_A_TEAPOT`.
fn screaming(phrase: &str) -> String {
    phrase
        .chars()
        .filter(|c| *c != '\'')
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_status_has_a_code_in_screaming_snake_case_and_a_sentence() {
        for number in 400..600 {
            let (code, message) = of(StatusCode::from_u16(number).unwrap());
            let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(code.starts_with(|c: char| c.is_ascii_uppercase()), "{code}");
            assert!(code.chars().all(allowed), "{code}");
            assert!(message.ends_with('.'), "{message}");
        }
    }

    #[test]
    fn a_status_without_a_code_of_its_own_takes_its_phrase_or_its_number() {
        let code = |number| of(StatusCode::from_u16(number).unwrap()).0;
        assert_eq!(code(409), "CONFLICT");
        assert_eq!(code(418), "IM_A_TEAPOT");
        assert_eq!(code(431), "REQUEST_HEADER_FIELDS_TOO_LARGE");
        assert_eq!(code(499), "HTTP_499");
    }
}
