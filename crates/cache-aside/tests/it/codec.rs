//! CA5: bytes that are not what they seem are missed, and never a wrong value.

use std::time::Duration;

use buttress_cache_aside::{
    codec::{Codec, Entry, Framing, Json, Postcard, Schema, Unreadable, Unwritable},
    store::Stamp,
};
use buttress_store::Key;
use buttress_testkit::{seed::Seed, tier::short_or_long};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    id: String,
    price: u64,
    parts: Vec<u32>,
}

fn key() -> Key {
    Key::new("products:1:p1").unwrap()
}

fn product(parts: u32) -> Product {
    Product {
        id: "p1".to_owned(),
        price: 1999,
        parts: (0..parts).collect(),
    }
}

fn entry<V>(value: Option<V>) -> Entry<V> {
    Entry {
        value,
        tags: vec![Key::new("shop:1").unwrap(), Key::new([0xff, 0]).unwrap()],
        etag: Some("\"7\"".to_owned()),
        stamp: Stamp {
            epoch: 12345,
            sequence: u64::MAX,
        },
        fresh: Duration::from_secs(60),
        revalidate: Duration::from_secs(5),
        error: Duration::from_secs(3600),
        took: Duration::from_millis(7),
        weight: 3,
    }
}

fn framing(codec: impl Codec<Product> + 'static) -> Framing<Product> {
    Framing::new(codec, Schema::new("Product", 1).unwrap()).compress_above(200)
}

fn with(framing: &Framing<Product>, product: &Product) -> Vec<u8> {
    framing.encode(&key(), &entry(Some(product))).unwrap()
}

#[test]
fn an_entry_comes_back_as_it_was() {
    for framing in [framing(Json::new()), framing(Postcard::new())] {
        for parts in [0, 3, 500] {
            let bytes = with(&framing, &product(parts));
            let back = framing.decode(&key(), &bytes).unwrap();
            assert_eq!(back, entry(Some(product(parts))));
        }
        let bytes = framing.encode(&key(), &entry(None)).unwrap();
        assert_eq!(framing.decode(&key(), &bytes).unwrap(), entry(None));
    }
}

#[test]
fn large_values_are_compressed_and_small_ones_are_not() {
    let plain = Framing::new(Json::new(), Schema::new("Product", 1).unwrap());
    let small = framing(Json::new());
    assert_eq!(with(&plain, &product(3)), with(&small, &product(3)));
    let (long, short) = (with(&plain, &product(500)), with(&small, &product(500)));
    assert!(
        short.len() < long.len(),
        "{} of {}",
        short.len(),
        long.len()
    );
    // Whether it is compressed is said in the entry, not in the settings of who reads it.
    assert!(plain.decode(&key(), &short).is_ok());
    assert!(small.decode(&key(), &long).is_ok());
}

#[test]
fn ca_27_what_is_too_large_is_not_stored() {
    let framing = framing(Json::new()).longest(100);
    let refused = framing.encode(&key(), &entry(Some(&product(500))));
    assert!(matches!(
        refused,
        Err(Unwritable::TooLarge { longest: 100, .. })
    ));
    let tags = vec![Key::new("t").unwrap(); 65];
    let many = Entry {
        tags,
        ..entry(None)
    };
    let refused = framing.encode(&key(), &many);
    assert!(matches!(refused, Err(Unwritable::TooManyTags { tags: 65 })));
}

#[test]
fn ca5_other_keys_versions_types_and_codecs_are_missed() {
    let tally = buttress_testkit::tally::suite("CA5");
    let framing_of =
        |name, version| Framing::<Product>::new(Json::new(), Schema::new(name, version).unwrap());
    let ours = framing_of("Product", 1);
    let bytes = with(&ours, &product(3));
    let other_tenant = Key::new("products:2:p1").unwrap();
    assert_eq!(ours.decode(&other_tenant, &bytes), Err(Unreadable::Damaged));
    for (name, version) in [("Product", 2), ("Produc", 1), ("", 1)] {
        let other = framing_of(name, version);
        assert_eq!(other.decode(&key(), &bytes), Err(Unreadable::Schema));
    }
    let other = framing(Postcard::new());
    assert_eq!(other.decode(&key(), &bytes), Err(Unreadable::Schema));
    let mut format = bytes.clone();
    format[4] = 2;
    assert_eq!(ours.decode(&key(), &format), Err(Unreadable::Format));
    for foreign in [&b""[..], b"BCA", b"{\"id\":\"p1\"}", &[0; 100]] {
        assert_eq!(ours.decode(&key(), foreign), Err(Unreadable::Foreign));
    }
    // The same schema, but not the same type: somebody forgot to count.
    let wrong = Framing::<Vec<String>>::new(Json::new(), Schema::new("Product", 1).unwrap());
    assert_eq!(wrong.decode(&key(), &bytes), Err(Unreadable::Value));
    tally.faults(11);
}

/// A compressed value that says it is `told` long, with a checksum that is right: its writer is malicious.
fn bomb(told: u32, whole: usize) -> Vec<u8> {
    let framing = framing(Json::new()).longest(1 << 20);
    let mut bytes = with(&framing, &product(500));
    let body = zstd::bulk::compress(&vec![b'0'; whole], 3).unwrap();
    bytes.truncate(bytes.len() - 8);
    let value = framing_body_start(&bytes);
    bytes.truncate(value - 4);
    bytes.extend_from_slice(&told.to_be_bytes());
    bytes.extend_from_slice(&body);
    let seed = xxhash_rust::xxh3::xxh3_64(&key());
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, seed);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

/// Where zstd's own magic number is.
fn framing_body_start(bytes: &[u8]) -> usize {
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    bytes.windows(4).position(|it| it == magic).unwrap()
}

#[test]
fn ca5_a_compression_bomb_is_missed_and_costs_no_memory() {
    let tally = buttress_testkit::tally::suite("CA5");
    let framing = framing(Json::new()).longest(1 << 20);
    // A gigabyte that says it is one, that says it is small, and that says it is as large as allowed.
    for (told, error) in [
        (1 << 30, Unreadable::TooLarge),
        (100, Unreadable::Damaged),
        (1 << 20, Unreadable::Damaged),
    ] {
        let bytes = bomb(told, 64 << 20);
        assert!(bytes.len() < 10_000);
        assert_eq!(framing.decode(&key(), &bytes), Err(error), "{told}");
    }
    // Shorter than it says.
    assert_eq!(
        framing.decode(&key(), &bomb(2000, 1000)),
        Err(Unreadable::Damaged)
    );
    tally.faults(4);
}

#[test]
fn ca5_flipped_cut_and_lengthened_bytes_are_missed() {
    let tally = buttress_testkit::tally::suite("CA5");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let framings = [framing(Json::new()), framing(Postcard::new())];
    let whole: Vec<(usize, Vec<u8>)> = [0, 3, 500]
        .into_iter()
        .flat_map(|parts| {
            let framings = framings.iter().enumerate();
            framings.map(move |(at, framing)| (at, with(framing, &product(parts))))
        })
        .collect();
    for _ in 0..short_or_long(100_000, 1_000_000) {
        let (at, bytes) = &whole[rng.random_range(0..whole.len())];
        let mut bytes = bytes.clone();
        match rng.random_range(0..4_u8) {
            0 => bytes.truncate(rng.random_range(0..bytes.len())),
            1 => bytes.push(rng.random()),
            2 => {
                let start = rng.random_range(0..bytes.len());
                bytes.remove(start);
            }
            _ => {
                for _ in 0..rng.random_range(1..4_u8) {
                    let place = rng.random_range(0..bytes.len());
                    bytes[place] ^= rng.random_range(1..=255_u8);
                }
            }
        }
        let changed = !whole.iter().any(|(_, it)| *it == bytes);
        let read = framings[*at].decode(&key(), &bytes);
        assert!(read.is_err() || !changed, "a wrong value was read");
    }
    tally.faults(short_or_long(100_000, 1_000_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The frame is right, and what it holds is anybody's: a codec's own bounds hold.
    #[test]
    fn ca5_bytes_that_were_never_an_entry_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        start in 0..2_usize,
    ) {
        let bytes = [&b"BCAE\x01"[..5 * start], &bytes].concat();
        prop_assert!(framing(Postcard::new()).decode(&key(), &bytes).is_err());
        let _value: Result<Product, _> = Postcard::new().decode(&bytes);
        let _value: Result<Product, _> = Json::new().decode(&bytes);
    }
}

#[test]
fn nothing_of_a_value_is_shown() {
    let error = Codec::<Product>::decode(&Json::new(), b"{\"id\": 4111111111111111}").unwrap_err();
    assert!(!format!("{error:?} {error}").contains("4111"));
}
