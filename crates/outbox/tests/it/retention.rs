//! What an inbox forgets by itself, and what it does not.

use std::time::Duration;

use buttress_outbox::{Inbox, OutboxError};
use buttress_testkit::eventually;

use crate::base;

const OLD: usize = 2500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_that_prunes_itself_forgets_what_is_old_and_nothing_else() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let old = "INSERT INTO buttress_inbox (consumer, message, taken_at)
         SELECT consumer, convert_to('old ' || n, 'UTF8'), 0
           FROM (VALUES ('mine'::bytea), ('other'::bytea)) AS c(consumer), generate_series(1, 2500) n";
    sqlx::raw_sql(old).execute(&base.pool).await.unwrap();
    let [mine, other] = ["mine", "other"].map(|it| Inbox::new(base.store.clone(), it).unwrap());
    let mut transaction = base.pool.begin().await.unwrap();
    let _taken = mine.take_in(&mut *transaction, "new").await.unwrap();
    transaction.commit().await.unwrap();
    let refused = mine.prune_until(Duration::from_secs(59), std::future::pending());
    assert!(matches!(refused.await, Err(OutboxError::Policy(_))));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let pruning = {
        let mine = mine.clone();
        let stopped = async move { drop(stopped.await) };
        tokio::spawn(async move { mine.prune_until(Inbox::KEPT, stopped).await })
    };
    let left = async |consumer: &str| {
        let count = "SELECT count(*) FROM buttress_inbox WHERE consumer = convert_to($1, 'UTF8')";
        let count = sqlx::query_scalar(count).bind(consumer.to_owned());
        let count: i64 = count.fetch_one(&base.pool).await.unwrap();
        usize::try_from(count).unwrap()
    };
    eventually(
        "the old are forgotten",
        Duration::from_secs(20),
        async || (left("mine").await == 1).then_some(()),
    )
    .await;
    assert!(mine.was_taken("new").await.unwrap());
    assert_eq!(left("other").await, OLD, "another consumer's are his");
    assert!(other.was_taken("old 1").await.unwrap());
    drop(stop);
    assert!(pruning.await.unwrap().is_ok());
}
