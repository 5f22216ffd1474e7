//! A projector that dies, anywhere.

use std::time::Duration;

use buttress_testkit::{seed::Seed, short_or_long};

use crate::place::Place;

async fn comes_to_what_the_commands_come_to(place: Place) {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut traffic = place.traffic();
    let mut projector = place.program("project").spawn();
    for _ in 0..short_or_long(5, 200) {
        let range = Duration::from_millis(20)..Duration::from_millis(300);
        let commands = async {
            for _ in 0..60 {
                traffic.command().await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::join!(projector.kill_within(range, &mut rng), commands);
        projector = place.program("project").spawn();
    }
    let view = place.caught_up().await;
    assert_eq!(view, *traffic.folded());
    assert_eq!(view, place.queries.counted().await.unwrap());
    assert_eq!(
        place.queries.whole().await.unwrap().events,
        i64::try_from(traffic.done()).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projector_that_is_killed_anywhere_loses_nothing_and_applies_nothing_twice_on_sqlite() {
    comes_to_what_the_commands_come_to(Place::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projector_that_is_killed_anywhere_loses_nothing_and_applies_nothing_twice_on_postgres() {
    let Some(place) = Place::on_postgres().await else {
        return;
    };
    comes_to_what_the_commands_come_to(place).await;
}
