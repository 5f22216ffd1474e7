//! What may be a webhook's id.

/// The longest id that is sent or believed, in bytes: the family's bound of a key.
const LONGEST: usize = 255;

/// Visible ASCII without a full stop. The full stop parts id, time and body in what is signed: an
/// id with one in it could be cut at another place, and the same signature would then hold for
/// another message.
pub(super) fn is_fit(id: &str) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_break_out_of_its_field_or_of_what_is_signed() {
        for id in ["msg_1", "a", "{}", "0198c1f0-7b1d-7cc3-98c4-dc0c0c07398f"] {
            assert!(is_fit(id), "{id}");
        }
        let long = "x".repeat(256);
        for id in [
            "",
            "a.b",
            ".",
            "a b",
            "a\r\nx: y",
            "a\0",
            "č",
            "a\u{7f}",
            &long,
        ] {
            assert!(!is_fit(id), "{id:?}");
        }
    }
}
