//! What the log is told.

use std::{
    io,
    sync::{Arc, Mutex},
};

use buttress_retry_backoff::{Backoff, Retry, RetryPolicy, TraceEvents};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn giving_up_is_a_warning_and_a_retry_is_for_who_looks_closer() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let policy = RetryPolicy::builder().attempts(2).backoff(Backoff::none());
    let retry = Retry::new("a\nb", policy.build().unwrap()).with_observer(TraceEvents);
    assert!(retry.call(async || Err::<(), _>("secret")).await.is_err());
    let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told: Vec<_> = told.lines().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("DEBUG") && told[0].contains("retry.attempt=1"));
    assert!(told[1].contains("WARN") && told[1].contains("retry.stopped=\"attempts\""));
    assert!(
        told.iter()
            .all(|line| line.contains("retry.name=a\\nb") && !line.contains("secret"))
    );
}
