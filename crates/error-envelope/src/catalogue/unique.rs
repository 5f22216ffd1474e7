//! That a code has one definition: found by the compiler where the catalogue is a `const`.

use super::{CodeEntry, Codes};

/// The first entry of `all` that does not go with another one, and that one.
pub(super) const fn clash(all: &[Codes]) -> Option<(&CodeEntry, &CodeEntry)> {
    clash_within(all, all)
}

const fn clash_within<'a>(
    some: &'a [Codes],
    all: &'a [Codes],
) -> Option<(&'a CodeEntry, &'a CodeEntry)> {
    let mut at = 0;
    while at < some.len() {
        let mut own = 0;
        while own < some[at].own.len() {
            let entry = &some[at].own[own];
            if let Some(other) = clash_with(entry, all) {
                return Some((entry, other));
            }
            own += 1;
        }
        if let Some(found) = clash_within(some[at].inner, all) {
            return Some(found);
        }
        at += 1;
    }
    None
}

const fn clash_with<'a>(entry: &CodeEntry, all: &'a [Codes]) -> Option<&'a CodeEntry> {
    let mut at = 0;
    while at < all.len() {
        let mut own = 0;
        while own < all[at].own.len() {
            if !go_together(entry, &all[at].own[own]) {
                return Some(&all[at].own[own]);
            }
            own += 1;
        }
        if let Some(found) = clash_with(entry, all[at].inner) {
            return Some(found);
        }
        at += 1;
    }
    None
}

const fn go_together(one: &CodeEntry, other: &CodeEntry) -> bool {
    if !same(one.code(), other.code()) {
        return true;
    }
    let (a, b) = (one.place(), other.place());
    // One definition that is listed twice, by two types that pass it on, say.
    let is_same_place =
        a.line == b.line && a.column == b.column && same(a.file, b.file) && same(a.name, b.name);
    is_same_place
        || (one.is_shared()
            && other.is_shared()
            && one.status() == other.status()
            && same_option(one.title(), other.title())
            && same_option(one.type_uri(), other.type_uri())
            && one.rpc_number() == other.rpc_number())
}

const fn same_option(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => same(one, other),
        (None, None) => true,
        _ => false,
    }
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A sentence put together where there is no `format!`.
pub(super) struct Sentence {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl Sentence {
    const LONGEST: usize = 1024;

    /// What is wrong with these two.
    pub(super) const fn about(one: &CodeEntry, other: &CodeEntry) -> Self {
        let empty = Self {
            bytes: [0; Self::LONGEST],
            length: 0,
        };
        let begun = empty
            .and("the code ")
            .and(one.code())
            .and(" is defined twice: by ");
        let named = begun.and_place(one).and(" and by ").and_place(other);
        if one.is_shared() && other.is_shared() {
            named.and("; both are shared, but differ in status, title, type or gRPC code")
        } else {
            named.and("; name one of them otherwise, or mark both as shared if they mean the same")
        }
    }

    const fn and_place(self, entry: &CodeEntry) -> Self {
        let place = entry.place();
        let named = match place.name.is_empty() {
            true => self,
            false => self.and(place.name).and(" at "),
        };
        named.and(place.file).and(":").and_number(place.line)
    }

    const fn and_number(self, number: u32) -> Self {
        let sentence = match number >= 10 {
            true => self.and_number(number / 10),
            false => self,
        };
        let digit = number % 10;
        sentence.and("0123456789".split_at(digit as usize).1.split_at(1).0)
    }

    const fn and(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        // Whole texts only, so that it stays UTF-8.
        if self.length + text.len() <= Self::LONGEST {
            let mut at = 0;
            while at < text.len() {
                self.bytes[self.length + at] = text[at];
                at += 1;
            }
            self.length += text.len();
        }
        self
    }

    pub(super) const fn text(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => "a code is defined twice",
        }
    }
}
