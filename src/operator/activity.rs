//! Whether somebody asks a model: what its pods count in their metrics.
//!
//! Ekiben's service counts requests that were answered (`ekiben_requests_total`), those in hand and those that wait; BentoML's
//! counts in `bentoml_service_request_total` and `bentoml_service_request_in_progress`. Questions of the cluster itself, whether it
//! is ready, do not count. What cannot be read says nothing: such a model is never taken for idle.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use tokio::net::TcpStream;

use super::cluster::{Cluster, text};

/// Seconds that a pod has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of metrics.
const LARGEST: usize = 4 << 20;

/// Paths of a service that are the cluster's to ask.
const QUIET: [&str; 4] = ["/healthz", "/livez", "/readyz", "/metrics"];

/// How the operator reaches pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At their own addresses.
    Direct,
    /// Through the API server, where their addresses lead nowhere from here.
    Proxied,
}

/// What the pods of a model have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests that were answered.
    pub requests: u64,
    /// Requests in hand, and those that wait.
    pub in_hand: u64,
}

/// What these pods have counted, at `port` and `path`.
///
/// # Errors
/// In words, when one of them does not say it.
pub async fn counted(
    cluster: &Cluster,
    reach: Reach,
    pods: &[DynamicObject],
    port: u16,
    path: &str,
) -> Result<Counted, String> {
    let mut all = Counted::default();
    for pod in pods {
        let name = pod.name_any();
        let asked = async {
            match reach {
                Reach::Direct => direct(text(&pod.data["status"]["podIP"]), port, path).await,
                Reach::Proxied => proxied(cluster, pod, port, path).await,
            }
        };
        let answer =
            tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        let metrics = answer.map_err(|why| format!("the metrics of pod {name} cannot be read: {why}"))?;
        let one = read(&metrics).ok_or_else(|| format!("pod {name} does not count requests"))?;
        all.requests = all.requests.saturating_add(one.requests);
        all.in_hand = all.in_hand.saturating_add(one.in_hand);
    }
    Ok(all)
}

async fn direct(address: &str, port: u16, path: &str) -> Result<String, String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let address = SocketAddr::new(address.parse().map_err(|_| "it has no address".to_owned())?, port);
    let stream = TcpStream::connect(address).await.map_err(|error| words(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", address.to_string()).header("connection", "close");
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| words(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| words(&error))?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?;
    connection.abort();
    String::from_utf8(body.to_bytes().into()).map_err(|error| words(&error))
}

async fn proxied(cluster: &Cluster, pod: &DynamicObject, port: u16, path: &str) -> Result<String, String> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let url = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{path}");
    let request = http::Request::get(url).body(kube::client::Body::empty()).map_err(|error| error.to_string())?;
    let answer = cluster.client().send(request).await.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("the API server answers {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?;
    String::from_utf8(body.to_bytes().into()).map_err(|error| error.to_string())
}

/// What a text in Prometheus' format counts; none where it does not count requests.
fn read(metrics: &str) -> Option<Counted> {
    let mut counted = Counted::default();
    let mut counts = false;
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or((line, ""));
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is not a count is 0")]
        let value = value.parse::<f64>().map_or(0, |value| value as u64);
        let is_quiet = || {
            QUIET.iter().any(|path| {
                labels.contains(&format!("path=\"{path}\"")) || labels.contains(&format!("endpoint=\"{path}\""))
            })
        };
        match name {
            "ekiben_requests_total" | "bentoml_service_request_total" if !is_quiet() => {
                counts = true;
                counted.requests = counted.requests.saturating_add(value);
            }
            "ekiben_requests_total" => counts = true,
            // This question is one of them.
            "ekiben_requests_in_progress" => {
                counts = true;
                counted.in_hand = counted.in_hand.saturating_add(value.saturating_sub(1));
            }
            "ekiben_requests_waiting" | "bentoml_service_request_in_progress" if !is_quiet() => {
                counts = true;
                counted.in_hand = counted.in_hand.saturating_add(value);
            }
            _ => {}
        }
    }
    counts.then_some(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_the_cluster_do_not_count() {
        let metrics = "# TYPE ekiben_requests_total counter\n\
            ekiben_requests_total{method=\"GET\",path=\"/readyz\",status=\"200\"} 17\n\
            ekiben_requests_total{method=\"GET\",path=\"/metrics\",status=\"200\"} 3\n\
            ekiben_requests_total{method=\"POST\",path=\"/predict\",status=\"200\"} 5\n\
            ekiben_requests_total{method=\"POST\",path=\"/predict\",status=\"422\"} 1\n\
            ekiben_requests_in_progress 3\nekiben_requests_waiting 1\n";
        assert_eq!(read(metrics), Some(Counted { requests: 6, in_hand: 3 }));
        let bentoml = "bentoml_service_request_total{endpoint=\"/predict\",http_response_code=\"200\"} 4.0\n\
            bentoml_service_request_in_progress{endpoint=\"/predict\"} 1.0\n";
        assert_eq!(read(bentoml), Some(Counted { requests: 4, in_hand: 1 }));
    }

    #[test]
    fn what_counts_nothing_is_not_idle() {
        for metrics in ["", "process_start_time_seconds 1", "<html>", "ekiben_requests"] {
            assert_eq!(read(metrics), None, "{metrics}");
        }
        let odd = "ekiben_requests_total{path=\"/predict\"} NaN\nekiben_requests_total{path=\"/x\"} -1\n";
        assert_eq!(read(odd), Some(Counted::default()));
    }
}
