//! A message as a consumer of a broker gets it, and what its handler says of it.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// A message that came from a broker.
///
/// It may come again: give its [`inbox_id`](Self::inbox_id) to
/// [`Inbox::take_in`](crate::Inbox::take_in), first in the transaction in which you act on it.
///
/// `Debug` shows neither data nor key nor headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) content_type: Option<String>,
    pub(super) data: Bytes,
    pub(super) again: bool,
}

/// What a handler says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the broker waits for it"]
#[non_exhaustive]
pub enum Handled {
    /// It is done, and its effect committed: it need not come again.
    Done,
    /// Not now: the database is away, something it waits for is not there. It comes again after a
    /// pause, before what is behind it.
    Again,
    /// It will not be handled, however often it comes: it is put aside, where the broker has a
    /// place for that.
    Never,
}

impl Received {
    /// The message, if it has what CloudEvents asks of one: an id, a source and a type, not empty.
    pub(super) fn checked(self) -> Option<Self> {
        let has = |name| self.attributes.get(name).is_some_and(|it| !it.is_empty());
        (has("id") && has("source") && has("type")).then_some(self)
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// CloudEvents' `id`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.attribute("id")
    }

    /// CloudEvents' `source`.
    #[must_use]
    pub fn source(&self) -> &str {
        self.attribute("source")
    }

    /// CloudEvents' `type`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.attribute("type")
    }

    /// What an inbox knows it by: source and id, which together are unique, on two lines; or a digest
    /// of them, where they would not fit into an inbox or into lines.
    #[must_use]
    pub fn inbox_id(&self) -> String {
        let (source, id) = (self.source(), self.id());
        let whole = format!("{source}\n{id}");
        let plain = !source.contains('\n') && !id.contains('\n');
        if plain && whole.len() <= buttress_store::Key::LONGEST {
            return whole;
        }
        // The length of the first says where the second begins.
        let digest = Sha256::new()
            .chain_update(source.len().to_be_bytes())
            .chain_update(&whole)
            .finalize();
        digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// All attributes, by their names in CloudEvents, `partitionkey` (the ordering key) and
    /// `sequence` (the place in the outbox) among them.
    #[must_use]
    pub const fn attributes(&self) -> &BTreeMap<String, String> {
        &self.attributes
    }

    /// The message's own headers.
    #[must_use]
    pub const fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    /// CloudEvents' `datacontenttype`.
    #[must_use]
    pub fn data_content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The payload.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.data
    }

    /// Whether the broker knows that it was given to somebody before. It says nothing about whether
    /// it was handled: only an inbox does.
    #[must_use]
    pub const fn may_have_come_before(&self) -> bool {
        self.again
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("id", &self.id())
            .field("type", &self.event_type())
            .field("data_bytes", &self.data.len())
            .field("again", &self.again)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(source: &str, id: &str) -> Received {
        let attributes = [("source", source), ("id", id), ("type", "t")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Received {
            attributes: attributes.into(),
            headers: BTreeMap::new(),
            content_type: None,
            data: Bytes::from_static(b"secret"),
            again: false,
        }
    }

    #[test]
    fn no_two_messages_have_the_same_id_in_an_inbox() {
        let long = "a".repeat(300);
        let ids: std::collections::BTreeSet<_> = [
            ("/shop", "1"),
            ("/shop", "2"),
            ("/shop\n1", "2"),
            ("/shop", "1\n2"),
            (&long, "1"),
            (&long[..299], "a1"),
            (&long[..299], "a\n1"),
        ]
        .map(|(source, id)| received(source, id).inbox_id())
        .into();
        assert_eq!(ids.len(), 7, "{ids:?}");
        assert!(ids.contains("/shop\n1"));
        assert!(ids.iter().all(|id| (1..=255).contains(&id.len())));
    }

    #[test]
    fn what_is_no_event_is_not_taken_for_one() {
        assert!(received("/shop", "1").checked().is_some());
        assert!(received("", "1").checked().is_none());
        assert!(received("/shop", "").checked().is_none());
        assert!(!format!("{:?}", received("/shop", "1")).contains("secret"));
    }
}
