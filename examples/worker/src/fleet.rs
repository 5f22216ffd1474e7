//! What the workers tell each other over Redis: that the service behind is down, so that not each of
//! them has to find out. Without Redis each decides alone.

use anyhow::anyhow;
use buttress_circuit_breaker::{BreakerFleet, CircuitBreaker, MetricsObserver};
use buttress_store::{Deadline, RedisConnection, board::RedisBoard};
use redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

/// Under which its keys stand in Redis.
const NAME: &str = "worker";

/// Who shares what `breaker` sees.
///
/// Does not connect yet: nothing here needs Redis to be there.
pub(crate) fn fleet(url: &str, breaker: &CircuitBreaker) -> anyhow::Result<BreakerFleet> {
    // Its own error may hold the URL, and that a password.
    let client = Client::open(url).map_err(|_| anyhow!("WORKER_REDIS_URL cannot be read"))?;
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Deadline::REDIS))
        .set_number_of_retries(0);
    let connection = ConnectionManager::new_lazy_with_config(client, config)?;
    let board = RedisBoard::with_prefix(RedisConnection::new(connection), NAME)?;
    let fleet = BreakerFleet::builder(NAME, board).observer(MetricsObserver::new());
    let fleet = fleet.build()?;
    fleet.add(breaker)?;
    Ok(fleet)
}
