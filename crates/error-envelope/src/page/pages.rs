//! How one list is given in pages.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    CursorKey, PageError, PageQuery, PageRequest, PagesError,
    cursor::{Binding, Check},
};

/// How one list is given in pages: how long they are, and how its cursors are known again. Made
/// once, cheap to clone.
///
/// | | default |
/// | --- | --- |
/// | items in a page | 20, at most 100 |
/// | cursors | with a checksum: nobody sends another one by mistake, but anybody can make one |
///
/// **A cursor is bound to its list**, and to the filter and order if [`Pages::read_within`] is
/// told them: another list's is refused. It is opaque, but not secret: whoever has it can read the
/// key of the row in it. And it grants nothing: who may see which rows, each query asks anew.
///
/// **The key of a row** is what the list is ordered by, and names one row: where dates may be
/// equal, the date and the id. Not floating point numbers: what is read may not be what was
/// written.
#[derive(Clone)]
pub struct Pages {
    shared: Arc<Shared>,
}

struct Shared {
    binding: Binding,
    default: u32,
    most: u32,
    check: Check,
}

impl Pages {
    /// Pages of the list of this name. Change the name when the key or the order of the rows
    /// changes, and cursors from before are refused.
    pub fn builder(list: impl Into<Cow<'static, str>>) -> PagesBuilder {
        PagesBuilder {
            list: list.into(),
            default: 20,
            most: 100,
            signing: None,
            believed: Vec::new(),
        }
    }

    /// What was asked for.
    ///
    /// # Errors
    ///
    /// [`PageError::Limit`], [`PageError::Cursor`].
    pub fn read<K: DeserializeOwned>(
        &self,
        query: &PageQuery,
    ) -> Result<PageRequest<K>, PageError> {
        self.bound(query, self.shared.binding)
    }

    /// The same for a list that is filtered: a cursor is refused unless it was issued for the same
    /// filter. Whatever decides which rows come in which order belongs into it: parameters of the
    /// query, the order, the tenant. It must be written the same each time, as structs are and hash
    /// maps are not.
    ///
    /// # Errors
    ///
    /// [`PageError::Limit`], [`PageError::Cursor`]; [`PageError::Unwritable`] when the filter is no
    /// JSON.
    pub fn read_within<K: DeserializeOwned>(
        &self,
        query: &PageQuery,
        filter: &impl Serialize,
    ) -> Result<PageRequest<K>, PageError> {
        self.bound(query, self.shared.binding.within(filter)?)
    }

    fn bound<K: DeserializeOwned>(
        &self,
        query: &PageQuery,
        binding: Binding,
    ) -> Result<PageRequest<K>, PageError> {
        let most = self.shared.most;
        let limit = match query.limit() {
            None => self.shared.default,
            Some(limit) => u32::try_from(limit)
                .ok()
                .filter(|limit| (1..=most).contains(limit))
                .ok_or(PageError::Limit { most })?,
        };
        let read = |cursor| {
            self.shared
                .check
                .read(binding, cursor)
                .ok_or(PageError::Cursor)
        };
        let after = query.cursor().map(read).transpose()?;
        Ok(PageRequest::new(self.clone(), binding, limit, after))
    }

    pub(super) fn issue(
        &self,
        binding: Binding,
        key: &impl Serialize,
    ) -> Result<String, PageError> {
        self.shared.check.issue(binding, key)
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("default", &self.shared.default)
            .field("most", &self.shared.most)
            .field("signed", &matches!(self.shared.check, Check::Keys { .. }))
            .finish()
    }
}

/// Makes [`Pages`].
#[derive(Clone, Debug)]
pub struct PagesBuilder {
    list: Cow<'static, str>,
    default: u32,
    most: u32,
    signing: Option<CursorKey>,
    believed: Vec<CursorKey>,
}

impl PagesBuilder {
    /// How many items a page has when nothing is said, and how many may be asked for.
    #[must_use]
    pub const fn limits(mut self, default: u32, most: u32) -> Self {
        self.default = default;
        self.most = most;
        self
    }

    /// Cursors are signed with this key, so that nobody else can make one.
    #[must_use]
    pub fn signed_by(mut self, key: CursorKey) -> Self {
        self.signing = Some(key);
        self
    }

    /// Cursors that were signed with this key are believed too, and none is signed with it. To
    /// change keys: first all instances believe the new one, then they sign with it and believe the
    /// old one, then they forget that.
    #[must_use]
    pub fn believing(mut self, key: CursorKey) -> Self {
        self.believed.push(key);
        self
    }

    /// The pages.
    ///
    /// # Errors
    ///
    /// When the name of the list is empty or longer than 255 bytes, a page has more than 10 000
    /// items or none, the default is more than the most, more than 7 keys are believed beside the
    /// one that signs, or some are and none signs.
    pub fn build(self) -> Result<Pages, PagesError> {
        if !(1..=255).contains(&self.list.len()) {
            return Err(PagesError::new("list", "1 to 255 bytes"));
        }
        if !(1..=10_000).contains(&self.most) {
            return Err(PagesError::new("most", "1 to 10000"));
        }
        if !(1..=self.most).contains(&self.default) {
            return Err(PagesError::new("default", "1 to the most"));
        }
        if self.believed.len() > 7 {
            return Err(PagesError::new("believing", "at most 7 keys"));
        }
        let check = match self.signing {
            Some(signing) => Check::Keys {
                signing,
                believed: self.believed,
            },
            None if self.believed.is_empty() => Check::Checksum,
            None => {
                return Err(PagesError::new(
                    "signed_by",
                    "a key where others are believed",
                ));
            }
        };
        Ok(Pages {
            shared: Arc::new(Shared {
                binding: Binding::of(&self.list),
                default: self.default,
                most: self.most,
                check,
            }),
        })
    }
}
