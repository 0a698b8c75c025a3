//! What the operator says of itself by HTTP: `/healthz`, `/readyz`, and `/metrics` in Prometheus' text format.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Seconds that a caller has for a request's head.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Whether this is the operator that works.
    pub leads: AtomicBool,
    /// Whether it has reached its cluster.
    pub is_ready: AtomicBool,
    /// Looks at a resource.
    pub looks: AtomicU64,
    /// Those that failed.
    pub failures: AtomicU64,
    /// Images that were got ready.
    pub builds: AtomicU64,
    /// Builds that failed.
    pub failed_builds: AtomicU64,
    /// Models that went to no pods.
    pub idled: AtomicU64,
    /// Models that were woken.
    pub woken: AtomicU64,
}

impl Metrics {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, kind: &str, help: &str, value: u64| {
            text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let leads = u64::from(self.leads.load(Ordering::Relaxed));
        add("ekiben_operator_leader", "gauge", "Whether this operator works.", leads);
        add("ekiben_operator_reconciliations_total", "counter", "Looks at a resource.", of(&self.looks));
        add("ekiben_operator_reconciliation_errors_total", "counter", "Looks that failed.", of(&self.failures));
        add("ekiben_operator_builds_total", "counter", "Images that were got ready.", of(&self.builds));
        add("ekiben_operator_build_failures_total", "counter", "Builds that failed.", of(&self.failed_builds));
        add("ekiben_operator_idled_total", "counter", "Models that went to no pods.", of(&self.idled));
        add("ekiben_operator_woken_total", "counter", "Models that were woken.", of(&self.woken));
        text
    }
}

/// Answers for as long as this runs.
///
/// # Errors
/// When the address is taken.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // No more files, mostly: it passes.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let metrics = metrics.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&metrics, request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), answer).await });
        }
    });
    Ok(())
}

fn answer(metrics: &Metrics, path: &str) -> Response<Full<Bytes>> {
    let is_ready = metrics.is_ready.load(Ordering::Relaxed);
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if is_ready => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "the cluster has not answered yet\n".to_owned()),
        "/metrics" => (StatusCode::OK, metrics.text()),
        _ => (StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n".to_owned()),
    };
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, plain);
    answer
}
