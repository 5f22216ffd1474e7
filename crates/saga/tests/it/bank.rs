//! A bank on the database of the sagas: money that is withdrawn exactly once, and deposited at least
//! once under a key.

use std::{sync::Arc, time::Duration};

use buttress_retry_backoff::Backoff;
use buttress_saga::{
    Context, Effect, Output, RunnerBuilder, RunnerPolicy, Saga, Sagas, Step, StepError, StepPolicy,
    UndoContext,
    store::{MySqlStore, PostgresStore, SqliteStore, Store},
};
use buttress_store::LeaseTerms;
use serde::{Deserialize, Serialize};

pub(crate) const ACCOUNTS: i64 = 8;
pub(crate) const BALANCE: i64 = 1_000_000;

/// Money from one account to another.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) number: u64,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) amount: i64,
}

impl Transfer {
    pub(crate) fn new(number: u64) -> Self {
        let place = i64::try_from(number).unwrap();
        Self {
            number,
            from: place % ACCOUNTS,
            to: (place * 3 + 1) % ACCOUNTS,
            amount: 1 + place % 97,
        }
    }

    /// Every fifth is refused, after the money was taken.
    pub(crate) const fn is_refused(self) -> bool {
        self.number.is_multiple_of(5)
    }
}

/// What is tormented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A transfer is one saga.
    One,
    /// The planted bug: the money is taken in a transaction of its own, and the journal hears of it
    /// later.
    Apart,
    /// A transfer has a child that takes the money, and one that brings it.
    Family,
}

impl How {
    const ALL: [(Self, &'static str); 3] = [
        (Self::One, "one"),
        (Self::Apart, "apart"),
        (Self::Family, "family"),
    ];

    pub(crate) fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|it| it.0 == self).unwrap().1
    }

    pub(crate) fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|it| it.1 == word).unwrap().0
    }
}

/// Tries again soon, and often.
fn policy() -> StepPolicy {
    let backoff = Backoff::constant(Duration::from_millis(20));
    StepPolicy::default()
        .attempts(50)
        .backoff(backoff.clone())
        .undo_backoff(backoff)
        .timeout(Duration::from_secs(5))
}

/// Refuses some, and does not answer some at first.
struct Check;

impl Step for Check {
    type Input = Transfer;
    type Output = ();

    async fn run(&self, context: &Context<'_, Transfer>) -> Result<(), StepError> {
        let transfer = *context.input();
        if transfer.number.is_multiple_of(7) && context.attempt() == 1 {
            return Err(StepError::unknown("NO_ANSWER"));
        }
        tokio::time::sleep(Duration::from_millis(transfer.number % 20)).await;
        if transfer.is_refused() {
            return Err(StepError::refused("REFUSED"));
        }
        Ok(())
    }
}

/// What works on each database, by its own SQL.
macro_rules! bank {
    ($name:ident, $pool:ty, $store:ty, $connect:expr, $add:literal, $mark:literal) => {
        pub(crate) mod $name {
            use super::*;

            #[derive(Clone)]
            pub(crate) struct Bank {
                pub(crate) pool: $pool,
            }

            impl Bank {
                pub(crate) async fn open(url: &str) -> Self {
                    let connect = $connect;
                    Self {
                        pool: connect(url.to_owned()).await,
                    }
                }

                pub(crate) fn store(&self) -> $store {
                    <$store>::new(self.pool.clone()).unwrap()
                }

                pub(crate) async fn create(&self) {
                    for sql in [
                        "CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)",
                        "CREATE TABLE marks (mark VARCHAR(120) PRIMARY KEY)",
                    ] {
                        sqlx::query(sql).execute(&self.pool).await.unwrap();
                    }
                    for _ in 0..ACCOUNTS {
                        let open = "INSERT INTO accounts SELECT COUNT(*), 1000000 FROM accounts";
                        sqlx::query(open).execute(&self.pool).await.unwrap();
                    }
                    self.store().migrate().await.unwrap();
                }

                pub(crate) async fn balances(&self) -> Vec<(i64, i64)> {
                    let all = sqlx::query_as("SELECT id, balance FROM accounts ORDER BY id");
                    all.fetch_all(&self.pool).await.unwrap()
                }

                /// Adds to an account, once for each mark.
                async fn add_once(
                    &self,
                    mark: String,
                    account: i64,
                    amount: i64,
                ) -> Result<(), StepError> {
                    let failed = |error| StepError::unknown("SQL").because(error);
                    let mut transaction = self.pool.begin().await.map_err(failed)?;
                    let marked = sqlx::query($mark).bind(mark);
                    let marked = marked.execute(&mut *transaction).await.map_err(failed)?;
                    if marked.rows_affected() > 0 {
                        let add = sqlx::query($add).bind(amount).bind(account);
                        add.execute(&mut *transaction).await.map_err(failed)?;
                    }
                    transaction.commit().await.map_err(failed)
                }
            }

            struct Withdraw {
                bank: Bank,
                /// The planted bug: the money is taken in a transaction of its own, and the journal
                /// hears of it later.
                apart: bool,
            }

            impl Step for Withdraw {
                type Input = Transfer;
                type Output = i64;

                async fn run(&self, context: &Context<'_, Transfer>) -> Result<i64, StepError> {
                    let transfer = *context.input();
                    let failed = |error| StepError::unknown("SQL").because(error);
                    let mut transaction = self.bank.pool.begin().await.map_err(failed)?;
                    // No mark: the fence alone keeps it to once.
                    let take = sqlx::query($add).bind(-transfer.amount).bind(transfer.from);
                    take.execute(&mut *transaction).await.map_err(failed)?;
                    if self.apart {
                        transaction.commit().await.map_err(failed)?;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        return Ok(transfer.amount);
                    }
                    context
                        .complete_in(&mut *transaction, &transfer.amount)
                        .await?;
                    transaction.commit().await.map_err(failed)?;
                    Ok(transfer.amount)
                }

                async fn undo(
                    &self,
                    context: &UndoContext<'_, Transfer>,
                    effect: Effect<i64>,
                ) -> Result<(), StepError> {
                    let Effect::Done(amount) = effect else {
                        return Ok(()); // It is done with its journal, or not at all.
                    };
                    let failed = |error| StepError::unknown("SQL").because(error);
                    let mut transaction = self.bank.pool.begin().await.map_err(failed)?;
                    let give = sqlx::query($add).bind(amount).bind(context.input().from);
                    give.execute(&mut *transaction).await.map_err(failed)?;
                    context.complete_in(&mut *transaction).await?;
                    transaction.commit().await.map_err(failed)
                }
            }

            struct Deposit(Bank);

            impl Step for Deposit {
                type Input = Transfer;
                type Output = ();

                async fn run(&self, context: &Context<'_, Transfer>) -> Result<(), StepError> {
                    let Transfer { to, amount, .. } = *context.input();
                    self.0.add_once(context.idempotency_key(), to, amount).await
                }
            }

            pub(crate) fn transfer(bank: &Bank, apart: bool) -> Saga<Transfer> {
                let mut saga = Saga::define("transfer", 1);
                let withdraw = Withdraw {
                    bank: bank.clone(),
                    apart,
                };
                saga.step_with("withdraw", withdraw, policy());
                let _: Output<u64> = saga.wait_or_turn_back("agreed", Duration::from_secs(600));
                saga.step_with("check", Check, policy());
                saga.pivot();
                saga.step_with("deposit", Deposit(bank.clone()), policy());
                saga.build().unwrap()
            }

            /// The same in a saga with two children. The first has ended long before its parent is
            /// refused, and has to be undone then.
            pub(crate) fn family(bank: &Bank) -> [Saga<Transfer>; 3] {
                let mut take = Saga::define("take", 1);
                let withdraw = Withdraw {
                    bank: bank.clone(),
                    apart: false,
                };
                take.step_with("withdraw", withdraw, policy());
                let take = take.build().unwrap();
                let mut bring = Saga::define("bring", 1);
                bring.step_with("deposit", Deposit(bank.clone()), policy());
                let bring = bring.build().unwrap();
                let mut saga = Saga::define("order", 1);
                saga.child("take", &take, |it| Ok(*it.input()));
                let _: Output<u64> = saga.wait_or_turn_back("agreed", Duration::from_secs(600));
                saga.step_with("check", Check, policy());
                saga.pivot();
                saga.child("bring", &bring, |it| Ok(*it.input()));
                [saga.build().unwrap(), take, bring]
            }

            /// What is driven; the parent is first.
            pub(crate) fn kinds(bank: &Bank, how: How) -> Vec<Saga<Transfer>> {
                match how {
                    How::Family => family(bank).to_vec(),
                    one => vec![transfer(bank, one == How::Apart)],
                }
            }

            /// A process that drives transfers until it is killed.
            pub(crate) async fn work(url: &str, how: How) {
                let bank = Bank::open(url).await;
                let kinds = kinds(&bank, how);
                let store: Arc<dyn Store> = Arc::new(bank.store());
                let lease = LeaseTerms::new(Duration::from_millis(600)).unwrap();
                let policy = RunnerPolicy::default()
                    .lease(lease.with_ceiling(1000).unwrap())
                    .concurrency(8)
                    .poll(Duration::from_millis(30))
                    .lone_lapses(1000);
                let runner = Sagas::shared(store).runner().policy(policy);
                let runner = kinds.iter().fold(runner, RunnerBuilder::saga);
                let runner = runner.build().unwrap();
                runner.run_until(std::future::pending()).await;
            }
        }
    };
}

bank!(
    postgres,
    sqlx::PgPool,
    PostgresStore,
    async |url: String| {
        let options = buttress_store::Harden::harden(sqlx::postgres::PgPoolOptions::new());
        options.connect(&url).await.unwrap()
    },
    "UPDATE accounts SET balance = balance + $1 WHERE id = $2",
    "INSERT INTO marks (mark) VALUES ($1) ON CONFLICT DO NOTHING"
);

bank!(
    mysql,
    sqlx::MySqlPool,
    MySqlStore,
    async |url: String| {
        let options = buttress_store::Harden::harden(sqlx::mysql::MySqlPoolOptions::new());
        options.connect(&url).await.unwrap()
    },
    "UPDATE accounts SET balance = balance + ? WHERE id = ?",
    "INSERT IGNORE INTO marks (mark) VALUES (?)"
);

bank!(
    sqlite,
    sqlx::SqlitePool,
    SqliteStore,
    async |url: String| {
        buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
        let file = url.trim_start_matches("sqlite:");
        sqlx::SqlitePool::connect_lazy_with(buttress_store::sqlite::options(file))
    },
    "UPDATE accounts SET balance = balance + ? WHERE id = ?",
    "INSERT INTO marks (mark) VALUES (?) ON CONFLICT DO NOTHING"
);
