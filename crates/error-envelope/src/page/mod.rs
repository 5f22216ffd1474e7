//! Pages of a list by keyset: how many, from where on, and a cursor that only this service issued.
//!
//! ```
//! use buttress_error_envelope::{Envelope, page::{CursorKey, PageQuery, Pages}};
//!
//! # fn rows(after: Option<&(i64, u64)>, most: u32) -> Vec<(i64, u64)> { vec![(5, 1), (5, 2), (6, 3)] }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = CursorKey::new(b"32 bytes from your secret store.")?;
//! let pages = Pages::builder("orders").limits(20, 100).signed_by(key).build()?;
//!
//! let query: PageQuery = serde_json::from_str(r#"{"limit": 2}"#)?; // `?limit=2&cursor=…`
//! let request = pages.read::<(i64, u64)>(&query)?;
//! // SELECT … WHERE (placed_at, id) > ($1, $2) ORDER BY placed_at, id LIMIT $3
//! let rows = rows(request.after(), request.fetch());
//! let page = request.page(rows, |&row| row)?;
//! assert_eq!(page.items(), &[(5, 1), (5, 2)]);
//! assert!(page.next_cursor().is_some());
//! let _body = Envelope::from(page); // {"success": true, "data": [...], "meta": {"next_cursor": "…"}}
//! # Ok(())
//! # }
//! ```

mod cursor;
mod error;
mod key;
mod pages;
mod request;
mod rows;

pub use self::{
    cursor::MAX_CURSOR,
    error::{PageError, PagesError},
    key::CursorKey,
    pages::{Pages, PagesBuilder},
    request::{PageQuery, PageRequest},
    rows::{Page, PageMeta},
};
