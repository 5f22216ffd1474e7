//! What HTTP says of a cache: the `Cache-Status` field, and entity tags.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ETAG, IF_NONE_MATCH},
};
use sfv::{Integer, KeyRef, ListSerializer, StringRef, TokenRef};

use crate::{CacheOutcome, Served};

/// `Cache-Status`, RFC 9211.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How a value came, as a member of `Cache-Status` (RFC 9211, section 2).
///
/// | how it came | value |
/// | --- | --- |
/// | fresh | `name; hit; ttl=42` |
/// | stale, being loaded anew | `name; hit; ttl=-3` |
/// | stale, because its load failed | `name; fwd=stale; ttl=-3; detail=STALE_IF_ERROR` |
/// | loaded | `name; fwd=miss; stored`, or `fwd=stale` where there was a stale one |
/// | loaded by another caller's load | `name; fwd=miss; stored; collapsed` |
///
/// A name that is no token is written as a string; one that is no ASCII as `cache`. Seconds are rounded
/// down when fresh, and away from zero when stale, as a value that has expired has none left.
///
/// ```
/// use buttress_cache_aside::{Cache, CachePolicy, http::cache_status};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::<u32>::new("products", CachePolicy::default());
/// let served = cache.serve_or_load("7", |_| async { Ok::<_, std::io::Error>(42) }).await?;
/// assert_eq!(cache_status(cache.name(), &served), "products;fwd=miss;stored");
/// # Ok(()) }
/// ```
#[must_use]
pub fn cache_status<V>(name: &str, served: &Served<V>) -> HeaderValue {
    let mut list = ListSerializer::new();
    let mut member = if let Ok(token) = TokenRef::from_str(name) {
        list.bare_item(token)
    } else if let Ok(string) = StringRef::from_str(name) {
        list.bare_item(string)
    } else {
        list.bare_item(TokenRef::constant("cache"))
    };
    let key = KeyRef::constant;
    match served.outcome() {
        CacheOutcome::Hit | CacheOutcome::Stale => {
            member = member
                .parameter(key("hit"), true)
                .parameter(key("ttl"), ttl(served));
        }
        CacheOutcome::StaleIfError => {
            member = member
                .parameter(key("fwd"), TokenRef::constant("stale"))
                .parameter(key("ttl"), ttl(served))
                .parameter(key("detail"), TokenRef::constant("STALE_IF_ERROR"));
        }
        CacheOutcome::Loaded {
            collapsed,
            was_stale,
            stored,
        } => {
            let why = if was_stale { "stale" } else { "miss" };
            let why = TokenRef::from_str(why).unwrap_or(TokenRef::constant("miss"));
            member = member.parameter(key("fwd"), why);
            if stored {
                member = member.parameter(key("stored"), true);
            }
            if collapsed {
                member = member.parameter(key("collapsed"), true);
            }
        }
    }
    let _ = member.finish();
    let value = list.finish().and_then(|text| text.try_into().ok());
    value.unwrap_or(HeaderValue::from_static("cache"))
}

/// Adds how a value came to what caches nearer to the source have said already, and its entity tag, if it has one
/// and the answer has none.
pub fn add_fields<V>(fields: &mut HeaderMap, name: &str, served: &Served<V>) {
    fields.append(CACHE_STATUS, cache_status(name, served));
    let etag = served
        .etag()
        .filter(|etag| EntityTag::parse(etag).is_some());
    if let Some(etag) = etag.and_then(|etag| etag.try_into().ok()) {
        fields.entry(ETAG).or_insert(etag);
    }
}

/// Whether the client has this already, so that 304 is the answer to a GET or HEAD (RFC 9110, section
/// 13.1.2): one of its `If-None-Match` is `*` or matches `etag` by weak comparison.
///
/// A member that is no entity tag matches nothing.
#[must_use]
pub fn is_not_modified(fields: &HeaderMap, etag: &str) -> bool {
    let Some(etag) = EntityTag::parse(etag) else {
        return false;
    };
    let lines = fields.get_all(IF_NONE_MATCH).iter();
    let mut lines = lines.filter_map(|line| line.to_str().ok());
    lines.any(|line| line.trim() == "*" || members(line).any(|other| other.weakly_matches(etag)))
}

/// An entity tag, RFC 9110, section 8.8.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    is_weak: bool,
    opaque: &'a str,
}

impl<'a> EntityTag<'a> {
    /// `"…"` or `W/"…"`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (tag, rest) = Self::first(text)?;
        rest.is_empty().then_some(tag)
    }

    /// The tag with which a text begins, and what comes after it.
    fn first(text: &'a str) -> Option<(Self, &'a str)> {
        let quoted = text.strip_prefix("W/");
        let (is_weak, quoted) = quoted.map_or((false, text), |quoted| (true, quoted));
        let inside = quoted.strip_prefix('"')?;
        let end = inside.find('"')?;
        let opaque = &inside[..end];
        // etagc: any visible character but the quote; a field has no others beyond ASCII to show.
        let good = opaque.bytes().all(|byte| byte > 0x20 && byte != 0x7f);
        good.then_some((Self { is_weak, opaque }, &inside[end + 1..]))
    }

    /// Whether it says only that two answers are worth the same.
    #[must_use]
    pub const fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// Weak comparison: the same, weak or not. What `If-None-Match` asks for.
    #[must_use]
    pub fn weakly_matches(self, other: EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// Strong comparison: the same, and neither is weak. What `If-Match` and ranges ask for.
    #[must_use]
    pub fn strongly_matches(self, other: EntityTag<'_>) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }
}

/// The entity tags of a list; a comma inside of one does not end it.
fn members(mut line: &str) -> impl Iterator<Item = EntityTag<'_>> {
    std::iter::from_fn(move || {
        loop {
            line = line.trim_start_matches([',', ' ', '\t']);
            if line.is_empty() {
                return None;
            }
            if let Some((tag, rest)) = EntityTag::first(line) {
                line = rest;
                // Something that follows without a comma belongs to no tag.
                if rest.is_empty() || rest.starts_with([',', ' ', '\t']) {
                    return Some(tag);
                }
            }
            line = line.find(',').map_or("", |comma| &line[comma..]);
        }
    })
}

fn ttl<V>(served: &Served<V>) -> Integer {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let stale = served.stale_for();
    let seconds = if stale.is_zero() {
        seconds(served.fresh_for())
    } else {
        -seconds(stale.saturating_add(Duration::from_nanos(999_999_999)))
    };
    // Lives are below 366 days, and a structured integer has fifteen digits.
    seconds.try_into().unwrap_or(Integer::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[&'static str]) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|line| (IF_NONE_MATCH, HeaderValue::from_static(line)))
            .collect()
    }

    #[test]
    fn the_table_of_rfc_9110_section_8_8_3_2() {
        let of = |text| EntityTag::parse(text).unwrap();
        let rows = [
            (r#"W/"1""#, r#"W/"1""#, false, true),
            (r#"W/"1""#, r#"W/"2""#, false, false),
            (r#"W/"1""#, r#""1""#, false, true),
            (r#""1""#, r#""1""#, true, true),
        ];
        for (one, two, strong, weak) in rows {
            assert_eq!(of(one).strongly_matches(of(two)), strong, "{one} {two}");
            assert_eq!(of(one).weakly_matches(of(two)), weak, "{one} {two}");
        }
    }

    #[test]
    fn what_is_no_entity_tag_is_refused() {
        for text in [
            "", "1", "\"1", "1\"", "w/\"1\"", "W/1", "\"a b\"", "\"1\"x", "*",
        ] {
            assert!(EntityTag::parse(text).is_none(), "{text}");
        }
        assert!(EntityTag::parse("\"\"").is_some());
    }

    #[test]
    fn a_list_matches_when_one_of_it_does() {
        let list = [r#""a,b" , W/"c""#, r#"junk, "d""x", "e""#];
        for (etag, expected) in [
            (r#""a,b""#, true),
            (r#""c""#, true),
            (r#"W/"e""#, true),
            (r#""d""#, false),
            (r#""a""#, false),
            ("junk", false),
        ] {
            assert_eq!(is_not_modified(&fields(&list), etag), expected, "{etag}");
        }
        assert!(is_not_modified(&fields(&["*"]), "\"any\""));
        assert!(!is_not_modified(&fields(&[]), "\"any\""));
    }
}
