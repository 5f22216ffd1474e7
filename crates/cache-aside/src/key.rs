//! Keys: bytes, and how several parts become one key without two becoming the same.

use std::sync::Arc;

/// A key as entries and flights share it.
pub(crate) type Key = Arc<[u8]>;

/// One key of several parts: a tenant and a number, say. No two lists of parts give the same key, as
/// `("a:b", "c")` and `("a", "b:c")` would if they were joined by a colon.
///
/// Each part is written as a netstring: its length, a colon, its bytes, a comma.
///
/// ```
/// use buttress_cache_aside::composite_key;
///
/// assert_eq!(composite_key(["acme", "42"]), b"4:acme,2:42,");
/// assert_ne!(composite_key(["a:b", "c"]), composite_key(["a", "b:c"]));
/// ```
pub fn composite_key<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut key = Vec::new();
    for part in parts {
        let part = part.as_ref();
        key.extend_from_slice(part.len().to_string().as_bytes());
        key.push(b':');
        key.extend_from_slice(part);
        key.push(b',');
    }
    key
}
