//! Sagas that an earlier version of this crate left behind go on: their lines and their
//! definitions' shapes are what they were.

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    Entry, Saga, SagaId, Sagas, StartOptions, State,
    store::{Hand, MemoryStore, Store, Then, Write},
};

use crate::{
    stand,
    world::{Deed, Scripted, World},
};

/// As 0.1.0 made it of the definition below.
const SHAPE: [u8; 16] = [
    120, 174, 42, 16, 176, 201, 82, 218, 243, 31, 162, 154, 220, 109, 138, 186,
];

/// Lines as 0.1.0 wrote them: the second step failed once, and its worker died in the next attempt.
const FORWARD: [&str; 9] = [
    r#"{"started":{"step":0,"name":"a","attempt":1}}"#,
    r#"{"succeeded":{"step":0,"output":"\"a of 0\""}}"#,
    r#"{"sleeping":{"step":1,"name":"nap","until":1}}"#,
    r#"{"succeeded":{"step":1,"output":"null"}}"#,
    r#"{"started":{"step":2,"name":"b","attempt":1}}"#,
    r#"{"failed":{"step":2,"attempt":1,"kind":"unknown","code":"LOST"}}"#,
    r#"{"started":{"step":2,"name":"b","attempt":2}}"#,
    r#""interrupted""#,
    r#"{"started":{"step":2,"name":"b","attempt":2}}"#,
];

/// The same on its way back, whose first undo failed once.
const BACK: [&str; 4] = [
    r#"{"failed":{"step":2,"attempt":2,"kind":"final","code":"NO"}}"#,
    r#"{"turned_back":{"code":"NO"}}"#,
    r#"{"undo_started":{"step":2,"attempt":1}}"#,
    r#"{"undo_failed":{"step":2,"attempt":1,"kind":"not_done","code":"DOWN"}}"#,
];

fn saga(world: &World) -> Saga<u64> {
    let mut saga = Saga::define("kept", 1);
    let step = |name| Scripted {
        name,
        world: world.clone(),
    };
    saga.step("a", step("a"));
    saga.sleep("nap", Duration::from_secs(60));
    saga.step("b", step("b"));
    saga.pivot();
    saga.step("c", step("c"));
    saga.build().unwrap()
}

fn lines(texts: &[&str]) -> Vec<Entry> {
    let lines = texts.iter().map(|text| serde_json::from_str(text));
    lines.collect::<Result<_, _>>().unwrap()
}

async fn left_behind(store: &Arc<dyn Store>, saga: &Saga<u64>, back: bool) -> SagaId {
    let sagas = Sagas::shared(Arc::clone(store));
    let started = sagas.start(saga, &0, StartOptions::new()).await;
    let id = started.unwrap().id();
    let mut entries = lines(&FORWARD);
    if back {
        entries.extend(lines(&BACK));
    }
    let write = Write {
        expected: 0,
        entries,
        state: if back { State::Undoing } else { State::Running },
        reason: None,
        then: Then::Release(Duration::ZERO),
        progress: true,
        starts: Vec::new(),
        wakes: None,
    };
    assert!(store.append(id, Hand::Operator, &write).await.unwrap());
    id
}

async fn goes_on(store: Arc<dyn Store>) {
    let world = World::default();
    let saga = saga(&world);
    let forward = left_behind(&store, &saga, false).await;
    let sagas = Sagas::shared(Arc::clone(&store));
    let runner = sagas.runner().saga(&saga).build().unwrap();
    runner.run_once().await.unwrap();
    assert_eq!(sagas.get(forward).await.unwrap().state, State::Completed);
    assert_eq!(world.log(0), ["b", "c"].map(Deed::Run));
    let back = left_behind(&store, &saga, true).await;
    runner.run_once().await.unwrap();
    assert_eq!(sagas.get(back).await.unwrap().state, State::Undone);
    let undone: Vec<_> = world.log(0).split_off(2);
    assert!(
        matches!(undone[..], [Deed::Undo("b", _), Deed::Undo("a", _)]),
        "{undone:?}"
    );
}

#[tokio::test]
async fn a_saga_in_flight_from_before_goes_on() {
    let world = World::default();
    assert_eq!(saga(&world).key().shape, SHAPE);
    goes_on(Arc::new(MemoryStore::new())).await;
    goes_on(stand::sqlite().await.unwrap().store).await;
}

#[test]
fn lines_are_written_as_they_were() {
    for text in FORWARD.iter().chain(&BACK) {
        let line: Entry = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&line).unwrap(), *text);
    }
}
