//! Measured spans and what to say about them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Spans of one kind, in the order they were measured.
#[derive(Debug, Default, Clone)]
pub struct Spans(Vec<Duration>);

impl Spans {
    /// Adds one.
    pub fn push(&mut self, span: Duration) {
        self.0.push(span);
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The least value that at least `percent` of the spans do not exceed (nearest rank); zero without spans.
    pub fn percentile(&self, percent: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.percentile(percent).as_secs_f64() * 1000.0;
        write!(f, "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", millis(50.0), millis(99.0), millis(100.0))
    }
}

/// The text of an API process that Prometheus reads.
#[derive(Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// A counter by its name with labels; zero when it was never counted.
    pub fn count(&self, name: &str) -> u64 {
        self.value(name).unwrap_or(0)
    }

    /// The sum of a histogram's values, and how many there are.
    pub fn sum(&self, name: &str) -> (Duration, u64) {
        let sum = self.value(&format!("{name}_sum")).and_then(|sum| Duration::try_from_secs_f64(sum).ok());
        (sum.unwrap_or_default(), self.count(&format!("{name}_count")))
    }

    fn value<T: FromStr>(&self, name: &str) -> Option<T> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// The least bound of a histogram's buckets that at least `percent` of its values do not exceed; none
    /// without values, or above all bounds.
    pub fn bound(&self, name: &str, percent: f64) -> Option<Duration> {
        let count: u64 = self.value(&format!("{name}_count")).filter(|count| *count > 0)?;
        let bucket = format!("{name}_bucket{{le=\"");
        let buckets = self.0.lines().filter_map(|line| line.strip_prefix(&bucket)?.split_once("\"} "));
        let mut bounds = buckets
            .filter_map(|(bound, count)| Some((bound.parse::<f64>().ok()?, count.parse::<u64>().ok()?)));
        let (bound, _) = bounds.find(|(_, within)| *within as f64 >= percent / 100.0 * count as f64)?;
        Duration::try_from_secs_f64(bound).ok()
    }

    /// That bound in words.
    pub fn within(&self, name: &str, percent: f64) -> String {
        self.bound(name, percent)
            .map_or_else(|| "above all bounds".to_owned(), |bound| format!("within {} ms", bound.as_millis()))
    }
}

/// Resident memory of a process in MiB, now; `None` where `/proc` does not tell.
pub fn resident_mib(pid: u32) -> Option<f64> {
    status_mib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The most that was ever resident of this process in MiB; `None` where `/proc` does not tell.
pub fn peak_mib() -> Option<f64> {
    status_mib("/proc/self/status", "VmHWM:")
}

fn status_mib(path: &str, name: &str) -> Option<f64> {
    let status = std::fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// What this process has had of the processors, in itself and in the kernel; `None` where `/proc` does not
/// tell.
pub fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may hold anything, and ends with the last bracket.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut spans = Spans::default();
        assert_eq!(spans.percentile(50.0), Duration::ZERO);
        for millis in (1..=100).rev() {
            spans.push(Duration::from_millis(millis));
        }
        assert_eq!(spans.percentile(50.0), Duration::from_millis(50));
        assert_eq!(spans.percentile(99.0), Duration::from_millis(99));
        assert_eq!(spans.percentile(100.0), Duration::from_millis(100));
        assert_eq!(spans.percentile(0.0), Duration::from_millis(1));
    }

    #[test]
    fn metrics_are_read() {
        let text = "# HELP a A\na{b=\"c\"} 7\nh_bucket{le=\"0.5\"} 98\nh_bucket{le=\"1\"} 99\nh_bucket{le=\"+Inf\"} 100\nh_sum 2.5\nh_count 100\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!((metrics.count("a{b=\"c\"}"), metrics.count("a")), (7, 0));
        assert_eq!(metrics.bound("h", 50.0), Some(Duration::from_millis(500)));
        assert_eq!(metrics.bound("h", 99.0), Some(Duration::from_secs(1)));
        assert_eq!(metrics.sum("h"), (Duration::from_millis(2_500), 100));
        assert_eq!((metrics.bound("h", 99.5), metrics.bound("i", 50.0)), (None, None));
    }

    #[test]
    fn this_process_has_some_memory() {
        let now = resident_mib(std::process::id());
        assert!(now.is_some_and(|mib| mib > 1.0) && processor_time().is_some());
        assert!(peak_mib() >= now);
    }
}
