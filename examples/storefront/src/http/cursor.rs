//! Pages: how many, and from where on.
//!
//! A cursor is opaque to callers: a version, the list it belongs to, and the last id of a page,
//! with a checksum. The checksum tells a cursor of ours from a guess; it is no secret, and need
//! not be, for a cursor grants nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{is_id, refusal::Refusal};

const VERSION: u8 = 1;
const CHECKSUM: usize = 8;

/// The list that a cursor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Products = 1,
    Orders = 2,
}

/// `?limit=…&cursor=…`
#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    limit: Option<i64>,
    cursor: Option<String>,
}

/// What stands beside a page.
#[derive(Debug, Serialize)]
pub(super) struct PageMeta {
    next_cursor: Option<String>,
}

impl PageQuery {
    /// How many: 1 to 100, or 20.
    pub(super) fn limit(&self) -> Result<i64, Refusal> {
        match self.limit.unwrap_or(20) {
            limit @ 1..=100 => Ok(limit),
            _ => Err(Refusal::Parameter("limit must be from 1 to 100.")),
        }
    }

    /// The last id of the page before.
    pub(super) fn after(&self, list: List) -> Result<Option<String>, Refusal> {
        self.cursor
            .as_deref()
            .map(|cursor| decode(list, cursor).ok_or(Refusal::Cursor))
            .transpose()
    }
}

/// Cuts `page`, of which one more than `limit` was asked for, and says where it goes on.
pub(super) fn cut<T>(
    page: &mut Vec<T>,
    limit: i64,
    list: List,
    id: impl Fn(&T) -> &str,
) -> PageMeta {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| more);
    PageMeta {
        next_cursor: last.map(|last| encode(list, id(last))),
    }
}

fn encode(list: List, id: &str) -> String {
    let mut bytes = vec![VERSION, list as u8];
    bytes.extend_from_slice(id.as_bytes());
    let checksum = checksum(&bytes);
    bytes.extend_from_slice(&checksum);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(list: List, cursor: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (content, sum) = bytes.split_last_chunk::<CHECKSUM>()?;
    let id = content.strip_prefix(&[VERSION, list as u8])?;
    let id = str::from_utf8(id).ok().filter(|id| is_id(id))?;
    (checksum(content) == *sum).then(|| id.to_owned())
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
    let hash = Sha256::new()
        .chain_update(b"storefront cursor ")
        .chain_update(content)
        .finalize();
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_by_its_own_list_alone() {
        let cursor = encode(List::Products, "p7");
        assert_eq!(decode(List::Products, &cursor).as_deref(), Some("p7"));
        assert_eq!(decode(List::Orders, &cursor), None);
    }

    #[test]
    fn a_cursor_that_was_not_issued_here_is_refused() {
        let cursor = encode(List::Products, "p7");
        let mut changed = cursor.clone().into_bytes();
        for at in 0..changed.len() {
            let before = changed[at];
            changed[at] = if before == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(changed.clone()).unwrap();
            assert_eq!(decode(List::Products, &text), None, "{text}");
            changed[at] = before;
        }
        for cursor in [
            "",
            "p7",
            "cDc",
            "AQFwNw",
            "=",
            "ä",
            &cursor[1..],
            &"A".repeat(10_000),
        ] {
            assert_eq!(decode(List::Products, cursor), None, "{cursor}");
        }
    }

    #[test]
    fn the_last_page_has_no_next() {
        let mut page = vec!["p1", "p2", "p3"];
        let meta = cut(&mut page, 2, List::Products, |id| id);
        assert_eq!(page, ["p1", "p2"]);
        assert_eq!(meta.next_cursor, Some(encode(List::Products, "p2")));
        let meta = cut(&mut page, 2, List::Products, |id| id);
        assert_eq!(meta.next_cursor, None);
    }
}
