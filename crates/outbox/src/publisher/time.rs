//! Times as events have them.

use std::time::SystemTime;

use jiff::Timestamp;

/// The years 0 to 9999, which RFC 3339 can write.
pub(super) fn rfc3339(time: SystemTime) -> Option<String> {
    let timestamp = Timestamp::try_from(time).ok()?;
    Some(timestamp.to_string()).filter(|text| !text.starts_with('-'))
}
