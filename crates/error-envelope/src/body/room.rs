//! What is left of a body's bound while the body is put together.

use std::{borrow::Cow, io};

use serde::Serialize;

use super::MAX_BODY;

/// Around every string.
const QUOTES: usize = 2;

/// What is left of the bound while a body is put together, and whether anything was left out.
pub(crate) struct Room {
    left: usize,
    cut: bool,
}

impl Room {
    pub(crate) const fn of(left: usize) -> Self {
        Self { left, cut: false }
    }

    /// Whether anything was left out or cut.
    pub(crate) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Takes note that something is left out.
    pub(crate) const fn leave_out(&mut self) {
        self.cut = true;
    }

    /// What names, braces, commas and the `; ` between messages take in one entry, at most.
    const ENTRY: usize = 48;

    /// One entry of a list or a map: all of it goes in, or nothing.
    pub(crate) fn entry<T>(&mut self, fill: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.left;
        let entry = before.checked_sub(Self::ENTRY).and_then(|left| {
            self.left = left;
            fill(self)
        });
        if entry.is_none() {
            self.left = before;
            self.cut = true;
        }
        entry
    }

    /// `value` if its JSON fits in both `most` and what is left.
    pub(crate) fn whole<'a, T: Serialize + ?Sized>(
        &mut self,
        value: &'a T,
        most: usize,
    ) -> Option<&'a T> {
        match json_len(value, most.min(self.left)) {
            Some(len) => {
                self.left -= len;
                Some(value)
            }
            None => {
                self.cut = true;
                None
            }
        }
    }

    /// `text` if its JSON is no longer than `most`, else as much of its beginning as is; nothing
    /// if that is more than what is left.
    pub(crate) fn text<'a>(&mut self, text: &'a str, most: usize) -> Option<Cow<'a, str>> {
        if json_len(text, most).is_some() {
            return self.whole(text, most).map(Cow::Borrowed);
        }
        self.cut = true;
        self.left = self.left.checked_sub(most)?;
        Some(beginning(text, most).into())
    }
}

/// As much of `text` as makes JSON of at most `most` bytes, quotes and an ellipsis included.
fn beginning(text: &str, most: usize) -> String {
    let mut left = most.saturating_sub(QUOTES + '…'.len_utf8());
    let mut utf8 = [0; 4];
    let fits = |c: &char| {
        let len = json_len(&*c.encode_utf8(&mut utf8), MAX_BODY).map(|len| len - QUOTES);
        match len.and_then(|len| left.checked_sub(len)) {
            Some(less) => {
                left = less;
                true
            }
            None => false,
        }
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// How many bytes of JSON `value` is; `None` when it is more than `most`, found out without
/// writing more than that.
fn json_len<T: Serialize + ?Sized>(value: &T, most: usize) -> Option<usize> {
    let mut scale = Scale { left: most };
    serde_json::to_writer(&mut scale, value).ok()?;
    Some(most - scale.left)
}

/// Counts what is written to it, and fails when it is too much.
struct Scale {
    left: usize,
}

impl io::Write for Scale {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.left.checked_sub(bytes.len()) {
            Some(left) => {
                self.left = left;
                Ok(bytes.len())
            }
            None => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
