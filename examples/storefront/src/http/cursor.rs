//! Pages: how many, and from where on.
//!
//! A cursor holds the last id of a page and has a checksum. The checksum tells a cursor of ours
//! from a guess; it is no secret, and need not be, for a cursor grants nothing.

use std::sync::LazyLock;

use buttress_error_envelope::{
    Problem,
    page::{PageError, PageQuery, PageRequest, Pages},
};

use super::{is_id, refusal::Refusal};

/// The list that a cursor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Products,
    Orders,
}

static PRODUCTS: LazyLock<Pages> = LazyLock::new(|| pages("products"));
static ORDERS: LazyLock<Pages> = LazyLock::new(|| pages("orders"));

/// 20 at a time, at most 100.
fn pages(list: &'static str) -> Pages {
    let pages = Pages::builder(list).limits(20, 100).build();
    pages.expect("a short name, and limits that fit together")
}

/// What `?limit=…&cursor=…` asks for.
pub(super) fn read(list: List, query: &PageQuery) -> Result<PageRequest<String>, Problem> {
    let pages = match list {
        List::Products => &PRODUCTS,
        List::Orders => &ORDERS,
    };
    let request = pages.read::<String>(query).map_err(|error| match error {
        PageError::Limit { .. } => Refusal::Parameter("limit must be from 1 to 100.").into(),
        PageError::Cursor => Refusal::Cursor.into(),
        other => Problem::from(other),
    })?;
    // Anybody can make a checksum.
    if request.after().is_some_and(|id| !is_id(id)) {
        return Err(Refusal::Cursor.into());
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(list: List, cursor: &str) -> Result<Option<String>, Problem> {
        let query = PageQuery::new(None, Some(cursor.to_owned()));
        Ok(read(list, &query)?.after().cloned())
    }

    fn cursor(list: List, id: &str) -> String {
        let request = read(list, &PageQuery::new(Some(1), None)).unwrap();
        let page = request.page(vec![id, "more"], |id| (*id).to_owned());
        page.unwrap().next_cursor().unwrap().to_owned()
    }

    #[test]
    fn a_cursor_is_read_by_its_own_list_alone() {
        let cursor = cursor(List::Products, "p7");
        let read = behind(List::Products, &cursor).unwrap();
        assert_eq!(read.as_deref(), Some("p7"));
        assert!(behind(List::Orders, &cursor).is_err());
    }

    #[test]
    fn a_cursor_that_was_not_issued_here_or_leads_behind_no_id_is_malformed() {
        let no_id = cursor(List::Products, "p 7");
        for cursor in ["", "p7", "AQFwNw", "ä", &no_id, &"A".repeat(10_000)] {
            let problem = behind(List::Products, cursor).unwrap_err();
            assert_eq!(problem.to_string(), "MALFORMED_REQUEST (400)", "{cursor}");
            assert_eq!(
                problem.message(),
                "This cursor was not issued by this service."
            );
        }
    }
}
