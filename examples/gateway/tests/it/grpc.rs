//! gRPC goes through as it is: HTTP/2, streams, statuses in trailers.

use std::time::Duration;

use tonic::{Code, transport::Endpoint};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_check_response, health_client::HealthClient},
    server::health_reporter,
};

use crate::house::{gateway, nobody, serve};

async fn ask(gateway: &str, service: &str) -> Result<i32, tonic::Status> {
    let channel = Endpoint::from_shared(gateway.to_owned()).unwrap();
    let channel = channel.timeout(Duration::from_secs(5)).connect().await;
    let mut client = HealthClient::new(channel.unwrap());
    let asked = client.check(HealthCheckRequest {
        service: service.to_owned(),
    });
    Ok(asked.await?.into_inner().status)
}

#[tokio::test]
async fn a_call_its_stream_and_its_status_go_through() {
    let (reporter, health) = health_reporter();
    reporter
        .set_service_status("shop", ServingStatus::Serving)
        .await;
    let upstream = serve(tonic::service::Routes::new(health).into_axum_router()).await;
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/grpc.health.v1.Health\"\nhttp2 = true\n\
         upstreams = [\"http://{upstream}\"]"
    ))
    .await;
    let serving = health_check_response::ServingStatus::Serving as i32;
    assert_eq!(ask(&gateway, "shop").await.unwrap(), serving);
    // A status of the upstream's own, in its trailers, is the caller's to judge.
    let unknown = ask(&gateway, "nobody").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let channel = Endpoint::from_shared(gateway).unwrap().connect().await;
    let mut client = HealthClient::new(channel.unwrap());
    let asked = HealthCheckRequest {
        service: "shop".to_owned(),
    };
    let mut watched = client.watch(asked).await.unwrap().into_inner();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.status, serving);
    reporter
        .set_service_status("shop", ServingStatus::NotServing)
        .await;
    let second = watched.message().await.unwrap().unwrap();
    assert_ne!(second.status, serving);
}

#[tokio::test]
async fn what_goes_wrong_here_is_told_as_grpc_tells_it() {
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/grpc.health.v1.Health\"\nhttp2 = true\n\
         upstreams = [\"http://{}\"]\nretry = {{ attempts = 2, longest_wait_ms = 100 }}",
        nobody()
    ))
    .await;
    let failed = ask(&gateway, "shop").await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert_eq!(
        failed.message(),
        "A service behind this one could not be reached."
    );
}
