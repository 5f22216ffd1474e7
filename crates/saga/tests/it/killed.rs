//! Processes that drive sagas are killed and stopped: money is conserved, and no saga is lost.

use std::time::Duration;

use buttress_saga::{SagaError, SagaId, Sagas, StartOptions, State};
use buttress_testkit::{
    child::{Child, role},
    mysql, postgres,
    seed::Seed,
    short_or_long,
};
use rand::RngExt as _;

use crate::bank::{self, ACCOUNTS, BALANCE, How, Transfer};

const URL: &str = "BUTTRESS_TEST_SAGA_URL";
const HOW: &str = "BUTTRESS_TEST_SAGA_HOW";

#[tokio::test]
async fn worker_role() {
    let Some(role) = role("saga-worker") else {
        return;
    };
    let url = std::env::var(URL).unwrap();
    let how = How::of(&std::env::var(HOW).unwrap());
    role.announce("begun", "");
    if url.starts_with("postgres:") {
        bank::postgres::work(&url, how).await;
    } else if url.starts_with("mysql:") {
        bank::mysql::work(&url, how).await;
    } else {
        bank::sqlite::work(&url, how).await;
    }
}

fn worker(url: &str, how: How) -> Child {
    let spawn = Child::role("saga-worker", "killed::worker_role");
    let spawn = spawn.environment(URL, url);
    spawn.environment(HOW, how.word()).spawn()
}

/// Kills workers at random times while they work; one of them is stopped for longer than its lease
/// now and then, and wakes as a zombie.
async fn torment(url: &str, how: How, kills: u32, seed: &Seed) {
    let mut rng = seed.rng();
    let mut workers: Vec<Child> = (0..3).map(|_| worker(url, how)).collect();
    for worker in &mut workers {
        worker.until("begun").await;
    }
    for kill in 0..kills {
        let victim = rng.random_range(0..workers.len());
        if kill % 10 == 9 {
            workers[victim].stop();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            workers[victim].resume();
            continue;
        }
        let range = Duration::from_millis(20)..Duration::from_millis(250);
        workers[victim].kill_within(range, &mut rng).await;
        workers[victim] = worker(url, how);
        workers[victim].until("begun").await;
    }
}

/// Gives the word that a transfer waits for, and says whether it is new. On a busy database it may
/// have to be sent again.
async fn agree(sagas: &Sagas, id: SagaId, number: u64) -> bool {
    let mut tries = 0;
    loop {
        match sagas
            .signal(id, "agreed", number.to_be_bytes(), &number)
            .await
        {
            Err(SagaError::Store(_)) if tries < 20 => tries += 1,
            sent => return sent.unwrap(),
        }
    }
}

/// How many have not come to rest.
async fn active(sagas: &Sagas) -> usize {
    let census = sagas.census().await.unwrap();
    let active = census.iter().filter(|line| line.state.is_active());
    let active: u64 = active.map(|line| line.count).sum();
    usize::try_from(active).unwrap()
}

macro_rules! kill {
    ($claim:ident, $bank:ident, $how:expr, $open:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $claim() {
            let tally = buttress_testkit::tally::suite("SG5 X5");
            let Some((url, _guard)) = $open.await else {
                return;
            };
            let (balances, expected) = tormented::$bank(&url, $how).await;
            assert_eq!(
                balances, expected,
                "money is where it should be, to the last coin"
            );
            tally.operations(short_or_long(300, 30_000));
        }
    };
}

/// Transfers under torment: the balances, and what they should be.
macro_rules! tormented {
    ($bank:ident) => {
        pub(super) async fn $bank(url: &str, how: How) -> (Vec<i64>, Vec<i64>) {
            let seed = Seed::new();
            let bank = bank::$bank::Bank::open(url).await;
            bank.create().await;
            let saga = bank::$bank::kinds(&bank, how).swap_remove(0);
            let sagas = Sagas::new(bank.store());
            let (count, kills) = match how {
                How::Apart => (120, 12), // The bug is found long before.
                How::Family => (short_or_long(120, 12_000), short_or_long(15, 1_500)),
                How::One => (short_or_long(300, 30_000), short_or_long(30, 3_000)),
            };
            let starter = async {
                let mut ids = Vec::new();
                for number in 0..count {
                    let transfer = Transfer::new(number);
                    // Every second is started in a transaction with rows of ours, and of those
                    // every fourth is rolled back: it must never run.
                    let mut transaction = bank.pool.begin().await.unwrap();
                    let options = StartOptions::new();
                    let started = sagas.start_in(&mut *transaction, &saga, &transfer, options);
                    let (started, wake) = started.await.unwrap();
                    let (id, key) = (started.id(), number.to_be_bytes());
                    if number % 2 == 0 {
                        // It is agreed with the start, or later: often once it waits.
                        let agreed = sagas.signal_in(&mut *transaction, id, "agreed", key, &number);
                        assert!(agreed.await.unwrap().0);
                    }
                    if number % 4 == 3 {
                        transaction.rollback().await.unwrap();
                        continue;
                    }
                    transaction.commit().await.unwrap();
                    wake.fire();
                    ids.push((transfer, id));
                    if let Some((earlier, id)) = ids.iter().rev().nth(2) {
                        let new = agree(&sagas, *id, earlier.number).await;
                        let known = earlier.number % 2 == 0;
                        // Whoever was agreed to before may have ended by now, and that is known.
                        assert!(!(known && new), "twice is once");
                    }
                    if number % 16 == 0 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                for (transfer, id) in &ids {
                    agree(&sagas, *id, transfer.number).await;
                }
                ids
            };
            let (ids, ()) = tokio::join!(starter, torment(url, how, kills, &seed));
            let mut workers = [worker(url, how), worker(url, how)];
            let mut expected: Vec<i64> = vec![BALANCE; usize::try_from(ACCOUNTS).unwrap()];
            let (mut left, mut looks) = (usize::MAX, 0);
            for (transfer, id) in &ids {
                let mut rest = sagas.get(*id).await.unwrap();
                while rest.state.is_active() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    rest = sagas.get(*id).await.unwrap();
                    looks += 1;
                    if looks % 100 == 0 {
                        // However many are left, within a minute there must be fewer.
                        let active = active(&sagas).await;
                        if active < left {
                            (left, looks) = (active, 0);
                        }
                    }
                    assert!(looks < 1200, "nothing moves, {left} are left: {rest:?}");
                }
                let mut ends = Vec::new();
                for child in sagas.children(*id).await.unwrap() {
                    ends.push(child.state);
                }
                let children = match (how, rest.state) {
                    (How::Family, State::Completed) => vec![State::Completed; 2],
                    (How::Family, State::Undone) => vec![State::Undone],
                    _ => vec![],
                };
                assert_eq!(ends, children, "they end alike: {rest:?}");
                if transfer.is_refused() {
                    assert_eq!(rest.state, State::Undone, "{transfer:?}");
                } else {
                    assert_eq!(rest.state, State::Completed, "{transfer:?} {rest:?}");
                    expected[usize::try_from(transfer.from).unwrap()] -= transfer.amount;
                    expected[usize::try_from(transfer.to).unwrap()] += transfer.amount;
                }
            }
            for worker in &mut workers {
                worker.kill();
            }
            let balances: Vec<i64> = bank.balances().await.iter().map(|it| it.1).collect();
            bank.pool.close().await;
            (balances, expected)
        }
    };
}

mod tormented {
    use super::*;

    tormented!(postgres);
    tormented!(mysql);
    tormented!(sqlite);
}

kill!(
    killed_and_stopped_processes_lose_no_saga_and_no_money_on_postgres,
    postgres,
    How::One,
    async {
        let database = postgres::fresh_database().await?;
        Some((database.url().to_owned(), database))
    }
);

kill!(
    killed_and_stopped_processes_lose_no_saga_and_no_money_on_mysql,
    mysql,
    How::One,
    async {
        let database = mysql::fresh_database().await?;
        Some((database.url().to_owned(), database))
    }
);

kill!(
    killed_and_stopped_processes_lose_no_saga_and_no_money_on_sqlite,
    sqlite,
    How::One,
    async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bank.db");
        Some((format!("sqlite:{}", file.display()), folder))
    }
);

kill!(
    killed_processes_leave_no_child_behind_and_lose_no_money_on_postgres,
    postgres,
    How::Family,
    async {
        let database = postgres::fresh_database().await?;
        Some((database.url().to_owned(), database))
    }
);

kill!(
    killed_processes_leave_no_child_behind_and_lose_no_money_on_mysql,
    mysql,
    How::Family,
    async {
        let database = mysql::fresh_database().await?;
        Some((database.url().to_owned(), database))
    }
);

kill!(
    killed_processes_leave_no_child_behind_and_lose_no_money_on_sqlite,
    sqlite,
    How::Family,
    async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bank.db");
        Some((format!("sqlite:{}", file.display()), folder))
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_planted_withdrawal_beside_its_journal_is_found_to_cost_money() {
    let tally = buttress_testkit::tally::suite("SG5");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("bank.db").display());
    let (balances, expected) = tormented::sqlite(&url, How::Apart).await;
    let lost: i64 = expected
        .iter()
        .zip(&balances)
        .map(|(it, found)| it - found)
        .sum();
    println!("committed beside the journal: {lost} of the money was taken twice");
    assert!(lost > 0, "the count of money would not notice");
    tally.caught(1);
}
