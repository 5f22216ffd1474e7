//! Entries that only those can make who share a secret: who may only write to the store makes none.

use std::{io, sync::Arc, time::Duration};

use buttress_cache_aside::{
    Cache, CachePolicy, Event, EventKind, SecondLevel,
    codec::{Entry, Framing, Json, Schema, SealSecret, Unreadable},
    store::{CacheStore as _, MemoryStore, Record, Stamp, Watch},
};
use buttress_store::Key;
use buttress_testkit::seed::Seed;
use rand::RngExt as _;

use crate::stores::{key, soon};

fn secret(byte: u8) -> SealSecret {
    SealSecret::new([byte; 32]).unwrap()
}

fn open() -> Framing<u32> {
    Framing::new(Json::new(), Schema::new("u32", 1).unwrap())
}

fn sealed(by: u8) -> Framing<u32> {
    open().sealed(secret(by), [])
}

const fn entry<V>(value: V, stamp: Stamp) -> Entry<V> {
    Entry {
        value: Some(value),
        tags: Vec::new(),
        etag: None,
        stamp,
        fresh: Duration::from_secs(60),
        revalidate: Duration::ZERO,
        error: Duration::ZERO,
        took: Duration::ZERO,
        weight: 1,
    }
}

const STAMP: Stamp = Stamp {
    epoch: 7,
    sequence: 8,
};

fn made(by: &Framing<u32>, key: &Key) -> Vec<u8> {
    by.encode(key, &entry(&41, STAMP)).unwrap()
}

#[test]
fn only_who_has_the_secret_makes_entries_and_only_for_their_own_keys() {
    let tally = buttress_testkit::tally::suite("CA5");
    let (mine, other) = (key("mine"), key("other"));
    let bytes = made(&sealed(1), &mine);
    assert_eq!(sealed(1).decode(&mine, &bytes), Ok(entry(41, STAMP)));
    for (why, framing, at, bytes) in [
        ("another's", sealed(1), &mine, made(&sealed(2), &mine)),
        ("nobody's", sealed(1), &mine, made(&open(), &mine)),
        ("moved", sealed(1), &other, bytes.clone()),
        // Its length is sealed as well, and would be enough for the one above.
        ("moved to its like", sealed(1), &key("nine"), bytes.clone()),
        ("without its end", sealed(1), &mine, bytes[..20].to_vec()),
    ] {
        assert_eq!(framing.decode(at, &bytes), Err(Unreadable::Forged), "{why}");
    }
    // Who knows of no secret cannot read what has a seal, and takes it for damage.
    assert_eq!(open().decode(&mine, &bytes), Err(Unreadable::Damaged));
    tally.faults(6);
}

#[test]
fn no_change_of_a_sealed_entry_is_read() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mine = key("mine");
    let whole = made(&sealed(1), &mine);
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= rng.random_range(1..=255_u8);
        assert!(sealed(1).decode(&mine, &bytes).is_err(), "{place}");
    }
    for length in 0..whole.len() {
        assert!(sealed(1).decode(&mine, &whole[..length]).is_err());
    }
}

#[test]
fn while_a_secret_is_changed_all_read_what_all_wrote() {
    let mine = key("mine");
    let stages = [
        open().sealed(secret(1), []),
        open().sealed(secret(1), [secret(2)]),
        open().sealed(secret(2), [secret(1)]),
        open().sealed(secret(2), []),
    ];
    for (old, new) in stages.iter().zip(&stages[1..]).take(2) {
        for (writer, reader) in [(old, new), (new, old)] {
            let read = reader.decode(&mine, &made(writer, &mine));
            // The second stage is everywhere before anybody is at the third.
            assert_eq!(read, Ok(entry(41, STAMP)));
        }
    }
    let last = stages[3].decode(&mine, &made(&stages[0], &mine));
    assert_eq!(last, Err(Unreadable::Forged), "it is over for the old one");
}

#[test]
fn a_secret_that_could_be_guessed_is_refused_and_none_is_shown() {
    let error = SealSecret::new(b"hunter2").unwrap_err();
    assert_eq!(
        (error.length, error.to_string().contains("hunter")),
        (7, false)
    );
    let shown = format!("{:?}", sealed(0x5a));
    assert!(!shown.contains("5a") && !shown.contains("90"), "{shown}");
}

#[tokio::test]
async fn what_somebody_else_put_into_the_store_is_loaded_instead_and_told() {
    let store = Arc::new(MemoryStore::new());
    let forged = Arc::new(std::sync::Mutex::new(0));
    let hears = Arc::clone(&forged);
    let cache = Cache::<u32>::builder("sealed", CachePolicy::default())
        .observer(move |event: &Event| {
            let is_it = matches!(
                event.kind,
                EventKind::Unreadable {
                    why: Unreadable::Forged,
                    ..
                }
            );
            *hears.lock().unwrap() += u32::from(is_it);
        })
        .second_level(SecondLevel::new(Arc::clone(&store), sealed(1)))
        .build();
    // Somebody who may write to the store knows all of this but the secret.
    let (space, at) = (key("6:sealed,"), key("6:sealed,price"));
    let watch = Watch {
        space: &space,
        tags: &[],
    };
    let stamp = store.marks(watch, soon()).await.unwrap().now;
    let plant = async |framing: Framing<u32>| {
        let bytes = framing.encode(&at, &entry(&1, stamp)).unwrap();
        let record = Record {
            bytes: &bytes,
            fresh: Duration::from_secs(60),
            life: Duration::from_secs(60),
        };
        let token = store.take_over(&at, soon()).await.unwrap();
        assert!(store.fill(&at, &token, record, soon()).await.unwrap());
    };
    plant(open()).await;
    let source = || async { Ok::<_, io::Error>(100) };
    assert_eq!(cache.get("price").await, None);
    assert_eq!(cache.get_or_load("price", source).await.unwrap(), 100);
    assert_eq!(*forged.lock().unwrap(), 2);
    // The same by who has the secret is believed.
    cache.invalidate("price").await;
    plant(sealed(1)).await;
    assert_eq!(cache.get_or_load("price", source).await.unwrap(), 1);
}
