//! Durations in configuration files: whole milliseconds, as in the whole family.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error};

/// A duration that is no whole number of milliseconds cannot be written: read back it would be
/// another one.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    match u64::try_from(duration.as_millis()) {
        Ok(millis) if Duration::from_millis(millis) == *duration => millis.serialize(to),
        _ => Err(S::Error::custom(
            "a duration is no whole number of milliseconds",
        )),
    }
}

pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_millis)
}

/// The same where it may be left out.
pub(crate) mod optional {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}
