//! Branches that complete themselves in transactions of their own.

use std::{sync::Arc, time::Duration};

use buttress_saga::{Context, Effect, Saga, Sagas, State, Step, StepError, UndoContext};

use crate::{
    forks::{start, step},
    stand,
    world::World,
};

/// Adds one to its own counter, together with the end of the step.
struct Count<P> {
    pool: P,
    place: i64,
}

macro_rules! counts {
    ($pool:ty, $add:literal) => {
        impl Step for Count<$pool> {
            type Input = u64;
            type Output = i64;

            async fn run(&self, context: &Context<'_, u64>) -> Result<i64, StepError> {
                let failed = |error| StepError::unknown("SQL").because(error);
                let mut tx = self.pool.begin().await.map_err(failed)?;
                let add = sqlx::query($add).bind(self.place);
                add.execute(&mut *tx).await.map_err(failed)?;
                context.complete_in(&mut *tx, &self.place).await?;
                tx.commit().await.map_err(failed)?;
                Ok(self.place)
            }

            async fn undo(
                &self,
                _: &UndoContext<'_, u64>,
                _: Effect<i64>,
            ) -> Result<(), StepError> {
                Ok(())
            }
        }
    };
}

counts!(
    sqlx::PgPool,
    "UPDATE counters SET count = count + 1 WHERE place = $1"
);
counts!(
    sqlx::MySqlPool,
    "UPDATE counters SET count = count + 1 WHERE place = ?"
);

/// Several branches complete themselves in transactions of their own at the same time: each once,
/// and none is refused for another's sake.
macro_rules! completes {
    ($stand:expr) => {{
        let (pool, store) = ($stand.pool.clone(), Arc::clone(&$stand.store));
        for sql in [
            "CREATE TABLE counters (place BIGINT PRIMARY KEY, count BIGINT NOT NULL)",
            "INSERT INTO counters VALUES (0, 0), (1, 0), (2, 0), (3, 0)",
        ] {
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
        let world = World::default();
        let mut saga = Saga::define("counts", 1);
        saga.fork(|fork| {
            for (place, name) in (0..).zip(["a", "b", "c", "d"]) {
                let count = Count {
                    pool: pool.clone(),
                    place,
                };
                fork.branch(|branch| branch.step(name, count));
            }
            // And one whose end the drive writes.
            fork.branch(|branch| {
                branch.step("e", step(&world, "e"));
                branch.step("f", step(&world, "f"));
            });
        });
        let saga = saga.build().unwrap();
        let sagas = Sagas::shared(store);
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(start(&sagas, &saga).await);
        }
        let runner = sagas.runner().saga(&saga).build().unwrap();
        let ended = async {
            for id in &ids {
                // The steps may have all connections for a while.
                while !matches!(sagas.get(*id).await, Ok(it) if !it.state.is_active()) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = runner.run_until(std::future::pending()) => {}
        }
        for id in &ids {
            let history = sagas.history(&saga, *id).await.unwrap();
            assert_eq!(history.saga.state, State::Completed, "{history:#?}");
            for step in &history.steps {
                assert_eq!((step.attempts, &step.code), (1, &None), "{history:#?}");
            }
        }
        let counts = sqlx::query_as("SELECT count FROM counters ORDER BY place");
        let counts: Vec<(i64,)> = counts.fetch_all(&pool).await.unwrap();
        assert_eq!(counts, [(5,); 4], "each is there once");
    }};
}

#[tokio::test]
async fn branches_that_complete_themselves_at_the_same_time_do_so_once_each() {
    if let Some(stand) = stand::postgres().await.unwrap() {
        completes!(stand);
        stand.close().await.unwrap();
    }
    if let Some(stand) = stand::mysql().await.unwrap() {
        completes!(stand);
        stand.close().await.unwrap();
    }
}
