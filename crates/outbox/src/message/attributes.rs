//! A message's attributes as they are stored: one JSON object, with nothing in it that is absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names are CloudEvents', so that somebody who looks into a table can read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    pub(crate) id: String,
    pub(crate) source: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// Microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<i64>,
    #[serde(
        default,
        rename = "datacontenttype",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) data_content_type: Option<String>,
    #[serde(
        default,
        rename = "dataschema",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) data_schema: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tracestate: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    /// It has no key. The column then holds random bytes, so that it waits for no other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unordered: bool,
}

impl Attributes {
    /// As they are stored. Maps of strings cannot fail to be written.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
