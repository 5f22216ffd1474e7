//! The receiving side: is this webhook from who shares our secret, and is it of now?

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{
    Hmac, Mac,
    digest::{CtOutput, Output},
};
use sha2::Sha256;

use super::{ID, SIGNATURE, Secret, SecretsError, TIMESTAMP, VerifyError, id, secrets::Secrets};

/// The longest field of signatures that is read: more than 8 of the longest kind there is.
const LONGEST_SIGNATURE: usize = 1024;
/// How many signatures are compared; those after them are not looked at.
const MOST_SIGNATURES: usize = 16;
/// How many digits a time has at most. Ten reach the year 2286.
const MOST_DIGITS: usize = 12;
/// How many characters 32 bytes have in base64.
const ENCODED: usize = 44;

type Code = CtOutput<Hmac<Sha256>>;

/// Verifies what comes from one sender. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Verifier {
    secrets: Secrets,
    tolerance: Duration,
}

impl Verifier {
    /// How far a webhook's time may be from ours: five minutes, in both directions.
    pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(5 * 60);

    /// A verifier that accepts a signature by any of these secrets, 1 to 8.
    ///
    /// # Errors
    ///
    /// When there are none, or more than 8.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Result<Self, SecretsError> {
        Ok(Self {
            secrets: Secrets::new(secrets)?,
            tolerance: Self::DEFAULT_TOLERANCE,
        })
    }

    /// The same with another tolerance. Ids of what was received must be remembered for longer
    /// than twice this: only then is a webhook that is sent once more always known.
    #[must_use]
    pub const fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// How far a webhook's time may be from ours.
    #[must_use]
    pub const fn tolerance(&self) -> Duration {
        self.tolerance
    }

    /// Says whether the body, exactly as it was received, is what one who shares a secret with us
    /// sent, not too far from `now`.
    ///
    /// Every secret is tried with every signature, in a time that does not depend on which of them
    /// fits. Signatures of other kinds than `v1` are passed over, as the specification wants.
    ///
    /// That the same webhook did not come before is not known here: take its id once, with your
    /// inbox.
    ///
    /// # Errors
    ///
    /// When it cannot be believed.
    pub fn verify_at<'a>(
        &self,
        fields: Fields<'a>,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Verified<'a>, VerifyError> {
        let sent = self.check_fields(fields, now)?;
        let claimed: Vec<Code> = read_signatures(fields.signature).collect();
        if claimed.is_empty() {
            return Err(VerifyError::Signature);
        }
        let mut right = false;
        for secret in self.secrets.iter() {
            // The text of the field is what was signed, not the number that it stands for.
            let code = secret.mac(fields.id, fields.timestamp, body).finalize();
            for claim in &claimed {
                // Compared in constant time, and without stopping at the first that fits.
                right |= code == *claim;
            }
        }
        if right {
            Ok(Verified {
                id: fields.id,
                sent,
            })
        } else {
            Err(VerifyError::Signature)
        }
    }

    /// What can be said without the body: the time, if the fields can be read and it is near.
    pub(crate) fn check_fields(
        &self,
        fields: Fields<'_>,
        now: SystemTime,
    ) -> Result<SystemTime, VerifyError> {
        if !id::is_fit(fields.id) {
            return Err(VerifyError::Malformed(ID));
        }
        let sent = read_time(fields.timestamp).ok_or(VerifyError::Malformed(TIMESTAMP))?;
        if fields.signature.len() > LONGEST_SIGNATURE {
            return Err(VerifyError::Malformed(SIGNATURE));
        }
        self.check_time(sent, now)?;
        Ok(sent)
    }

    fn check_time(&self, sent: SystemTime, now: SystemTime) -> Result<(), VerifyError> {
        // In whole seconds, for the field has no others: the tolerance itself is still good.
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let sent = sent
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let tolerance = self.tolerance.as_secs();
        if now.saturating_sub(sent) > tolerance {
            return Err(VerifyError::TooOld);
        }
        if sent.saturating_sub(now) > tolerance {
            return Err(VerifyError::TooNew);
        }
        Ok(())
    }
}

/// The three fields of a webhook, as they were received.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    id: &'a str,
    timestamp: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    /// The values of [`ID`], [`TIMESTAMP`] and [`SIGNATURE`].
    #[must_use]
    pub const fn new(id: &'a str, timestamp: &'a str, signature: &'a str) -> Self {
        Self {
            id,
            timestamp,
            signature,
        }
    }

    /// The value of [`ID`]. Not believed before it was verified.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// The value of [`TIMESTAMP`].
    #[must_use]
    pub const fn timestamp(&self) -> &'a str {
        self.timestamp
    }

    /// The value of [`SIGNATURE`].
    #[must_use]
    pub const fn signature(&self) -> &'a str {
        self.signature
    }

    /// The same by a function that returns a field's value by its name in small letters.
    ///
    /// # Errors
    ///
    /// When one of them is missing.
    pub fn by(mut field: impl FnMut(&str) -> Option<&'a str>) -> Result<Self, VerifyError> {
        let mut get = |name: &'static str| field(name).ok_or(VerifyError::Missing(name));
        Ok(Self::new(get(ID)?, get(TIMESTAMP)?, get(SIGNATURE)?))
    }
}

/// A webhook that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'a> {
    id: &'a str,
    sent: SystemTime,
}

impl<'a> Verified<'a> {
    /// Its id. The same message has the same one however often it comes.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// When it was sent, by the sender's clock, to the second.
    #[must_use]
    pub const fn sent(&self) -> SystemTime {
        self.sent
    }
}

/// Digits and nothing else, and none too many: a time has one way to be written.
fn read_time(text: &str) -> Option<SystemTime> {
    let fits = (1..=MOST_DIGITS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    let seconds = text.parse().ok().filter(|_| fits)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The signatures that are of our kind and whole. All others are passed over.
fn read_signatures(field: &str) -> impl Iterator<Item = Code> {
    field
        .split(' ')
        .filter_map(|entry| entry.strip_prefix("v1,"))
        .take(MOST_SIGNATURES)
        .filter_map(read_code)
}

fn read_code(text: &str) -> Option<Code> {
    if text.len() != ENCODED {
        return None;
    }
    // 44 characters are up to 33 bytes, before the padding is looked at.
    let mut bytes = [0; 33];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    let code = Output::<Hmac<Sha256>>::try_from(bytes.get(..length)?).ok()?;
    Some(CtOutput::new(code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_written_in_one_way_only() {
        assert!(read_time("1614265330").is_some());
        assert!(read_time("0").is_some());
        for text in [
            "",
            "+1614265330",
            "-1",
            "01614265330",
            "00",
            " 1",
            "1 ",
            "1.0",
            "1e9",
            "0x10",
            "١",
            "9999999999999",
            "99999999999999999999",
        ] {
            assert_eq!(read_time(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_field_makes_the_readers_panic(text in ".*", bytes in any::<Vec<u8>>()) {
            let _ = read_time(&text);
            prop_assert!(read_signatures(&text).count() <= MOST_SIGNATURES);
            let lossy = String::from_utf8_lossy(&bytes);
            let entries = format!("v1,{lossy} v1,{} {text}", STANDARD.encode(&bytes));
            prop_assert!(read_signatures(&entries).count() <= MOST_SIGNATURES);
        }

        #[test]
        fn only_32_bytes_are_a_code(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            let entry = format!("v1,{}", STANDARD.encode(&bytes));
            prop_assert_eq!(read_signatures(&entry).count(), usize::from(bytes.len() == 32));
        }
    }
}
