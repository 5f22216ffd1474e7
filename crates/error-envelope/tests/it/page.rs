//! Pages and their cursors: only what was issued for this list is believed, and no row is left out.

use buttress_error_envelope::{
    Envelope, Problem, ToProblem,
    page::{CursorKey, MAX_CURSOR, Page, PageError, PageQuery, Pages, PagesBuilder},
    parse_query,
};
use buttress_testkit::{seed::Seed, tier::short_or_long};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

fn key(byte: u8) -> CursorKey {
    CursorKey::new(&[byte; 32]).unwrap()
}

fn of(list: &'static str) -> Pages {
    Pages::builder(list).build().unwrap()
}

fn signed(list: &'static str, byte: u8) -> Pages {
    Pages::builder(list).signed_by(key(byte)).build().unwrap()
}

fn first(limit: i64) -> PageQuery {
    PageQuery::new(Some(limit), None)
}

fn behind(cursor: &str) -> PageQuery {
    PageQuery::new(None, Some(cursor.to_owned()))
}

/// The cursor that leads behind `id`.
fn cursor(pages: &Pages, id: &str) -> String {
    let request = pages.read::<String>(&first(1)).unwrap();
    let page = request
        .page(vec![id, "more"], |id| (*id).to_owned())
        .unwrap();
    page.next_cursor().unwrap().to_owned()
}

fn after(pages: &Pages, cursor: &str) -> Result<String, PageError> {
    let request = pages.read::<String>(&behind(cursor))?;
    Ok(request.after().unwrap().clone())
}

fn is_refused(pages: &Pages, cursor: &str) -> bool {
    matches!(after(pages, cursor), Err(PageError::Cursor))
}

#[test]
fn a_cursor_is_believed_by_its_own_list_and_filter_alone() {
    for (orders, products) in [
        (of("orders"), of("products")),
        (signed("orders", 1), signed("products", 1)),
    ] {
        let plain = cursor(&orders, "o7");
        assert_eq!(after(&orders, &plain).unwrap(), "o7");
        assert!(is_refused(&products, &plain));

        let filters = [
            json!({"tenant": 1}),
            json!({"tenant": 2}),
            json!(null),
            json!([1, 2]),
        ];
        for filter in &filters {
            let request = orders.read_within::<String>(&first(1), filter).unwrap();
            let page = request
                .page(vec!["o7", "o8"], |id| (*id).to_owned())
                .unwrap();
            let cursor = page.next_cursor().unwrap();
            assert!(is_refused(&orders, cursor), "{filter}");
            for other in &filters {
                let read = orders.read_within::<String>(&behind(cursor), other);
                assert_eq!(read.is_ok(), filter == other, "{filter} {other}");
                let unfiltered = orders.read_within::<String>(&behind(&plain), other);
                assert!(unfiltered.is_err());
            }
        }
    }
}

#[test]
fn a_signed_cursor_is_believed_only_with_its_key_and_keys_can_be_changed() {
    let old = signed("orders", 1);
    let both = |signing, believed| {
        let pages = Pages::builder("orders").signed_by(key(signing));
        pages.believing(key(believed)).build().unwrap()
    };
    let (learning, changed, new) = (both(1, 2), both(2, 1), signed("orders", 2));
    for (issuer, believers, refusers) in [
        (&old, [&old, &learning, &changed], [&new, &of("orders")]),
        (
            &learning,
            [&old, &learning, &changed],
            [&new, &of("orders")],
        ),
        (&changed, [&learning, &changed, &new], [&old, &of("orders")]),
        (&new, [&learning, &changed, &new], [&old, &of("orders")]),
    ] {
        let cursor = cursor(issuer, "o7");
        for pages in believers {
            assert_eq!(after(pages, &cursor).unwrap(), "o7");
        }
        for pages in refusers {
            assert!(is_refused(pages, &cursor));
        }
    }
    // One that anybody can make is not believed where cursors are signed.
    assert!(is_refused(&new, &cursor(&of("orders"), "o7")));
}

#[test]
fn a_cursor_that_was_changed_or_made_up_is_refused() {
    for pages in [of("orders"), signed("orders", 1)] {
        let issued = cursor(&pages, "o7");
        let mut text = issued.clone().into_bytes();
        for at in 0..text.len() {
            let before = text[at];
            for other in *b"AB_-9=+/ %\n\xff" {
                text[at] = other;
                let changed = String::from_utf8_lossy(&text).into_owned();
                assert_eq!(is_refused(&pages, &changed), changed != issued, "{changed}");
            }
            text[at] = before;
            assert!(is_refused(&pages, &issued[at + 1..]));
            assert!(is_refused(&pages, &issued[..at]));
        }
        let doubled = format!("{issued}{issued}");
        for cursor in [
            "",
            "=",
            "A",
            "AA",
            "o7",
            "ä",
            "\0",
            &doubled,
            &format!("{issued}A"),
        ] {
            assert!(is_refused(&pages, cursor), "{cursor}");
        }
        assert!(is_refused(&pages, &"A".repeat(10_000_000)));
    }
}

#[test]
fn a_cursor_for_another_kind_of_key_is_refused() {
    let pages = of("orders");
    let issued = cursor(&pages, "o7");
    let read = pages.read::<u64>(&behind(&issued));
    assert!(matches!(read, Err(PageError::Cursor)));
}

#[test]
fn no_text_makes_the_reading_panic_or_is_believed() {
    let tally = buttress_testkit::tally::suite("EE2");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let pages = [of("orders"), signed("orders", 1)];
    let issued = pages.each_ref().map(|pages| cursor(pages, "o7"));
    for _ in 0..short_or_long(20_000, 5_000_000) {
        for (pages, issued) in pages.iter().zip(&issued) {
            let mut text = issued.clone().into_bytes();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..text.len());
                text[at] = rng.random_range(b' '..=b'~');
            }
            let text = String::from_utf8(text).unwrap();
            assert_eq!(is_refused(pages, &text), text != *issued, "{text}");
        }
    }
    tally.faults(2 * short_or_long(20_000, 5_000_000));
}

#[test]
fn a_limit_is_from_one_to_the_most_and_has_a_default() {
    let pages = Pages::builder("orders").limits(5, 10).build().unwrap();
    let limit = |query: &str| -> Result<u32, Problem> {
        let query: PageQuery = parse_query(query)?;
        Ok(pages.read::<u64>(&query)?.limit())
    };
    for (query, expected) in [("", 5), ("limit=1", 1), ("limit=10", 10), ("cursors=x", 5)] {
        assert_eq!(limit(query).unwrap(), expected, "{query}");
    }
    for (query, message) in [
        ("limit=0", "must be from 1 to 10"),
        ("limit=11", "must be from 1 to 10"),
        ("limit=-1", "must be from 1 to 10"),
        ("limit=9223372036854775807", "must be from 1 to 10"),
        ("limit=9223372036854775808", "is out of range"),
        ("limit=", "must be an integer"),
        ("limit=ten", "must be an integer"),
        ("limit=1&limit=2", "is given more than once"),
    ] {
        let problem = limit(query).unwrap_err();
        assert_eq!(problem.to_string(), "MALFORMED_REQUEST (400)", "{query}");
        let [field] = problem.fields() else {
            panic!("{query}: {problem:?}")
        };
        assert_eq!(
            (&*field.path(), field.message()),
            ("limit", message),
            "{query}"
        );
    }
    let request = pages.read::<u64>(&first(10)).unwrap();
    assert_eq!(
        (request.limit(), request.fetch(), request.after()),
        (10, 11, None)
    );
}

#[test]
fn a_query_may_be_flattened_into_a_larger_one() {
    #[derive(Deserialize)]
    struct Search {
        name: String,
        #[serde(flatten)]
        page: PageQuery,
    }
    let search: Search = parse_query("limit=7&name=a&cursor=x").unwrap();
    assert_eq!(search.name, "a");
    assert_eq!(search.page, PageQuery::new(Some(7), Some("x".to_owned())));
    let search: Search = parse_query("name=a").unwrap();
    assert_eq!(search.page, PageQuery::default());
    assert!(parse_query::<Search>("name=a&limit=x").is_err());
}

#[test]
fn what_is_refused_names_its_parameter_and_nothing_of_what_was_sent() {
    let problem = PageError::Cursor.to_problem();
    assert_eq!(
        (problem.status().as_u16(), problem.code()),
        (400, "MALFORMED_REQUEST")
    );
    assert_eq!(problem.fields()[0].path(), "cursor");
    assert_eq!(problem.fields()[0].code(), Some("INVALID_CURSOR"));
    let problem = Problem::from(PageError::Unwritable("c4n4ry".into()));
    assert_eq!(problem.to_string(), "INTERNAL (500)");
}

#[test]
fn a_key_that_cannot_be_put_into_a_cursor_is_told_and_the_longest_that_can_fits() {
    let pages = signed("orders", 1);
    let request = pages.read::<String>(&first(1)).unwrap();
    let page = |length: usize| request.page(vec![1, 2], |_| "k".repeat(length));
    let longest = page(510).unwrap();
    assert!(longest.next_cursor().unwrap().len() <= MAX_CURSOR);
    assert_eq!(
        after(&pages, longest.next_cursor().unwrap()).unwrap().len(),
        510
    );
    assert!(matches!(page(511), Err(PageError::Unwritable(_))));
    // The last page has no cursor, so its keys may be as they are.
    assert!(request.page(vec![1], |_| "k".repeat(511)).is_ok());

    #[derive(Serialize, Deserialize)]
    struct Odd(std::collections::BTreeMap<(u8, u8), u8>);
    let request = pages.read::<Odd>(&first(1)).unwrap();
    let odd = request.page(vec![1, 2], |_| Odd([((1, 2), 3)].into()));
    assert!(matches!(odd, Err(PageError::Unwritable(_))));
}

#[test]
fn what_cannot_work_is_refused_when_it_is_built_with_field_and_range() {
    let base = || Pages::builder("orders");
    let many = (0..8).fold(base().signed_by(key(9)), |pages, byte| {
        pages.believing(key(byte))
    });
    let table: [(PagesBuilder, &str); 7] = [
        (Pages::builder(""), "list must be 1 to 255 bytes"),
        (
            Pages::builder("x".repeat(256)),
            "list must be 1 to 255 bytes",
        ),
        (base().limits(1, 0), "most must be 1 to 10000"),
        (base().limits(1, 10_001), "most must be 1 to 10000"),
        (base().limits(11, 10), "default must be 1 to the most"),
        (
            base().believing(key(1)),
            "signed_by must be a key where others are believed",
        ),
        (many, "believing must be at most 7 keys"),
    ];
    for (builder, told) in table {
        assert_eq!(builder.build().unwrap_err().to_string(), told);
    }
    for length in [0, 15, 257] {
        let error = CursorKey::new(&vec![7; length]).unwrap_err();
        assert_eq!((error.field(), error.range()), ("key", "16 to 256 bytes"));
    }
}

#[test]
fn a_key_is_not_printed() {
    let pages =
        Pages::builder("orders").signed_by(CursorKey::new(b"c4n4ry c4n4ry c4n4ry").unwrap());
    let shown = format!("{pages:?} {:?}", pages.clone().build());
    assert!(
        !shown.contains("c4n4ry") && !shown.contains("99, 52, 110"),
        "{shown}"
    );
}

#[test]
fn the_page_as_an_envelope_says_where_it_goes_on_and_null_on_the_last() {
    let pages = of("orders");
    let request = pages.read::<u64>(&first(2)).unwrap();
    let page = request.page(vec![1, 2, 3], |id| *id).unwrap();
    let next = page.next_cursor().unwrap().to_owned();
    let body = |page: Page<String>| serde_json::to_value(Envelope::from(page)).unwrap();
    assert_eq!(
        body(page.map(|id| format!("o{id}"))),
        json!({"success": true, "data": ["o1", "o2"], "meta": {"next_cursor": next}})
    );
    let last = request.page(vec![3], |id| *id).unwrap();
    assert_eq!(
        body(last.map(|id| format!("o{id}"))),
        json!({"success": true, "data": ["o3"], "meta": {"next_cursor": null}})
    );
    let empty = request.page(Vec::new(), |id: &u64| *id).unwrap();
    assert!(empty.next_cursor().is_none() && empty.items().is_empty());
}

/// A row by its two keys: `(placed_at, id)`.
type Row = (i8, u16);

/// What a database answers: `WHERE (placed_at, id) > ($1, $2) ORDER BY placed_at, id LIMIT $3`.
fn query(table: &[Row], after: Option<&Row>, most: u32) -> Vec<Row> {
    let behind = table
        .iter()
        .filter(|row| after.is_none_or(|after| *row > after));
    behind
        .take(usize::try_from(most).unwrap())
        .copied()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(short_or_long(200, 10_000)))]

    #[test]
    fn every_row_is_on_one_page_and_rows_added_behind_are_seen(
        rows in prop::collection::btree_set(any::<Row>(), 0..40),
        added in prop::collection::vec((0_usize..10, any::<Row>()), 0..10),
        limit in 1_i64..8,
    ) {
        let pages = signed("orders", 1);
        let mut table = rows.clone();
        let (mut seen, mut next) = (Vec::<Row>::new(), None);
        for turn in 0.. {
            // Others write while the list is read.
            for (_, row) in added.iter().filter(|(when, _)| *when == turn) {
                table.insert(*row);
            }
            let sorted: Vec<_> = table.iter().copied().collect();
            let request = pages.read::<Row>(&PageQuery::new(Some(limit), next)).unwrap();
            let found = query(&sorted, request.after(), request.fetch());
            let (items, meta) = request.page(found, |row| *row).unwrap().into_parts();
            prop_assert!(items.len() <= usize::try_from(limit).unwrap());
            prop_assert_eq!(meta.next_cursor.is_some(), items.last().is_some_and(|last| {
                sorted.iter().any(|row| row > last)
            }));
            seen.extend(items);
            next = meta.next_cursor;
            if next.is_none() {
                break;
            }
        }
        // In order, none twice, and all that were there from the beginning.
        prop_assert!(seen.is_sorted_by(|one, other| one < other));
        prop_assert!(rows.iter().all(|row| seen.contains(row)));
    }
}
