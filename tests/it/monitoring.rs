//! The alert rules and the dashboard of `supervisor/monitoring` name metrics, labels and values that exist,
//! and the table of `docs/operations.md` is that of a real process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use prometheus::core::Collector;
use serde_json::{Value, json};
use tasker::domain::TaskStatus;
use tasker::telemetry::Metrics;

use crate::support::platform::Platform;

/// Labels that Prometheus itself adds when it reads the metrics.
const SCRAPED: [&str; 2] = ["job", "instance"];

/// Label, operator and value.
type Matcher = (String, String, String);

/// The labels of each metric, and the values of those that have a fixed set.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[test]
fn the_documented_metrics_are_those_of_a_process() -> anyhow::Result<()> {
    let documented = documented()?;
    let there = labels_of_vectors();
    let platform = Platform::embedded()?;
    let identifier = platform.submit("worker", json!({"seconds": 0}), &["console1"])?;
    platform.task("worker", &identifier, "DONE")?;
    let (_, metrics) = platform.get("/metrics")?;
    let samples = metrics.as_str().context("text")?.lines().filter(|line| !line.starts_with('#'));
    let mut seen: BTreeMap<String, BTreeSet<String>> = there;
    for sample in samples {
        let (name, labels) = match sample.split_once('{') {
            Some((name, rest)) => (name, matchers(rest.split_once('}').context("an end of labels")?.0)),
            None => (sample.split(' ').next().unwrap_or_default(), Vec::new()),
        };
        let labels = labels.into_iter().map(|(label, ..)| label).filter(|label| label != "le");
        seen.entry(base(name).to_owned()).or_default().extend(labels);
    }
    for (name, labels) in &seen {
        let table = documented.get(name).with_context(|| format!("docs/operations.md lacks {name}"))?;
        ensure!(
            table.keys().eq(labels),
            "{name} has the labels {labels:?}, docs/operations.md says {:?}",
            table.keys()
        );
    }
    let gone: Vec<_> = documented.keys().filter(|name| !seen.contains_key(*name)).collect();
    ensure!(gone.is_empty(), "docs/operations.md names {gone:?}, which no process has");
    Ok(())
}

#[test]
fn alerts_use_metrics_that_exist() -> anyhow::Result<()> {
    let known = documented()?;
    let rules: Value = serde_saphyr::from_str(&read("supervisor/monitoring/alerts.yaml")?)?;
    let rules = rules["groups"][0]["rules"].as_array().context("rules")?;
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().context("a name")?;
        ensure!(names.insert(name), "{name} is there twice");
        ensure!(
            matches!(rule["labels"]["severity"].as_str(), Some("page" | "ticket")),
            "{name}: {}",
            rule["labels"]
        );
        ensure!(rule["annotations"]["summary"].is_string(), "{name} has no summary");
        let given = check(rule["expr"].as_str().context("an expression")?, &known)
            .with_context(|| name.to_owned())?;
        for text in rule["annotations"].as_object().context("annotations")?.values().filter_map(Value::as_str)
        {
            for label in text.split("$labels.").skip(1).map(word) {
                ensure!(given.contains(label), "{name}: its text shows {label}, its result has {given:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_dashboard_uses_metrics_that_exist() -> anyhow::Result<()> {
    let known = documented()?;
    let dashboard: Value = serde_json::from_str(&read("supervisor/monitoring/dashboard.json")?)?;
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        ensure!(ids.insert(panel["id"].as_u64()), "{title}: its id is there twice");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().context("an expression")?;
            let given = check(expr, &known).with_context(|| title.to_owned())?;
            used.extend(metrics(expr).into_iter().map(|(name, _)| base(&name).to_owned()));
            for label in target["legendFormat"].as_str().unwrap_or_default().split("{{").skip(1).map(word) {
                ensure!(given.contains(label), "{title}: its legend shows {label}, its result has {given:?}");
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().context("variables")? {
        if let Some(query) = variable["query"]["query"].as_str() {
            check(query, &known).context("a variable")?;
        }
    }
    let forgotten: Vec<_> = known
        .keys()
        .filter(|name| !used.contains(*name) && *name != "tasker_process_start_time_seconds")
        .collect();
    ensure!(forgotten.is_empty(), "no panel shows {forgotten:?}");
    Ok(())
}

/// The table of `docs/operations.md`.
fn documented() -> anyhow::Result<Known> {
    let mut known = Known::new();
    for line in read("docs/operations.md")?.lines().filter(|line| line.starts_with("| `tasker_")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        // `label`: value, value (a remark); `label` ...
        let mut labels = BTreeMap::new();
        let mut parts = cells[1].split('`').skip(1);
        while let (Some(label), rest) = (parts.next(), parts.next().unwrap_or_default()) {
            let values = rest
                .strip_prefix(": ")
                .map(|values| values.split(['(', ')', ';', ',']).map(str::trim).map(str::to_owned).collect());
            labels.insert(label.to_owned(), values.unwrap_or_default());
        }
        for name in cells[0].split('`').skip(1).step_by(2) {
            known.insert(name.to_owned(), labels.clone());
        }
    }
    ensure!(known.len() > 20, "the table has changed its shape: {known:?}");
    Ok(known)
}

/// Metrics with labels show themselves with their first event, and some of these events should never happen.
/// Gauges of tasks show themselves while there are such tasks.
fn labels_of_vectors() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new();
    let vectors: [&dyn Collector; 14] = [
        &metrics.unsubmitted,
        &metrics.undecodable,
        &metrics.unproven,
        &metrics.seal_refusals,
        &metrics.dead_dropped,
        &metrics.asks,
        &metrics.refused,
        &metrics.requests,
        &metrics.jobs,
        &metrics.live_reads,
        &metrics.log_pieces,
        &metrics.rollout_targets,
        &metrics.rollout_breaches,
        &metrics.rollout_admitted,
    ];
    let gauges: [&dyn Collector; 5] = [
        &metrics.queued,
        &metrics.queue_paused,
        &metrics.held_tasks,
        &metrics.open_tasks,
        &metrics.oldest_task_seconds,
    ];
    let described = vectors.into_iter().chain(gauges).flat_map(|vector| vector.desc());
    described.map(|desc| (desc.fq_name.clone(), desc.variable_labels.iter().cloned().collect())).collect()
}

/// Looks at each metric, matcher and grouping of a query; answers the labels that its result may have.
fn check(query: &str, known: &Known) -> anyhow::Result<BTreeSet<String>> {
    let mut labels: BTreeSet<String> = SCRAPED.into_iter().map(str::to_owned).collect();
    for (name, matchers) in metrics(query) {
        let Some(described) = known.get(base(&name)) else {
            ensure!(name == "up", "there is no metric {name}");
            continue;
        };
        ensure!(base(&name) == name || is_histogram(base(&name)), "{name} is not a histogram");
        for (label, operator, value) in matchers {
            if SCRAPED.contains(&label.as_str()) {
                continue;
            }
            let values = described.get(&label).with_context(|| format!("{name} has no label {label}"))?;
            let values_asked: Vec<&str> =
                if operator.ends_with('~') { value.split('|').collect() } else { vec![&value] };
            for value in values_asked.into_iter().filter(|value| !value.contains(['$', '.'])) {
                let right = match values.is_empty() && label == "status" {
                    true => TaskStatus::ALL.iter().any(|status| status.as_str() == value),
                    false => values.contains(value),
                };
                ensure!(right, "{name} never has {label}=\"{value}\": {values:?}");
            }
        }
        labels.extend(described.keys().cloned());
        if name.ends_with("_bucket") {
            labels.insert("le".to_owned());
        }
    }
    let mut given: Option<BTreeSet<String>> = None;
    for (keyword, keeps) in [("by (", true), ("on (", false)] {
        for group in query.split(keyword).skip(1) {
            let group =
                group.split(')').next().unwrap_or_default().split(',').map(|label| label.trim().to_owned());
            let group: BTreeSet<String> = group.collect();
            ensure!(group.is_subset(&labels), "{group:?} of {query}: its metrics have {labels:?}");
            if keeps {
                given.get_or_insert_default().extend(group);
            }
        }
    }
    Ok(given.unwrap_or(labels))
}

/// The metrics in a query, each with its matchers.
fn metrics(query: &str) -> Vec<(String, Vec<Matcher>)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find("tasker_").into_iter().chain(rest.find("up{")).min() {
        rest = &rest[start..];
        let name = word(rest);
        rest = &rest[name.len()..];
        let inside =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        found.push((name.to_owned(), matchers(inside)));
    }
    found
}

/// The matchers between two braces. No value of ours has a comma or a brace.
fn matchers(inside: &str) -> Vec<Matcher> {
    let each = inside.split(',').map(str::trim).filter(|matcher| !matcher.is_empty());
    each.filter_map(|matcher| {
        let label = word(matcher);
        let (operator, value) = matcher[label.len()..].split_once('"')?;
        Some((label.to_owned(), operator.to_owned(), value.trim_end_matches('"').to_owned()))
    })
    .collect()
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// A histogram has three series.
fn base(name: &str) -> &str {
    let series = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    series.filter(|base| is_histogram(base)).unwrap_or(name)
}

fn is_histogram(base: &str) -> bool {
    base.ends_with("_seconds") || base.ends_with("_batch_size")
}

fn read(name: &str) -> anyhow::Result<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).with_context(|| name.to_owned())
}
