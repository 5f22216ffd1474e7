//! The handle, on a store in memory.

use std::time::Duration;

use buttress_idempotency::{Begin, Idempotency, store::MemoryStore};

use crate::stand::{ASKED, OTHER, key, new};

#[tokio::test(start_paused = true)]
async fn a_second_request_is_in_flight_and_then_replayed_and_another_is_a_mismatch() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let key = key("one");
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    assert!(!guard.resumed());
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    let second = Duration::from_secs(1);
    assert!(matches!(again, Begin::InFlight { retry_after } if retry_after == second));
    let other = idempotency.begin(&key, &OTHER).await.unwrap();
    assert!(matches!(other, Begin::Mismatch), "before in flight");
    guard.complete("order 1").await.unwrap();
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert!(matches!(again, Begin::Replay(outcome) if outcome == "order 1"));
    let other = idempotency.begin(&key, &OTHER).await.unwrap();
    assert!(matches!(other, Begin::Mismatch));
}
