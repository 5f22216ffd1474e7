//! Keys of several parts, of which no two are the same.

/// One key of several parts: `compose(["shop", "42"])` is `shop:42`, and other parts make another key.
///
/// Joined without care, `("a:b", "c")` and `("a", "b:c")` would be one. Here `:` within a part becomes `%3A` and `%`
/// becomes `%25`; so a tenant's part ends where it ends. At least one part is given.
#[must_use]
pub fn compose<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut whole = Vec::with_capacity(64);
    for (at, part) in parts.into_iter().enumerate() {
        if at > 0 {
            whole.push(b':');
        }
        for byte in part.as_ref().iter().copied() {
            match byte {
                b':' => whole.extend_from_slice(b"%3A"),
                b'%' => whole.extend_from_slice(b"%25"),
                byte => whole.push(byte),
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![
            Just(b':'),
            Just(b'%'),
            Just(b'3'),
            Just(b'A'),
            Just(b'a'),
            any::<u8>()
        ];
        prop::collection::vec(prop::collection::vec(byte, 0..4), 1..4)
    }

    #[test]
    fn ca7_parts_do_not_run_into_one_another() {
        assert_ne!(compose(["a:b", "c"]), compose(["a", "b:c"]));
        assert_ne!(compose(["a", ""]), compose(["a"]));
        assert_ne!(compose(["a%3Ab"]), compose(["a:b"]));
        assert_eq!(compose(["shop", "42"]), b"shop:42");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn ca7_other_parts_make_another_key(one in parts(), other in parts()) {
            prop_assert_eq!(one == other, compose(&one) == compose(&other));
        }
    }
}
