//! Building the read model anew, from the first event that is kept, while new ones go on coming
//! and queries go on reading.
//!
//! Why nothing is lost. Pages of the history are read and applied while projectors are shut out.
//! An event that was committed before its page was read is on it. One that was committed later is
//! delivered later, and finds the new generation: the projector applies it there as well. If one
//! before it is missing there, that one comes by the other way, and the event is left to it: the
//! replay comes to whatever a projector passes over, and a projector to whatever the replay does.
//!
//! Why nothing is applied twice, or out of turn. Both ways lead through one inbox a generation, and
//! past the version of the order.

use buttress_outbox::{OutboxError, Topic};
use buttress_store::StoreError;

use crate::{
    database::Database,
    event::TOPIC,
    projection::{Applied, Generations, ProjectionError, apply},
};

/// So many events are one transaction, during which projectors wait.
const PAGE: u32 = 100;

/// Why the read model was not built anew. The old one is shown on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The events that are kept are too few: of these orders some are missing.
    #[error("events of {orders} orders are not kept any more; the old read model stays")]
    TooLittleKept {
        /// How many.
        orders: i64,
    },
    /// Somebody else has begun to build it anew.
    #[error("another rebuild has begun after this one")]
    Overtaken,
    /// An event cannot be read.
    #[error("an event cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// The database. It may be begun anew: what was half built is thrown away.
    #[error("the database")]
    Store(#[from] StoreError),
    /// The outbox. As with the database.
    #[error("the outbox")]
    Outbox(#[from] OutboxError),
}

impl From<ProjectionError> for RebuildError {
    fn from(error: ProjectionError) -> Self {
        match error {
            ProjectionError::Unreadable(error) => Self::Unreadable(error),
            ProjectionError::Store(error) => Self::Store(error),
            ProjectionError::Inbox(error) => Self::Outbox(error),
        }
    }
}

/// What a rebuild did.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Rebuilt {
    /// The generation that is shown from now on.
    pub generation: i64,
    /// Events of the history that were applied.
    pub replayed: usize,
    /// Events of the history that a projector had brought already.
    pub before: usize,
    /// Events of the history that were left to a projector, for one before them was to come.
    pub left: usize,
}

/// Builds the read model anew and shows it. Queries see the old one until then, and the new one,
/// with all that the old one had, from then on.
///
/// Dropping the future, or killing the process, leaves the old one shown; begin anew.
///
/// # Errors
///
/// [`RebuildError`]: the old one is shown on.
pub async fn rebuild(database: &Database) -> Result<Rebuilt, RebuildError> {
    let mut rebuilt = Rebuilt {
        generation: begin(database).await?,
        ..Rebuilt::default()
    };
    let mut after = 0;
    while let Some(last) = page(database, after, &mut rebuilt).await? {
        after = last;
    }
    clear(database, rebuilt.generation).await?;
    Ok(rebuilt)
}

/// From here on projectors apply events to the new generation too.
async fn begin(database: &Database) -> Result<i64, RebuildError> {
    let mut tx = database.begin().await?;
    tx.with_projectors_shut_out().await?;
    let generation = Generations::read(&mut tx).await?.last + 1;
    let update = "UPDATE view_control SET building = $1, last = $1";
    tx.run(update, &[generation.into()]).await?;
    tx.commit().await?;
    Ok(generation)
}

/// Applies one page, or shows the new generation when there is none. Returns where the next begins.
async fn page(
    database: &Database,
    after: i64,
    rebuilt: &mut Rebuilt,
) -> Result<Option<i64>, RebuildError> {
    let topic = Topic::new(TOPIC).map_err(OutboxError::from)?;
    let mut tx = database.begin().await?;
    tx.with_projectors_shut_out().await?;
    let generations = Generations::read(&mut tx).await?;
    if generations.building != Some(rebuilt.generation) {
        return Err(RebuildError::Overtaken);
    }
    // Read while projectors are shut out: who comes after this page finds what is on it applied.
    let page = database.outbox().history(&topic, after, PAGE).await?;
    for past in &page {
        match apply(&mut tx, database, rebuilt.generation, &past.message).await? {
            Applied::Now => rebuilt.replayed += 1,
            Applied::Before => rebuilt.before += 1,
            Applied::NotYet => rebuilt.left += 1,
        }
    }
    let last = page.last().map(|past| past.sequence);
    if last.is_none() {
        let behind = "SELECT count(*) FROM view_orders shown \
                      LEFT JOIN view_orders fresh ON fresh.generation = $2 AND fresh.id = shown.id \
                      WHERE shown.generation = $1 \
                        AND (fresh.version IS NULL OR fresh.version < shown.version)";
        let values = [generations.shown.into(), rebuilt.generation.into()];
        let behind: Vec<(i64,)> = tx.rows(behind, &values).await?;
        match behind.first() {
            Some((0,)) => {}
            Some(&(orders,)) => return Err(RebuildError::TooLittleKept { orders }),
            None => return Err(RebuildError::Overtaken),
        }
        let show = "UPDATE view_control SET shown = $1, building = NULL";
        tx.run(show, &[rebuilt.generation.into()]).await?;
    }
    tx.commit().await?;
    Ok(last)
}

/// Removes the generations before it: nobody reads them any more.
async fn clear(database: &Database, shown: i64) -> Result<(), StoreError> {
    let mut tx = database.begin().await?;
    for delete in [
        "DELETE FROM view_orders WHERE generation < $1",
        "DELETE FROM view_customers WHERE generation < $1",
    ] {
        tx.run(delete, &[shown.into()]).await?;
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buttress_outbox::Message;
    use buttress_testkit::{eventually, postgres};

    use super::*;
    use crate::{
        commands::Shop,
        event::{Change, OrderEvent},
        projector,
        queries::Queries,
    };

    /// An event whose place is on a page that was read before it was committed, and one behind it
    /// that is on a later page: both are left to the projector.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_committed_behind_the_replay_is_brought_by_the_projector_in_its_turn() {
        let Some(fresh) = postgres::fresh_database().await else {
            return;
        };
        let database = Database::connect(fresh.url()).await.unwrap();
        let (shop, queries) = (Shop::new(database.clone()), Queries::new(database.clone()));
        let late = OrderEvent {
            order: "late".into(),
            customer: "Ada".into(),
            version: 1,
            change: Change::Placed,
        };
        let mut tx = database.begin().await.unwrap();
        let insert = "INSERT INTO orders (id, customer, state, version) VALUES ($1, $2, 'open', 1)";
        let values = ["late".into(), "Ada".into()];
        tx.run(insert, &values).await.unwrap();
        let message = Message::builder(TOPIC, "/read-model", "order.placed").key("late");
        let message = message.json(&late).build().unwrap();
        let told = tx.append(database.outbox(), &message).await.unwrap();
        let early = shop.place("Grace").await.unwrap();
        shop.add(&early, 2, 500).await.unwrap();

        let generation = begin(&database).await.unwrap();
        let mut rebuilt = Rebuilt {
            generation,
            ..Rebuilt::default()
        };
        let after = page(&database, 0, &mut rebuilt).await.unwrap().unwrap();
        assert_eq!((rebuilt.replayed, rebuilt.left), (2, 0));
        tx.commit().await.unwrap();
        told.fire();
        shop.add("late", 3, 100).await.unwrap();
        let after = page(&database, after, &mut rebuilt).await.unwrap().unwrap();
        assert_eq!((rebuilt.replayed, rebuilt.left), (2, 1));
        shop.ship("late").await.unwrap();
        let stop = tokio::sync::Notify::new();
        let follow = projector::run(&database, stop.notified());
        let caught_up = async {
            let quiet = async || (queries.lag().await.unwrap().events == 0).then_some(());
            eventually("it has caught up", Duration::from_secs(60), quiet).await;
            let mut after = after;
            while let Some(last) = page(&database, after, &mut rebuilt).await.unwrap() {
                after = last;
            }
            stop.notify_one();
        };
        let (followed, ()) = tokio::join!(follow, caught_up);
        followed.unwrap();
        assert_eq!(
            rebuilt.before, 1,
            "the projector was first with the last one"
        );
        assert_eq!(queries.whole().await.unwrap().generation, generation);
        let counted = queries.counted().await.unwrap();
        assert_eq!(queries.customers().await.unwrap(), counted);
        assert_eq!(counted["Ada"].spent, 300);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_two_rebuilds_the_later_one_is_shown_and_the_earlier_one_hears_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let database = Database::connect(&url).await.unwrap();
        let first = Rebuilt {
            generation: begin(&database).await.unwrap(),
            ..Rebuilt::default()
        };
        let second = rebuild(&database).await.unwrap();
        let overtaken = page(&database, 0, &mut { first }).await;
        assert!(matches!(overtaken, Err(RebuildError::Overtaken)));
        let shown = Queries::new(database).whole().await.unwrap();
        assert_eq!(shown.generation, second.generation);
    }
}
