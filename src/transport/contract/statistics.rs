//! `GET /stats`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Grain, Throughput, Timestamp};

/// What became of tasks, span by span.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// The length of the spans.
    pub step: Grain,
    /// When the first span begins that was looked at.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Spans that begin at or after this were not looked at.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// The spans, oldest first. One in which nothing was is left out.
    pub spans: Vec<StatisticsSpan>,
}

/// What became of tasks in a span.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatisticsSpan {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// How many.
    #[serde(flatten)]
    pub throughput: Throughput,
}
