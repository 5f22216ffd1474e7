//! What every second level must do.

use std::{sync::Arc, time::Duration};

use buttress_store::{Deadline, Key, StoreError};

use crate::store::{
    CacheStore, FillToken, Held, Looked, Marked, Marks, Missed, Record, Stamp, Watch,
};

/// Judges a store by what every store must do. It needs an empty one, and about a second.
///
/// Each claim is a function of its own name, so that a failure says which one does not hold.
///
/// # Panics
///
/// When the store does not do what it must.
pub async fn conformance(store: Arc<dyn CacheStore>) {
    let it = Judged(store);
    ca_29_a_token_that_was_ended_fills_nothing(&it).await;
    ca_30_the_second_who_misses_hears_of_the_first(&it).await;
    a_token_fills_once(&it).await;
    a_token_of_another_key_fills_nothing(&it).await;
    whatever_changes_a_key_ends_its_tokens(&it).await;
    a_token_of_before_a_write_and_a_removal_stays_ended(&it).await;
    an_entry_is_kept_while_it_is_claimed(&it).await;
    an_entry_says_what_is_left_of_it(&it).await;
    a_write_that_is_late_stores_nothing(&it).await;
    what_is_written_last_is_read(&it).await;
    an_expired_entry_is_stale_and_one_without_a_stale_life_goes(&it).await;
    entries_end_by_themselves(&it).await;
    keys_and_values_are_bytes_and_stay_apart(&it).await;
    many_keys_are_answered_in_their_order(&it).await;
    a_mark_kills_what_was_made_before_it_and_nothing_else(&it).await;
    marking_a_space_kills_all_of_it_and_no_other(&it).await;
    marks_come_with_the_entries(&it).await;
    of_many_who_miss_at_once_one_fills(&it).await;
    super::lease::all(&it).await;
}

/// Long enough that nothing ends while the suite runs.
pub(super) const LONG: Duration = Duration::from_secs(600);

pub(super) struct Judged(pub(super) Arc<dyn CacheStore>);

impl Judged {
    async fn look(&self, key: &[u8]) -> Looked {
        let reading = self.0.read(&[at(key)], None, soon()).await;
        let mut reading = answered(reading);
        assert_eq!(reading.keys.len(), 1, "one answer for each key");
        assert_eq!(reading.marks, None, "nobody asked for marks");
        reading.keys.remove(0)
    }

    pub(super) async fn held(&self, key: &[u8]) -> Held {
        match self.look(key).await {
            Looked::Held(held) => held,
            Looked::Missed(_) => panic!("{key:?} holds nothing"),
        }
    }

    pub(super) async fn missed(&self, key: &[u8]) -> Missed {
        match self.look(key).await {
            Looked::Missed(missed) => missed,
            Looked::Held(held) => panic!("{key:?} holds {held:?}"),
        }
    }

    pub(super) async fn fill(&self, key: &[u8], token: &FillToken, value: &[u8]) -> bool {
        let key = &at(key);
        answered(self.0.fill(key, token, record(value), soon()).await)
    }

    async fn put(&self, key: &[u8], value: &[u8]) {
        self.store(key, record(value)).await;
    }

    async fn store(&self, key: &[u8], record: Record<'_>) {
        let key = &at(key);
        let token = answered(self.0.take_over(key, soon()).await);
        let filled = self.0.fill(key, &token, record, soon()).await;
        assert!(answered(filled), "nothing came since it was taken over");
    }

    async fn marks(&self, space: &Key, tags: &[Key]) -> Marks {
        let marks = answered(self.0.marks(Watch { space, tags }, soon()).await);
        assert_eq!(marks.tags.len(), tags.len(), "one mark for each tag");
        marks
    }

    async fn mark(&self, space: &Key, what: Marked<'_>) -> Stamp {
        answered(self.0.mark(space, what, soon()).await)
    }
}

pub(super) fn at(key: &[u8]) -> Key {
    Key::bounded(key, 4096).expect("a key of this suite is one")
}

pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

pub(super) fn answered<T>(result: Result<T, StoreError>) -> T {
    result.expect("a store that is judged answers")
}

const fn record(bytes: &[u8]) -> Record<'_> {
    Record {
        bytes,
        fresh: LONG,
        life: LONG,
    }
}

async fn ca_29_a_token_that_was_ended_fills_nothing(it: &Judged) {
    let key = b"ca-29";
    let first = it.missed(key).await.token;
    answered(it.0.invalidate(&[at(key)], soon()).await);
    let second = it.missed(key).await.token;
    assert_ne!(first, second, "a removal ends the token");
    assert!(it.fill(key, &second, b"new").await);
    assert!(!it.fill(key, &first, b"old").await);
    assert_eq!(it.held(key).await.bytes, b"new");
}

async fn ca_30_the_second_who_misses_hears_of_the_first(it: &Judged) {
    let key = b"ca-30";
    let first = it.missed(key).await;
    assert_eq!(first.since, None);
    let second = it.missed(key).await;
    assert_eq!(first.token, second.token, "it stands, so it is shared");
    let lease = Duration::from_secs(10);
    let wait = second.wait(lease).expect("he is told to wait");
    assert!(wait > Duration::from_secs(5), "{wait:?}");
}

async fn a_token_fills_once(it: &Judged) {
    let key = b"once";
    let token = it.missed(key).await.token;
    assert!(it.fill(key, &token, b"first").await);
    assert!(!it.fill(key, &token, b"second").await);
    assert_eq!(it.held(key).await.bytes, b"first");
    assert!(!it.fill(key, &FillToken::random(), b"made up").await);
    assert!(
        !it.fill(b"never seen", &FillToken::random(), b"made up")
            .await
    );
}

async fn a_token_of_another_key_fills_nothing(it: &Judged) {
    let token = it.missed(b"this one").await.token;
    let _other = it.missed(b"that one").await;
    assert!(!it.fill(b"that one", &token, b"strange").await);
    let _missed = it.missed(b"that one").await;
}

async fn whatever_changes_a_key_ends_its_tokens(it: &Judged) {
    let keys = &[at(b"changes")];
    for change in 0..5 {
        answered(it.0.invalidate(keys, soon()).await);
        if change >= 3 {
            it.put(b"changes", b"there").await;
        }
        let claims = answered(it.0.claim(keys, soon()).await);
        let token = claims[0].token;
        match change {
            0 => it.put(b"changes", b"written").await,
            1 => answered(it.0.invalidate(keys, soon()).await),
            // He fills it later, or never.
            4 => {
                let _token = answered(it.0.take_over(&keys[0], soon()).await);
            }
            _ => answered(it.0.expire(keys, soon()).await),
        }
        assert!(!it.fill(b"changes", &token, b"late").await, "{change}");
    }
}

async fn a_token_of_before_a_write_and_a_removal_stays_ended(it: &Judged) {
    let key = b"write and removal";
    let token = it.missed(key).await.token;
    it.put(key, b"written").await;
    answered(it.0.invalidate(&[at(key)], soon()).await);
    assert!(!it.fill(key, &token, b"late").await);
    let _new = it.missed(key).await;
    assert!(!it.fill(key, &token, b"late").await);
    let _missed = it.missed(key).await;
}

async fn an_entry_is_kept_while_it_is_claimed(it: &Judged) {
    let key = b"claimed";
    it.put(key, b"old").await;
    let claims = answered(it.0.claim(&[at(key), at(b"claimed too")], soon()).await);
    assert_eq!(claims.len(), 2, "one for each key");
    assert_eq!(it.held(key).await.bytes, b"old");
    assert!(it.fill(key, &claims[0].token, b"new").await);
    assert_eq!(it.held(key).await.bytes, b"new");
}

async fn an_entry_says_what_is_left_of_it(it: &Judged) {
    let record = Record {
        bytes: b"",
        fresh: Duration::from_secs(60),
        life: LONG,
    };
    it.store(b"left", record).await;
    let held = it.held(b"left").await;
    assert!(held.bytes.is_empty());
    let near =
        |told: Duration, truth: Duration| told <= truth && told + Duration::from_secs(20) > truth;
    assert!(near(held.fresh, record.fresh), "{held:?}");
    assert!(near(held.life, record.life), "{held:?}");
    assert!(held.age < Duration::from_secs(20), "{held:?}");
}

async fn a_write_that_is_late_stores_nothing(it: &Judged) {
    let key = &at(b"late write");
    it.put(key, b"before").await;
    let token = answered(it.0.take_over(key, soon()).await);
    let _removed = it.missed(key).await;
    answered(it.0.invalidate(std::slice::from_ref(key), soon()).await);
    assert!(!it.fill(key, &token, b"late").await);
}

async fn what_is_written_last_is_read(it: &Judged) {
    for value in [&b"a"[..], b"b", b""] {
        it.put(b"last", value).await;
        assert_eq!(it.held(b"last").await.bytes, value);
    }
}

async fn an_expired_entry_is_stale_and_one_without_a_stale_life_goes(it: &Judged) {
    let (some, none) = (at(b"stale life"), at(b"no stale life"));
    let record_with = Record {
        fresh: LONG / 2,
        ..record(b"stale")
    };
    it.store(&some, record_with).await;
    it.store(&none, record(b"gone")).await;
    let keys = [some, none, at(b"not there")];
    for _ in 0..2 {
        answered(it.0.expire(&keys, soon()).await);
        let held = it.held(b"stale life").await;
        assert_eq!(
            (held.fresh, &held.bytes[..]),
            (Duration::ZERO, &b"stale"[..])
        );
        assert!(held.life <= LONG / 2, "{held:?}");
        let _missed = it.missed(b"no stale life").await;
    }
}

async fn entries_end_by_themselves(it: &Judged) {
    let key = at(b"short");
    let short = Record {
        fresh: Duration::from_millis(100),
        life: Duration::from_millis(400),
        ..record(b"short")
    };
    it.store(&key, short).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    if let Looked::Held(held) = it.look(b"short").await {
        assert_eq!(held.fresh, Duration::ZERO);
        assert!(held.age >= Duration::from_millis(140), "{held:?}");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _missed = it.missed(b"short").await;
}

async fn keys_and_values_are_bytes_and_stay_apart(it: &Judged) {
    let long = vec![b'x'; 1500];
    let keys: [&[u8]; 11] = [
        b"Abc",
        b"abc",
        b"abc ",
        b"abc\0",
        b"\xff\xfe",
        b"{a}",
        b"a}",
        b"%7D",
        b"}",
        b"'; --",
        &long,
    ];
    let values: Vec<Vec<u8>> = (0..=10)
        .map(|at| (0..=255).map(|byte: u8| byte.wrapping_add(at)).collect())
        .collect();
    for (key, value) in keys.iter().zip(&values) {
        it.put(key, value).await;
    }
    for (key, value) in keys.iter().zip(&values) {
        assert_eq!(&it.held(key).await.bytes, value, "{key:?}");
    }
}

async fn many_keys_are_answered_in_their_order(it: &Judged) {
    let keys: Vec<Key> = (0..50)
        .map(|n| at(format!("many {n}").as_bytes()))
        .collect();
    for n in (0..50).step_by(3) {
        let value = format!("value {n}");
        it.put(format!("many {n}").as_bytes(), value.as_bytes())
            .await;
    }
    let reading = answered(it.0.read(&keys, None, soon()).await);
    assert_eq!(reading.keys.len(), 50, "one for each key");
    for (n, looked) in reading.keys.iter().enumerate() {
        match looked {
            Looked::Held(held) => {
                assert_eq!(held.bytes, format!("value {n}").into_bytes());
            }
            Looked::Missed(missed) => {
                assert!(n % 3 != 0, "{n} is there");
                let key = format!("many {n}");
                assert!(it.fill(key.as_bytes(), &missed.token, b"filled").await);
            }
        }
    }
    answered(it.0.invalidate(&keys, soon()).await);
    let reading = answered(it.0.read(&keys, None, soon()).await);
    let gone = |looked: &Looked| matches!(looked, Looked::Missed(_));
    assert!(reading.keys.iter().all(gone), "all are removed");
    let nothing = answered(it.0.read(&[], None, soon()).await);
    assert!(nothing.keys.is_empty());
}

async fn a_mark_kills_what_was_made_before_it_and_nothing_else(it: &Judged) {
    let space = &at(b"marks");
    let tags = [at(b"x"), at(b"y")];
    let before = it.marks(space, &tags).await;
    assert!(before.allow(before.now), "nothing is marked");
    let after = it.mark(space, Marked::Tags(&tags[..1])).await;
    let x = it.marks(space, &tags[..1]).await;
    let y = it.marks(space, &tags[1..]).await;
    assert!(!x.allow(before.now), "it was made before");
    assert!(x.allow(after) && x.allow(x.now), "it was made after");
    assert!(y.allow(before.now), "its tag was not marked");
    let both = it.marks(space, &tags).await;
    assert!(!both.allow(before.now), "one of its tags was");
    let again = it.mark(space, Marked::Tags(&tags)).await;
    assert!(again.sequence > after.sequence, "each mark is a later one");
    let both = it.marks(space, &tags).await;
    assert!(!both.allow(after) && both.allow(again));
    let strange = Stamp {
        epoch: both.now.epoch ^ 1,
        ..both.now
    };
    assert!(!both.allow(strange));
}

async fn marking_a_space_kills_all_of_it_and_no_other(it: &Judged) {
    let (space, other) = (&at(b"a space"), &at(b"a spac"));
    let tags = [at(b"x")];
    let (ours, theirs) = (it.marks(space, &tags).await, it.marks(other, &tags).await);
    let after = it.mark(space, Marked::All).await;
    for tags in [&tags[..], &[]] {
        let marks = it.marks(space, tags).await;
        assert!(!marks.allow(ours.now));
        assert!(marks.allow(after) && marks.allow(marks.now));
        assert!(it.marks(other, tags).await.allow(theirs.now));
    }
    // Also where it is the first thing that happens to a space, and what is known of it is nothing.
    let fresh = &at(b"a space never seen");
    let first = it.mark(fresh, Marked::All).await;
    assert!(it.marks(fresh, &[]).await.allow(first));
}

async fn marks_come_with_the_entries(it: &Judged) {
    let space = &at(b"together");
    let tags = [at(b"t")];
    let asked = Watch { space, tags: &tags };
    it.put(b"together", b"here").await;
    let keys = [at(b"together"), at(b"alone")];
    for keys in [&keys[..1], &keys[..], &[]] {
        let before = answered(it.0.read(keys, Some(asked), soon()).await);
        let before = before.marks.expect("they were asked for").now;
        it.mark(space, Marked::Tags(&tags)).await;
        let after = answered(it.0.read(keys, Some(asked), soon()).await);
        assert_eq!(after.keys.len(), keys.len());
        let marks = after.marks.expect("they were asked for");
        assert!(!marks.allow(before) && marks.allow(marks.now));
    }
}

async fn of_many_who_miss_at_once_one_fills(it: &Judged) {
    let tasks: Vec<_> = (0..16_u8)
        .map(|n| {
            let store = Arc::clone(&it.0);
            tokio::spawn(async move {
                let it = Judged(store);
                let Looked::Missed(missed) = it.look(b"herd").await else {
                    return 0;
                };
                u8::from(it.fill(b"herd", &missed.token, &[n]).await)
            })
        })
        .collect();
    let mut filled = 0;
    for task in tasks {
        filled += task.await.expect("no task of this suite fails otherwise");
    }
    assert_eq!(filled, 1, "the first ends the token of all");
}
