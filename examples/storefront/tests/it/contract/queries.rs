//! Parameters and cursors that cannot be read.

use super::{
    Checks, checks,
    client::{Client, keys, two_of},
};

pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop; parameters_that_cannot_be_read_are_malformed, cursors_that_were_not_issued_here_are_malformed]
}

async fn parameters_that_cannot_be_read_are_malformed(shop: &Client) {
    for path in [
        "/products?limit=0",
        "/products?limit=101",
        "/products?limit=-1",
        "/products?limit=ten",
        "/products?limit=1.5",
        "/products?limit=",
        "/products?limit=99999999999999999999",
        "/products?cursor=p1",
        "/products?cursor=",
        "/products?cursor=%00",
        "/orders?limit=0",
        "/orders?limit=101",
        "/orders?cursor=",
        "/orders?cursor=AAAA",
        "/shipping-quotes",
        "/shipping-quotes?country=SE",
        "/shipping-quotes?quantity=3",
        "/shipping-quotes?country=SE&quantity=0",
        "/shipping-quotes?country=SE&quantity=-1",
        "/shipping-quotes?country=SE&quantity=x",
        "/shipping-quotes?country=&quantity=1",
        "/events?after=-1",
        "/events?after=x",
        "/events?after=99999999999999999999",
        "/events?limit=0",
        "/events?limit=1001",
        "/events?limit=x",
        "/ledger?after=x",
        "/ledger?after=-1",
        "/ledger?limit=0",
        "/ledger?limit=x",
    ] {
        shop.get(path).await.refused(400, "MALFORMED_REQUEST");
    }
}

async fn cursors_that_were_not_issued_here_are_malformed(shop: &Client) {
    for (list, other) in [("products", "orders"), ("orders", "products")] {
        let customer = shop.customer();
        for key in ["a", "b"] {
            customer.placed(key, &two_of("p4")).await;
        }
        let page = shop.get(&format!("/{list}?limit=1")).await;
        assert_eq!(keys(page.meta()), ["next_cursor"], "{page}");
        let cursor = page.meta()["next_cursor"].as_str().unwrap();
        shop.get(&format!("/{list}?cursor={cursor}")).await.is(200);
        let foreign = shop.get(&format!("/{other}?cursor={cursor}")).await;
        foreign.refused(400, "MALFORMED_REQUEST");
        // One of ours with another end.
        let changed = format!(
            "{}{}",
            &cursor[..cursor.len() - 1],
            if cursor.ends_with('A') { 'B' } else { 'A' }
        );
        let changed = shop.get(&format!("/{list}?cursor={changed}")).await;
        changed.refused(400, "MALFORMED_REQUEST");
    }
}
