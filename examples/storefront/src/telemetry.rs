//! Logs on standard error: for people on a terminal, else one JSON object a line, panics too.

use std::{io::IsTerminal, panic::PanicHookInfo};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging. `RUST_LOG` says how much; by default a program that breaks things on `purpose`
/// tells only what breaks in itself.
pub(crate) fn start(purpose: bool) {
    let default = if purpose {
        "off,storefront=error"
    } else {
        "info"
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let people = std::io::stderr().is_terminal();
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let started = if people {
        registry.with(format).try_init()
    } else {
        registry.with(format.json().flatten_event(true)).try_init()
    };
    // Only a second start fails, and the first goes on.
    let _ = started;
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload_as_str().unwrap_or("(no text)");
    let location = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(panic = payload, location, "panicked");
}
