//! An entry of the second level, of any bytes, or of ours with some of them changed: never a panic,
//! no more memory than an entry may have, and never another value.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use buttress_cache_aside::{
    codec::{Entry, Framing, Json, Postcard, Schema},
    store::Stamp,
};
use buttress_store::Key;
use libfuzzer_sys::fuzz_target;

type Value = (String, u64, Vec<u32>);

static KEY: LazyLock<Key> = LazyLock::new(|| Key::new("products:1:p1").unwrap());
static FRAMINGS: LazyLock<[Framing<Value>; 2]> = LazyLock::new(|| {
    let schema = || Schema::new("Product", 1).unwrap();
    let framings = [
        Framing::new(Json::new(), schema()),
        Framing::new(Postcard::new(), schema()),
    ];
    framings.map(|framing| framing.longest(1 << 16).compress_above(200))
});
static OURS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let value: Value = ("p1".to_owned(), 1999, (0..200).collect());
    let entry = Entry {
        value: Some(&value),
        tags: vec![Key::new("shop:1").unwrap()],
        etag: Some("\"7\"".to_owned()),
        stamp: Stamp {
            epoch: 7,
            sequence: 8,
        },
        fresh: Duration::from_secs(60),
        revalidate: Duration::from_secs(5),
        error: Duration::from_secs(3600),
        took: Duration::from_millis(7),
        weight: 3,
    };
    FRAMINGS
        .each_ref()
        .map(|framing| framing.encode(&KEY, &entry).unwrap())
});

fuzz_target!(|input: &[u8]| {
    for (framing, ours) in FRAMINGS.iter().zip(OURS.iter()) {
        // What has our checksum by chance is not what is looked for here.
        let _ = framing.decode(&KEY, input);
        let mut changed = ours.clone();
        for pair in input.chunks_exact(3).take(8) {
            let at = usize::from(u16::from_be_bytes([pair[0], pair[1]])) % changed.len();
            changed[at] ^= pair[2];
        }
        let read = framing.decode(&KEY, &changed);
        assert!(read.is_err() || changed == *ours, "a wrong value was read");
        let cut = &ours[..input.len().min(ours.len() - 1)];
        assert!(framing.decode(&KEY, cut).is_err());
        let longer = [ours, input].concat();
        assert_eq!(framing.decode(&KEY, &longer).is_ok(), input.is_empty());
    }
});
