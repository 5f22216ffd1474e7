//! In which of the JSON forms an error leaves, by what the caller accepts.

use http::{HeaderMap, header::ACCEPT};
use mediatype::{MediaType, MediaTypeList, ReadParams};

/// So much of a request's `Accept` is looked at; what comes after it is ignored.
const MAX_ACCEPT: usize = 4096;

/// The form in which an error leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `{"success": false, "error": {…}}` as `application/json`.
    #[default]
    Json,
    /// RFC 9457, `application/problem+json`.
    ProblemJson,
    /// google.rpc.Status (AIP-193) in the JSON of Protocol Buffers,
    /// `application/protobuf+json` (RFC 9996).
    RpcStatus,
}

impl Format {
    /// The media type, as `Content-Type` names it.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::ProblemJson => "application/problem+json",
            // RFC 9996 requires the charset.
            Self::RpcStatus => "application/protobuf+json; charset=utf-8",
        }
    }

    /// The form that the caller's `Accept` prefers (RFC 9110, section 12.5.1).
    ///
    /// `ProblemJson` only when its quality is higher than that of `application/json`; `RpcStatus`
    /// only when it is named, no wildcard, and its quality is higher than that of both; `Json`
    /// otherwise, also when none is acceptable, for an error must leave somehow (RFC 9457
    /// allows it). Of the ranges that match, the most specific one counts. Parameters other than
    /// `q` are ignored; so is a part that cannot be read, and what comes after the first 4096
    /// bytes.
    #[must_use]
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let [mut json, mut problem, mut rpc] = <[Preference; 3]>::default();
        let mut left = MAX_ACCEPT;
        for field in headers.get_all(ACCEPT) {
            let Ok(text) = field.to_str() else { continue };
            // Cut at a comma, so that no half of a range is taken for a whole one.
            let seen = match text.get(..left) {
                Some(start) if start.len() < text.len() => {
                    start.rsplit_once(',').map_or("", |(whole, _)| whole)
                }
                _ => text,
            };
            left -= seen.len();
            for range in MediaTypeList::new(seen).flatten() {
                if let Some(quality) = quality(&range) {
                    json.consider(&range, quality, "json", None);
                    problem.consider(&range, quality, "problem", Some("json"));
                    rpc.consider(&range, quality, "protobuf", Some("json"));
                }
            }
            if seen.len() < text.len() {
                break;
            }
        }
        if rpc.specificity == NAMED && rpc.quality > json.quality.max(problem.quality) {
            Self::RpcStatus
        } else if problem.quality > json.quality {
            Self::ProblemJson
        } else {
            Self::Json
        }
    }
}

/// How specific a range is that names the type itself.
const NAMED: u8 = 3;

/// The best range seen so far for one type: more specific is better, then higher quality.
#[derive(Default)]
struct Preference {
    specificity: u8,
    quality: u16,
}

impl Preference {
    fn consider(&mut self, range: &MediaType<'_>, quality: u16, sub: &str, suffix: Option<&str>) {
        let any = |name: mediatype::Name<'_>| name == "*";
        let same_suffix = range
            .suffix
            .map(|name| name.as_str().to_ascii_lowercase())
            .as_deref()
            == suffix;
        let specificity = if range.ty == "application" && range.subty == sub && same_suffix {
            NAMED
        } else if range.ty == "application" && any(range.subty) && range.suffix.is_none() {
            2
        } else if any(range.ty) && any(range.subty) && range.suffix.is_none() {
            1
        } else {
            return;
        };
        if (specificity, quality) > (self.specificity, self.quality) {
            (self.specificity, self.quality) = (specificity, quality);
        }
    }
}

/// The weight in thousandths (RFC 9110, section 12.4.2), 1000 if none is given; `None` when it
/// cannot be read.
fn quality(range: &MediaType<'_>) -> Option<u16> {
    let Some((_, value)) = range.params().find(|(name, _)| *name == "q") else {
        return Some(1000);
    };
    let (whole, fraction) = match value.as_str().split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (value.as_str(), ""),
    };
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !digits {
        return None;
    }
    let thousandths: u16 = format!("{whole}{fraction:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(fields: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCEPT, HeaderValue::from_str(field).unwrap());
        }
        Format::negotiate(&headers)
    }

    #[test]
    fn problem_json_only_where_it_is_strictly_preferred() {
        for accept in [
            "application/problem+json",
            "APPLICATION/Problem+JSON",
            "application/problem+json;q=0.001",
            "application/problem+json, application/json;q=0.9",
            "application/json;q=0.9, application/problem+json",
            "application/*;q=0.5, application/problem+json",
            "*/*;q=0.1, application/problem+json;q=0.2",
            "text/html, application/problem+json, */*;q=0.8",
            "application/*, application/json;q=0.3",
            "*/*, application/json;q=0",
            "application/problem+json;charset=utf-8",
            "application/problem+json;profile=\"a,b;q=0\"",
            "application/problem+json ; q=0.3 , application/json ; q=0.2",
        ] {
            assert_eq!(of(&[accept]), Format::ProblemJson, "{accept}");
        }
    }

    #[test]
    fn json_otherwise_and_also_when_neither_is_accepted() {
        for accept in [
            "",
            ",,,",
            "*/*",
            "application/*",
            "application/json",
            "application/json, application/problem+json",
            "application/problem+json, */*",
            "application/problem+json;q=0",
            "application/problem+json;q=0.000, */*;q=0.1",
            "text/html",
            "application/xml, application/problem+xml",
            "application/json;q=0, application/problem+json;q=0",
            "application/problem+json;q=0.5, application/json",
            "application/problem+json;q=0.5, application/*;q=0.6",
        ] {
            assert_eq!(of(&[accept]), Format::Json, "{accept}");
        }
        assert_eq!(Format::negotiate(&HeaderMap::new()), Format::Json);
    }

    #[test]
    fn protobuf_json_only_where_it_is_named_and_strictly_preferred() {
        for accept in [
            "application/protobuf+json",
            "application/protobuf+json; charset=utf-8",
            "application/protobuf+json;q=0.001",
            "application/protobuf+json, application/problem+json;q=0.9, application/json;q=0.9",
            "application/protobuf+json, */*;q=0.9",
        ] {
            assert_eq!(of(&[accept]), Format::RpcStatus, "{accept}");
        }
        for (accept, format) in [
            ("application/protobuf+json, */*", Format::Json),
            ("application/protobuf", Format::Json),
            ("*/*, application/json;q=0", Format::ProblemJson),
            (
                "application/*, application/json;q=0.1, application/problem+json;q=0.2",
                Format::ProblemJson,
            ),
            (
                "application/protobuf+json, application/problem+json",
                Format::ProblemJson,
            ),
            ("application/protobuf+json;q=0", Format::Json),
        ] {
            assert_eq!(of(&[accept]), format, "{accept}");
        }
    }

    #[test]
    fn the_most_specific_range_counts_not_the_highest_quality() {
        let exact = "*/*;q=1, application/*;q=0.9, application/problem+json;q=0.1";
        assert_eq!(of(&[exact]), Format::Json);
        let by_type = "*/*;q=1, application/*;q=0.2, application/json;q=0.1";
        assert_eq!(of(&[by_type]), Format::ProblemJson);
    }

    #[test]
    fn several_fields_are_one_list() {
        let json = "application/json;q=0.5";
        let problem = "application/problem+json;q=0.6";
        assert_eq!(of(&[json, problem]), Format::ProblemJson);
        assert_eq!(of(&[problem, json]), Format::ProblemJson);
        assert_eq!(of(&[problem, json, "application/json;q=0.7"]), Format::Json);
    }

    #[test]
    fn a_part_that_cannot_be_read_is_ignored_alone() {
        for broken in [
            "application/problem+json;q=1.001",
            "application/problem+json;q=2",
            "application/problem+json;q=-1",
            "application/problem+json;q=.9",
            "application/problem+json;q=0.1234",
            "application/problem+json;q=1e0",
            "application/problem+json;q=inf",
            "application/problem+json;q=",
            "application/problem+json;q=\"1\"x",
            "application",
            "/",
            "*/json",
            "application/*+json",
            "application//problem+json",
        ] {
            assert_eq!(of(&[broken]), Format::Json, "{broken}");
            let rest = format!("{broken}, application/problem+json;q=0.4");
            assert_eq!(of(&[&rest]), Format::ProblemJson, "{broken}");
        }
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        headers.append(ACCEPT, HeaderValue::from_static("application/problem+json"));
        assert_eq!(Format::negotiate(&headers), Format::ProblemJson);
    }

    #[test]
    fn what_comes_after_the_first_4096_bytes_is_not_looked_at() {
        let padding = "text/html,".repeat(405);
        let before = format!("application/problem+json,{padding}application/json");
        assert!(before.len() < MAX_ACCEPT);
        assert_eq!(of(&[&before]), Format::Json);
        let after = format!("application/problem+json,{padding}{padding}application/json");
        assert_eq!(of(&[&after]), Format::ProblemJson);
        assert_eq!(
            of(&["application/problem+json", &after, "application/json"]),
            Format::ProblemJson
        );
        // A range that the bound cuts in two is none.
        let cut = format!("{}application/json;q=0.25", " ".repeat(MAX_ACCEPT - 16));
        assert_eq!(
            of(&["application/problem+json;q=0.5", &cut]),
            Format::ProblemJson
        );
        let tail = format!("text/html,{}", "x".repeat(MAX_ACCEPT));
        let then = ["application/problem+json", &tail, "application/json"];
        assert_eq!(of(&then), Format::ProblemJson);
        assert_eq!(of(&[&"x".repeat(1 << 20)]), Format::Json);
    }
}
