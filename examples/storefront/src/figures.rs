//! The figures of this process: what is counted, and what is true now.

use std::{sync::OnceLock, time::Duration};

use buttress_core::Registry;
use buttress_outbox::Topic;
use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::{event::TOPIC, repository::Database};

/// What was measured is put into its buckets this often, whether anybody reads it or not.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long the database may take to count the messages that wait.
const PATIENCE: Duration = Duration::from_millis(500);

const ATTEMPTS: &[f64] = &[1.0, 2.0, 3.0, 5.0, 10.0];
const SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All figures, under names and labels of ours: no key, no id and no name of a client is one.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    recorder: PrometheusHandle,
    registry: Registry,
}

impl Figures {
    /// Counts from now on. A process has one recorder, and all its figures.
    pub(crate) fn new(registry: &Registry) -> anyhow::Result<Self> {
        static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
        let buckets = |name: &str| Matcher::Suffix(name.to_owned());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(buckets("_attempts"), ATTEMPTS)?
            .set_buckets_for_metric(buckets("_seconds"), SECONDS)?;
        let recorder = RECORDER.get_or_init(|| {
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            // Only a second one is refused, and there is none.
            let _ = metrics::set_global_recorder(recorder);
            describe();
            handle
        });
        Ok(Self {
            recorder: recorder.clone(),
            registry: registry.clone(),
        })
    }

    /// Keeps what was measured small where nobody reads it.
    pub(crate) async fn keep_until(self, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(UPKEEP))
            .await
            .is_some()
        {
            self.recorder.run_upkeep();
        }
    }

    /// The page as it is now. A database that does not answer leaves its figures as they were.
    pub(crate) async fn page(&self, database: &Database) -> String {
        for entry in self.registry.entries() {
            let name = entry.name().to_owned();
            entry.gauges(&mut |figure, value| {
                #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
                gauge!(figure, "name" => name.clone()).set(value as f64);
            });
        }
        if let Ok(topic) = Topic::new(TOPIC) {
            let counts = database.outbox().counts(&topic);
            let counts = tokio::time::timeout(PATIENCE, counts).await;
            if let Ok(Ok(counts)) = counts {
                buttress_outbox::MetricsObserver::gauges(&topic, &counts);
            }
        }
        self.recorder.render()
    }
}

/// Each figure comes with a sentence that says what it is.
fn describe() {
    buttress_cache_aside::MetricsObserver::describe();
    buttress_circuit_breaker::MetricsObserver::describe();
    buttress_idempotency::MetricsObserver::describe();
    buttress_outbox::MetricsObserver::describe();
    buttress_rate_limiter::MetricsObserver::describe();
    buttress_retry_backoff::MetricsObserver::describe();
    buttress_saga::MetricsObserver::describe();
}
