//! The relay and the runner, side by side, until they are told to stop.

use std::{sync::Arc, time::Duration};

use buttress_outbox::{
    Relay, RelayPolicy,
    publisher::http::{Addresses, Endpoint, HttpClient, HttpPublisher},
    webhook::Signer,
};
use buttress_saga::{Runner, RunnerPolicy};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{RunArgs, secret},
    database::{Database, TOPIC},
    fleet,
    fulfilment::{self, Api},
    probes,
};

/// Nobody in this process appends, so nobody wakes the relay or the runner.
const POLL: Duration = Duration::from_millis(500);
/// How long a webhook may wait for its answer.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) async fn run(
    args: &RunArgs,
    database: &Arc<Database>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let api = Api::new(&args.api_url)?;
    let (relay, runner) = (relay(args, database)?, runner(args, database, &api)?);
    let fleet = args.redis_url.as_deref();
    let fleet = fleet
        .map(|url| fleet::fleet(url, api.breaker()))
        .transpose()?;
    let metrics = probes::metrics()?;
    let done = CancellationToken::new();
    let work = async {
        // Each hands back what it holds.
        let share = async {
            if let Some(fleet) = fleet {
                fleet.run_until(stop.cancelled()).await;
            }
        };
        tokio::join!(
            relay.run_until(stop.cancelled()),
            runner.run_until(stop.cancelled()),
            share
        );
        tracing::info!("stopped");
        done.cancel();
        anyhow::Ok(())
    };
    let database = Arc::clone(database);
    let probes = probes::serve(args.listen, database, metrics, stop.clone(), done.clone());
    tokio::try_join!(work, probes)?;
    Ok(())
}

fn relay(args: &RunArgs, database: &Database) -> anyhow::Result<Relay> {
    let signer = Signer::new([secret(&args.webhook_secret)?])?;
    let endpoint = Endpoint::builder(&args.webhook_url, signer).timeout(ANSWER);
    let (addresses, endpoint) = if args.webhook_private {
        let any = ["0.0.0.0/0".parse()?, "::/0".parse()?];
        let all = any.into_iter().fold(Addresses::public(), Addresses::allow);
        (all, endpoint.allow_http())
    } else {
        (Addresses::public(), endpoint)
    };
    let client = HttpClient::builder().addresses(addresses).build()?;
    let publisher = HttpPublisher::new(&client, endpoint.build()?)?;
    let policy = RelayPolicy::new()
        .with_poll(POLL)
        .with_publish_deadline(publisher.longest_publish());
    let relay = Relay::builder(&database.outbox)
        .policy(policy)
        .topic(TOPIC, publisher)
        .observe(buttress_outbox::TraceEvents)
        .observe(buttress_outbox::MetricsObserver::new());
    Ok(relay.build()?)
}

fn runner(args: &RunArgs, database: &Database, api: &Api) -> anyhow::Result<Runner> {
    let saga = fulfilment::saga(api)?;
    let policy = RunnerPolicy::default().concurrency(args.sagas).poll(POLL);
    let runner = database
        .sagas
        .runner()
        .saga(&saga)
        .policy(policy)
        .observer(buttress_saga::TraceEvents::new())
        .observer(buttress_saga::MetricsObserver::new());
    Ok(runner.build()?)
}
