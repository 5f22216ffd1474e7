//! All codes of a service: each defined once, and shown to those who must handle them.

mod entry;
mod family;
mod html;
mod json;
mod markdown;
#[cfg(feature = "utoipa")]
pub mod openapi;
mod unique;

pub use self::entry::{CodeEntry, ExtensionEntry, ValueKind};

/// The codes of one error: its own, and those of the errors that it passes on.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    own: &'static [CodeEntry],
    inner: &'static [Self],
}

impl Codes {
    /// No code: for an error that never leaves.
    pub const NONE: Self = Self::new(&[], &[]);

    /// These of its own, and those that it passes on.
    #[must_use]
    pub const fn new(own: &'static [CodeEntry], inner: &'static [Self]) -> Self {
        Self { own, inner }
    }

    /// Every entry, by code; one that is listed more than once, once.
    #[must_use]
    pub fn entries(&self) -> Vec<&'static CodeEntry> {
        entries(&[*self])
    }

    fn collect(&self, into: &mut Vec<&'static CodeEntry>) {
        into.extend(self.own);
        for inner in self.inner {
            inner.collect(into);
        }
    }
}

/// Every entry by code. Of those that share one, the first stands for all.
fn entries(all: &[Codes]) -> Vec<&'static CodeEntry> {
    let mut found = Vec::new();
    for codes in all {
        codes.collect(&mut found);
    }
    found.sort_by_key(|entry| entry.code());
    found.dedup_by_key(|entry| entry.code());
    found
}

/// Says which codes an error has. The derive of [`ToProblem`](crate::ToProblem) implements it too.
///
/// Tuples have the codes of all their members: `<(OrderError, StoreError)>::CODES`.
#[diagnostic::on_unimplemented(
    message = "the codes of `{Self}` are not known",
    note = "derive `ToProblem` for it, implement `ProblemCodes`, or list them: `#[problem(transparent, codes = MY_CODES)]`"
)]
pub trait ProblemCodes {
    /// Those that it defines.
    const OWN: &'static [CodeEntry];

    /// Those of the errors that it passes on.
    const INNER: &'static [Codes] = &[];

    /// All of them.
    const CODES: Codes = Codes::new(Self::OWN, Self::INNER);
}

/// All codes of a service, each defined once.
///
/// As a `const`, a code that is defined twice is an error of the compiler that names both places.
///
/// ```
/// use buttress_error_envelope::{Catalogue, CodeEntry, Codes};
///
/// const OWN: &[CodeEntry] = &[CodeEntry::new("OUT_OF_CREDIT", 403)];
/// const CATALOGUE: Catalogue = Catalogue::new(&[
///     Codes::new(OWN, &[]),
///     Codes::new(&[CodeEntry::of_status(404), CodeEntry::of_status(500)], &[]),
/// ]);
/// assert_eq!(CATALOGUE.get("OUT_OF_CREDIT").unwrap().status(), 403);
/// assert!(CATALOGUE.to_markdown().contains("| `OUT_OF_CREDIT` | 403 |"));
/// ```
///
/// ```compile_fail
/// use buttress_error_envelope::{Catalogue, CodeEntry, Codes};
///
/// const ONE: Codes = Codes::new(&[CodeEntry::new("OUT_OF_CREDIT", 403)], &[]);
/// const OTHER: Codes = Codes::new(&[CodeEntry::new("OUT_OF_CREDIT", 402)], &[]);
/// const CATALOGUE: Catalogue = Catalogue::new(&[ONE, OTHER]);
/// # let _ = CATALOGUE;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Catalogue {
    parts: &'static [Codes],
}

/// A code with two definitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{told}")]
pub struct DuplicateCode {
    told: String,
}

impl Catalogue {
    /// The codes of all these.
    ///
    /// # Panics
    ///
    /// When two of them define one code, unless both are [shared](CodeEntry::shared) and agree; see
    /// [`Catalogue::try_new`].
    #[must_use]
    pub const fn new(parts: &'static [Codes]) -> Self {
        if let Some((one, other)) = unique::clash(parts) {
            panic!("{}", unique::Sentence::about(one, other).text());
        }
        Self { parts }
    }

    /// The codes of all these, for lists that are not known to the compiler.
    ///
    /// # Errors
    ///
    /// When two of them define one code. It names both places.
    pub fn try_new(parts: &'static [Codes]) -> Result<Self, DuplicateCode> {
        match unique::clash(parts) {
            Some((one, other)) => Err(DuplicateCode {
                told: unique::Sentence::about(one, other).text().to_owned(),
            }),
            None => Ok(Self { parts }),
        }
    }

    /// Every entry, by code. Of a shared code, the first that was listed.
    #[must_use]
    pub fn entries(&self) -> Vec<&'static CodeEntry> {
        entries(self.parts)
    }

    /// The entry of this code.
    #[must_use]
    pub fn get(&self, code: &str) -> Option<&'static CodeEntry> {
        self.entries()
            .into_iter()
            .find(|entry| entry.code() == code)
    }
}
