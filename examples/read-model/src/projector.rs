//! The side that follows: a relay hands it each event, and it applies it to the read model in a
//! transaction of its own, once.

use std::time::Duration;

use buttress_outbox::{
    Delivery, Inbox, OutboxError, PublishError, Relay, RelayPolicy, Retention, TopicPolicy,
    publisher::in_process,
};

use crate::{
    database::Database,
    event::TOPIC,
    projection::{Applied, Generations, ProjectionError, apply, inbox},
};

/// How far back a rebuild can go: for so long is an event kept after it was delivered. Orders whose
/// first event is older cannot be built anew.
const KEPT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// After a crash its lanes wait for so long. A service would have seconds more.
const LEASE: Duration = Duration::from_millis(500);
/// Who writes may be in another process, which wakes nobody here.
const POLL: Duration = Duration::from_millis(50);

/// Applies events until `shutdown` is ready. Any number may run, in any number of processes.
///
/// Dropping the future, or killing the process, stops it anywhere: what was not committed comes
/// again, and what was is not applied twice.
///
/// # Errors
///
/// The relay's policy cannot work, or the database is not there when it begins.
pub async fn run(
    database: &Database,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), OutboxError> {
    run_keeping(database, KEPT, shutdown).await
}

/// The same that keeps events for so long.
///
/// # Errors
///
/// As [`run`].
pub async fn run_keeping(
    database: &Database,
    kept: Duration,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), OutboxError> {
    let projected = database.clone();
    let projector = in_process(move |delivery| {
        let database = projected.clone();
        async move { take(&database, &delivery).await }
    });
    let relay = Relay::builder(database.outbox())
        .policy(RelayPolicy::new().with_lease(LEASE).with_poll(POLL))
        .topic_with(
            TOPIC,
            TopicPolicy::new().with_retention(Retention::Keep(kept)),
            projector,
        )
        .build()?;
    tokio::select! {
        () = relay.run_until(shutdown) => {}
        () = forget(database) => {}
    }
    Ok(())
}

/// Takes one delivery: applies its event, unless that was done before.
///
/// Dropping the future leaves it as it was, or applied; it comes again.
///
/// # Errors
///
/// What the relay does with it: it comes again, or is dead at once if it cannot be read.
pub async fn take(database: &Database, delivery: &Delivery) -> Result<(), PublishError> {
    match project(database, delivery).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(PublishError::refused("an event before it is missing")),
        Err(ProjectionError::Unreadable(_)) => {
            Err(PublishError::refused_for_good("it cannot be read"))
        }
        Err(error) => {
            tracing::warn!(%error, "not applied; it comes again");
            Err(PublishError::down("the read model's database"))
        }
    }
}

/// Applies an event to the generation that is shown, and to the one that is being built if it is
/// its turn there: otherwise the replay comes to it. False: it cannot be applied yet.
async fn project(database: &Database, delivery: &Delivery) -> Result<bool, ProjectionError> {
    let mut tx = database.begin().await?;
    tx.with_generations_fixed().await?;
    let generations = Generations::read(&mut tx).await?;
    let message = delivery.message();
    if apply(&mut tx, database, generations.shown, message).await? == Applied::NotYet {
        return Ok(false);
    }
    if let Some(building) = generations.building {
        apply(&mut tx, database, building, message).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Forgets, now and then, what inboxes need not know any more: of the generation that is shown what
/// is a week old, of those before it all.
async fn forget(database: &Database) {
    loop {
        // While the database is away, or busy, it waits for the next minute.
        if let Err(error) = forget_once(database).await {
            tracing::debug!(%error, "nothing was forgotten");
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

async fn forget_once(database: &Database) -> Result<(), ProjectionError> {
    let shown = {
        let mut tx = database.begin().await?;
        let shown = Generations::read(&mut tx).await?.shown;
        tx.commit().await?;
        shown
    };
    inbox(database, shown)?.prune(Inbox::KEPT, 1000).await?;
    for old in 1..shown {
        let minute = Duration::from_secs(60);
        inbox(database, old)?.prune(minute, 1000).await?;
    }
    Ok(())
}
