//! Keys on Redis: all of one record in one slot, whatever bytes the user's key has.

use std::sync::Arc;

use crate::Key;

/// Makes the keys of one pattern: `<prefix>:<pattern>:{<key>}`, and `…:<part>` behind it.
///
/// A cluster puts a key into the slot of what stands between the first `{` and the first `}`
/// after it. Neither prefix nor pattern has a brace, and in the user's key `}` becomes `%7D` and `%`
/// becomes `%25`: so it is the whole key that decides, all keys of one record are in one slot, and
/// two different keys never become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisKeys {
    start: Arc<[u8]>,
}

impl RedisKeys {
    /// Keys of `pattern` that begin with `prefix`, `buttress` by default.
    ///
    /// # Errors
    ///
    /// [`RedisPrefixError`], when the prefix is not 1 to 64 of `A-Z`, `a-z`, `0-9`, `_`, `-`, `.`,
    /// `:`, `/`.
    pub fn new(prefix: &str, pattern: &'static str) -> Result<Self, RedisPrefixError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
        if !(1..=64).contains(&prefix.len()) || !prefix.bytes().all(allowed) {
            return Err(RedisPrefixError);
        }
        debug_assert!(pattern.bytes().all(allowed), "a pattern's name is ours");
        let start = format!("{prefix}:{pattern}:{{");
        Ok(Self {
            start: start.into_bytes().into(),
        })
    }

    /// The key of a record.
    #[must_use]
    pub fn of(&self, key: &Key) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.start.len() + key.len() + 1);
        whole.extend_from_slice(&self.start);
        for byte in key.iter().copied() {
            match byte {
                b'}' => whole.extend_from_slice(b"%7D"),
                b'%' => whole.extend_from_slice(b"%25"),
                byte => whole.push(byte),
            }
        }
        whole.push(b'}');
        whole
    }

    /// The key of a part of it, in the same slot.
    #[must_use]
    pub fn part(&self, key: &Key, part: &'static str) -> Vec<u8> {
        let mut whole = self.of(key);
        whole.push(b':');
        whole.extend_from_slice(part.as_bytes());
        whole
    }
}

/// A prefix that cannot begin a key. It is not repeated: it may be hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("prefix: 1 to 64 of A-Z a-z 0-9 _ - . : / are allowed")]
#[non_exhaustive]
pub struct RedisPrefixError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What decides the slot, as the cluster specification has it.
    fn hash_tag(key: &[u8]) -> &[u8] {
        let Some(open) = key.iter().position(|byte| *byte == b'{') else {
            return key;
        };
        let rest = &key[open + 1..];
        match rest.iter().position(|byte| *byte == b'}') {
            None | Some(0) => key,
            Some(length) => &rest[..length],
        }
    }

    #[test]
    fn prefixes_with_braces_or_strange_bytes_are_refused() {
        for prefix in ["", "a{b", "a}b", "a b", "a\0", "ä", &"a".repeat(65)] {
            assert_eq!(
                RedisKeys::new(prefix, "x"),
                Err(RedisPrefixError),
                "{prefix}"
            );
        }
        assert!(RedisKeys::new("shop:eu-1/a.b_c", "x").is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn the_whole_key_decides_the_slot_and_no_two_keys_meet(
            one in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'%'), Just(b'7'), Just(b'D'), Just(0), any::<u8>()], 1..20),
            other in prop::collection::vec(prop_oneof![Just(b'}'), Just(b'%'), Just(b'7'), Just(b'D'), any::<u8>()], 1..20),
        ) {
            let keys = RedisKeys::new("buttress", "test").unwrap();
            let (a, b) = (Key::new(&one).unwrap(), Key::new(&other).unwrap());
            let (whole, part) = (keys.of(&a), keys.part(&a, "part"));
            let start = b"buttress:test:{".len();
            prop_assert_eq!(hash_tag(&whole), &whole[start..whole.len() - 1]);
            prop_assert_eq!(hash_tag(&whole), hash_tag(&part));
            prop_assert_eq!(one == other, keys.of(&a) == keys.of(&b));
        }
    }
}
