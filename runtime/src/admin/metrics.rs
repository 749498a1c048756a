//! `GET /metrics`: what is measured, as OpenMetrics text. And the counting of what is asked of this API.

use std::fmt;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::error::{ApiError, refusal};
use crate::clock;
use crate::handle::{Handle, RefusalKind};
use crate::metrics::{Kind, METRICS, Metric, Scrape, Value};

/// As Prometheus asks for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics as OpenMetrics text, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "runtime", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn show(State(handle): State<Handle>) -> Result<Response, ApiError> {
    let scrape = handle.metrics().await?;
    // Of a thousand instances it is a megabyte of text: other clients do not wait for it.
    let text = tokio::task::spawn_blocking(move || encode(scrape))
        .await
        .map_err(|error| refusal(RefusalKind::Failed, format!("the metrics cannot be written: {error}")))?
        .map_err(|error| refusal(RefusalKind::Failed, format!("the metrics cannot be written: {error}")))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// Counts what is asked, by route.
pub(super) async fn count(State(handle): State<Handle>, request: Request, next: Next) -> Response {
    let begun = clock::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    handle.traffic().answered(route, method.as_str(), response.status().as_u16(), begun.elapsed());
    response
}

fn encode(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("dinrail");
    registry.register_collector(Box::new(Told(scrape)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Told(Scrape);

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        METRICS.iter().try_for_each(|metric| self.encode_one(metric, &mut encoder))
    }
}

impl Told {
    fn encode_one(&self, metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let unit = match metric.unit {
            "" => None,
            "seconds" => Some(Unit::Seconds),
            "bytes" => Some(Unit::Bytes),
            other => Some(Unit::Other(other.to_owned())),
        };
        let kind = match metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let mut family = encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), kind)?;
        for sample in self.0.of(metric.name) {
            let labels: Vec<(&str, &str)> =
                metric.labels.iter().copied().zip(sample.labels.iter().map(String::as_str)).collect();
            match (labels.is_empty(), metric.kind) {
                (_, Kind::Info) => family.encode_info(&labels)?,
                (true, kind) => encode_value(&mut family, kind, &sample.value)?,
                (false, kind) => encode_value(&mut family.encode_family(&labels)?, kind, &sample.value)?,
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (_, Value::Spread(sum, count, buckets)) => encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None),
        (Kind::Counter, Value::Count(count)) => encoder.encode_counter::<NoLabelSet, u64, f64>(count, None),
        (Kind::Counter, Value::Measure(sum)) => encoder.encode_counter::<NoLabelSet, f64, f64>(sum, None),
        (_, Value::Count(count)) => encoder.encode_gauge(count),
        (_, Value::Measure(measure)) => encoder.encode_gauge(measure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        let mut scrape = Scrape::default();
        scrape.add("module_starts", ["a\"b\\c\nd"], 3);
        let text = encode(scrape).unwrap();
        assert!(text.contains("dinrail_module_starts_total{module=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
