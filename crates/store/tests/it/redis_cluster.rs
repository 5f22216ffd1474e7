//! Redis as a cluster: each record in one slot, whatever its key, and scripts on every node.

use std::{collections::HashSet, time::Duration};

use ::redis::{FromRedisValue, cluster::ClusterClient};
use buttress_store::{
    Deadline, Key, Phase, RedisConnection, RedisKeys, Script, StoreError, StoreErrorKind, Ttl,
};
use buttress_testkit::redis::{Cluster, StartError};

const KEYS: u16 = 500;
const SLOTS: u16 = 16_384;

/// Counts at a record and at a part of it.
const COUNT: &str = "
    local count = redis.call('INCR', KEYS[1])
    redis.call('INCR', KEYS[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
    redis.call('PEXPIRE', KEYS[2], ARGV[1])
    return count
";

/// Different keys of 3 to 255 bytes: braces, percent signs, NUL, spaces, ends of lines.
fn hostile() -> Vec<Vec<u8>> {
    let strange = b"{}\0 %7D}{\r\n:\xff{{".iter().copied();
    let keys: Vec<Vec<u8>> = (0..KEYS)
        .map(|number| {
            let start = usize::from(number);
            let length = [Key::LONGEST, 3, 4, 7, 20, 64][start % 6];
            let mut key: Vec<u8> = strange
                .clone()
                .cycle()
                .skip(start)
                .take(length - 2)
                .collect();
            key.extend(number.to_le_bytes());
            key.rotate_left(start / 6 % 3);
            key
        })
        .collect();
    let different: HashSet<&Vec<u8>> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
    keys
}

/// What is to stand between the braces.
fn tag(key: &[u8]) -> Vec<u8> {
    let mut tag = Vec::new();
    for byte in key {
        match byte {
            b'}' => tag.extend_from_slice(b"%7D"),
            b'%' => tag.extend_from_slice(b"%25"),
            byte => tag.push(*byte),
        }
    }
    tag
}

/// The slot of a tag, as the cluster specification has it: CRC16 (XMODEM) of all its bytes.
fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    crc % SLOTS
}

/// Says the same to each node by itself.
async fn everywhere<T: FromRedisValue>(cluster: &Cluster, words: &[&str]) -> Vec<T> {
    let mut answers = Vec::new();
    for url in cluster.urls() {
        let client = ::redis::Client::open(url).unwrap();
        let mut node = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = ::redis::Cmd::new();
        command.arg(words);
        answers.push(command.query_async(&mut node).await.unwrap());
    }
    answers
}

#[tokio::test]
async fn each_key_is_in_the_slot_of_its_tag_and_scripts_run_on_every_node() {
    assert_eq!(
        slot(b"123456789"),
        0x31c3 % SLOTS,
        "the specification's check"
    );
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(StartError::NotFound(_)) => return, // the other tests say so
        Err(error) => panic!("{error}"),
    };
    let client = ClusterClient::new(cluster.urls()).unwrap();
    let mut direct = client.get_async_connection().await.unwrap();
    let connection = RedisConnection::new(direct.clone());
    let keys = RedisKeys::new("buttress", "test").unwrap();
    let script = Script::new(COUNT);
    let count = async |on: [Vec<u8>; 2]| {
        let deadline = Deadline::after(Deadline::REDIS * 10);
        let ttl = Ttl::from(Duration::from_secs(60));
        let run = script.run::<i64>(&connection, &on, ttl);
        deadline.run(Phase::Statement, run).await
    };

    let (mut crossed, mut slots) = (0, HashSet::new());
    for round in 1..=3 {
        for bytes in hostile() {
            let key = Key::new(&bytes).unwrap();
            let both = [keys.of(&key), keys.part(&key, "part")];
            for whole in &both {
                let mut ask = ::redis::cmd("CLUSTER");
                ask.arg("KEYSLOT").arg(whole);
                let said: u16 = ask.query_async(&mut direct).await.unwrap();
                assert_eq!(said, slot(&tag(&bytes)), "{}", whole.escape_ascii());
                slots.insert(said);
            }
            match count(both).await {
                Ok(counted) => assert_eq!(counted, round, "once each time"),
                Err(error) if error.code() == Some("CROSSSLOT") => crossed += 1,
                Err(error) => panic!("{error}: {}", bytes.escape_ascii()),
            }
        }
        let _: Vec<()> = everywhere(&cluster, &["SCRIPT", "FLUSH"]).await;
    }
    let sizes: Vec<u16> = everywhere(&cluster, &["DBSIZE"]).await;
    println!(
        "{KEYS} hostile keys in {} slots of a cluster, three times each: {crossed} CROSSSLOT; \
         its nodes have {sizes:?} keys",
        slots.len()
    );
    assert_eq!(crossed, 0);
    assert_eq!(sizes.iter().sum::<u16>(), 2 * KEYS);
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");

    // And it would be seen: two records are not in one slot.
    let two = ["a", "b"].map(|key| keys.of(&Key::new(key).unwrap()));
    let error: StoreError = count(two).await.unwrap_err();
    assert_eq!(error.code(), Some("CROSSSLOT"), "{error}");
    assert_ne!(error.kind(), StoreErrorKind::Lost);
}
