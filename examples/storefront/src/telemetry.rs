//! Logs on standard error: for people on a terminal, else one JSON object a line, panics too. Traces,
//! for who gives a place to send them to.

use std::{collections::HashMap, io::IsTerminal, panic::PanicHookInfo, time::Duration};

use anyhow::Context as _;
use http::HeaderMap;
use opentelemetry::{Context, propagation::TextMapPropagator as _, trace::TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Level, Span, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt,
};

/// W3C Trace Context's header: under it a trace goes on in another process.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// How long whoever collects traces may take for an answer.
const EXPORTED_WITHIN: Duration = Duration::from_secs(3);

/// What sends traces away, if anything does. What it still has goes when it is dropped.
#[must_use = "traces end with it"]
pub(crate) struct Exporting(Option<SdkTracerProvider>);

/// Starts logging. `RUST_LOG` says how much; by default a program that breaks things on `purpose`
/// tells only what breaks in itself. With `otlp`, spans go to the collector there, whatever is logged.
///
/// To be called outside of a runtime.
pub(crate) fn start(purpose: bool, otlp: Option<&str>) -> anyhow::Result<Exporting> {
    let default = if purpose {
        "off,storefront=error"
    } else {
        "info"
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let people = std::io::stderr().is_terminal();
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let format = if people {
        format.with_filter(filter).boxed()
    } else {
        format
            .json()
            .flatten_event(true)
            .with_filter(filter)
            .boxed()
    };
    let exporting = otlp.map(exporter).transpose()?;
    let traces = exporting.as_ref().map(|provider| {
        // Spans of this program and of its requests; what the exporter itself does is no trace.
        let ours = Targets::new()
            .with_target("storefront", Level::INFO)
            .with_target("buttress_error_envelope", Level::INFO)
            .with_default(LevelFilter::OFF);
        let tracer = provider.tracer("storefront");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_filter(ours)
    });
    let registry = tracing_subscriber::registry().with(format).with(traces);
    // Only a second start fails, and the first goes on.
    let _ = registry.try_init();
    std::panic::set_hook(Box::new(log_panic));
    Ok(Exporting(exporting))
}

fn exporter(url: &str) -> anyhow::Result<SdkTracerProvider> {
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .timeout(EXPORTED_WITHIN)
        .build()
        .context("no HTTP client for traces")?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
        .build()
        .context("the URL of --otlp cannot be one")?;
    let resource = Resource::builder().with_service_name("storefront").build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

impl Drop for Exporting {
    fn drop(&mut self) {
        if let Some(provider) = &self.0 {
            // A collector that is away is nobody's failure.
            let _ = provider.shutdown();
        }
    }
}

/// The span that `span` is in, as a header would say it; `None` where nobody collects traces.
pub(crate) fn traceparent_of(span: &Span) -> Option<String> {
    let mut carried = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carried);
    carried.remove(TRACEPARENT)
}

/// The same of what is being done now.
pub(crate) fn traceparent() -> Option<String> {
    traceparent_of(&Span::current())
}

/// Makes `span` go on with the trace that began elsewhere, if there is one.
pub(crate) fn follow(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        let carried = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
        let parent: Context = TraceContextPropagator::new().extract(&carried);
        // Refused only where nobody collects, or once it has begun.
        let _ = span.set_parent(parent);
    }
}

/// The same for a request that was received.
pub(crate) fn follow_headers(span: &Span, headers: &HeaderMap) {
    let traceparent = headers.get(TRACEPARENT).and_then(|it| it.to_str().ok());
    follow(span, traceparent);
}

/// What a span of a request is called: the method, and what the path begins with. Ids behind it
/// are no names.
pub(crate) fn request_name(method: &http::Method, path: &str) -> String {
    let first = path.split('/').nth(1).unwrap_or_default();
    let known = first.len() <= 20
        && first
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it == b'-');
    format!("{method} /{}", if known { first } else { "?" })
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload_as_str().unwrap_or("(no text)");
    let location = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(panic = payload, location, "panicked");
}
