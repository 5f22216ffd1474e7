//! Hints between processes: LISTEN and NOTIFY.
//!
//! A NOTIFY in a business transaction would make all committers that have one take turns: its
//! commit holds a lock of the whole server. So it is a transaction by itself, which waits for no
//! disk while it holds that lock, and a process sends few of them.

use std::{convert::Infallible, time::Duration};

use buttress_store::{Deadline, Phase, StoreError, Tables};
use sqlx::{PgPool, Postgres, pool::PoolOptions, postgres::PgListener};
use tokio::time::timeout;

use super::PostgresStore;
use crate::store::Heard;

/// After so long a silence the connection is asked whether it is still one: a cut that nobody
/// told of is silent too.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// What a hint is called. The prefix is checked, and short enough to be cut off nowhere. Tables of
/// that prefix in another schema have the same one: their relays look once in vain.
pub(super) fn channel(tables: &Tables) -> String {
    format!("{}outbox", tables.prefix())
}

impl PostgresStore {
    pub(super) async fn notify_now(&self, sender: &str) -> Result<(), StoreError> {
        let notify = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
        let notify = sqlx::query(notify).bind(&self.channel).bind(sender);
        self.execute(notify).await.map(drop)
    }

    /// It has a connection of its own: one that is held for ever would be missing in the pool.
    pub(super) async fn listen_now(
        &self,
        heard: &(dyn Fn(Heard) + Sync),
    ) -> Result<Infallible, StoreError> {
        let pool = alone(&self.pool);
        let deadline = Deadline::after(Deadline::SQL);
        let listener = PgListener::connect_with(&pool);
        let mut listener = deadline.run(Phase::Connect, listener).await?;
        listener.eager_reconnect(false);
        let listen = listener.listen(&self.channel);
        deadline.run(Phase::Read, listen).await?;
        // What was said before is not heard.
        heard(Heard::Listening);
        loop {
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(hint))) => heard(Heard::From(hint.payload().to_owned())),
                Ok(Ok(None)) => {
                    let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
                    return Err(StoreError::of_sqlx(lost, Phase::Read));
                }
                Ok(Err(error)) => return Err(StoreError::of_sqlx(error, Phase::Read)),
                Err(_) => {
                    let deadline = Deadline::after(Deadline::SQL);
                    let asked = sqlx::query("SELECT 1").execute(&mut listener);
                    deadline.run(Phase::Read, asked).await?;
                }
            }
        }
    }
}

/// A pool of one, for that is what a listener is made from.
fn alone(pool: &PgPool) -> PgPool {
    PoolOptions::<Postgres>::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with((*pool.connect_options()).clone())
}

#[cfg(test)]
mod tests {
    use buttress_testkit::{
        postgres,
        proxy::{Proxy, Way},
    };
    use sqlx::postgres::PgPoolOptions;
    use tokio::sync::mpsc;

    use super::*;
    use crate::OutboxStore;

    /// A quiet connection is asked and kept; one that was cut without a word is given up.
    #[tokio::test]
    async fn an_ear_that_was_cut_off_in_silence_is_given_up() {
        let Some(database) = postgres::fresh_database().await else {
            return;
        };
        let (proxy, through) = Proxy::before(database.url()).await.unwrap();
        let store = |url: &str| {
            let pool = PgPoolOptions::new().connect_lazy(url).unwrap();
            OutboxStore::postgres(pool).unwrap()
        };
        let (here, there) = (store(&through), store(database.url()));
        let (tell, mut told) = mpsc::unbounded_channel();
        let listening = tokio::spawn(async move {
            let heard = |heard| drop(tell.send(heard));
            here.store.listen(&heard).await
        });
        assert!(matches!(told.recv().await, Some(Heard::Listening)));
        // It has been asked twice by then.
        tokio::time::sleep(SILENCE * 5 / 2).await;
        there.store.notify("somebody").await.unwrap();
        assert!(matches!(told.recv().await, Some(Heard::From(who)) if who == "somebody"));
        proxy.black_hole(Way::ToServer);
        let lost = timeout(SILENCE + Deadline::SQL * 2, listening).await;
        assert!(lost.unwrap().unwrap().is_err());
    }
}
