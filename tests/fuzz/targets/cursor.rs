//! A cursor of any bytes: never a panic, and none is believed that was not issued here.
#![no_main]

use std::sync::LazyLock;

use buttress_error_envelope::page::{CursorKey, PageQuery, Pages};
use libfuzzer_sys::fuzz_target;

static LISTS: LazyLock<[Pages; 2]> = LazyLock::new(|| {
    let key = CursorKey::new(&[7; 32]).unwrap();
    let signed = Pages::builder("orders").signed_by(key);
    [signed, Pages::builder("orders")].map(|pages| pages.build().unwrap())
});

fuzz_target!(|input: &str| {
    for (pages, is_signed) in LISTS.iter().zip([true, false]) {
        let query = PageQuery::new(None, Some(input.to_owned()));
        let Ok(request) = pages.read::<(i64, String)>(&query) else {
            continue;
        };
        assert!(
            !is_signed,
            "nobody can make a signed cursor without its key"
        );
        // A checksum can be made by anybody; what is read of such a one is issued again the same.
        let rows = vec![request.after().unwrap().clone(); 21];
        let page = request.page(rows, Clone::clone).unwrap();
        let again = PageQuery::new(None, page.next_cursor().map(str::to_owned));
        let again = pages.read::<(i64, String)>(&again).unwrap();
        assert_eq!(again.after(), request.after());
    }
});
