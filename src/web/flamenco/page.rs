//! The page for people: workers, queue and backlog. It works without scripts, and shows nothing of others'
//! sites.

use std::fmt::Write;

use super::overview::Overview;
use super::reply::Reply;
use crate::domain::Timestamp;
use crate::farm::Worker;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem;max-width:80rem}table{border-collapse:collapse;width:100%}\
                     th,td{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #ccc}";

/// Renders it.
pub(super) fn render(overview: &Overview, now: Timestamp) -> Reply {
    let name = escaped(&overview.name);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"10\"><title>{name}</title><style>{STYLE}</style></head>\n<body><h1>{name}</h1>\n\
         <p>{} workers, {} tasks, {} updates to be pushed to {}</p>\n\
         <table><thead><tr><th>Worker</th><th>Status</th><th>Current task</th><th>Last seen</th><th>Task types</th></tr></thead><tbody>\n",
        overview.workers.len(),
        overview.tasks,
        overview.updates,
        escaped(&overview.server),
    );
    for (worker, barred) in &overview.workers {
        // Writing to a text cannot fail.
        _ = writeln!(
            page,
            "<tr><td>{}<br><small>{}</small></td><td>{}</td><td>{}</td><td>{}</td><td>{}{}</td></tr>",
            escaped(if worker.nickname.is_empty() { "(no name)" } else { &worker.nickname }),
            escaped(&worker.address),
            status(worker),
            current_task(worker),
            worker.last_activity.map_or_else(|| "never".to_owned(), |at| ago(now.since(at).as_secs())),
            escaped(&worker.task_types.join(", ")),
            if barred.is_empty() {
                String::new()
            } else {
                format!("<br><small>barred from {} job and task types</small>", barred.len())
            },
        );
    }
    page += "</tbody></table></body></html>\n";
    let headers = vec![
        ("Content-Type", "text/html; charset=utf-8".to_owned()),
        ("Cache-Control", "no-cache".to_owned()),
        (
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'".to_owned(),
        ),
        ("X-Content-Type-Options", "nosniff".to_owned()),
    ];
    Reply { status: 200, headers, body: page.into_bytes() }
}

fn status(worker: &Worker) -> String {
    let is = if worker.status.as_str().is_empty() { "registered" } else { worker.status.as_str() };
    match worker.requested {
        Some(request) if worker.lazy => format!("{is}, to be {} after its task", request.as_str()),
        Some(request) => format!("{is}, to be {}", request.as_str()),
        None => is.to_owned(),
    }
}

fn current_task(worker: &Worker) -> String {
    let Some(task) = worker.current_task else { return "none".to_owned() };
    let shown = match worker.current_job {
        Some(job) => format!("<a href=\"/logfile/{job}/{task}\">{task}</a>"),
        None => task.to_string(),
    };
    format!("{shown} {}", escaped(&worker.current_task_status))
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::ObjectId;

    #[test]
    fn names_of_workers_are_no_markup() {
        let worker = Worker::new(
            ObjectId::new(Timestamp::from_micros(0)),
            "<script>'&\"".into(),
            String::new(),
            vec!["<b>".into()],
        );
        let overview = Overview {
            name: "<i>".into(),
            server: "http://s/".into(),
            workers: vec![(worker, vec![])],
            tasks: 3,
            updates: 2,
        };
        let page = String::from_utf8(render(&overview, Timestamp::from_micros(0)).body).expect("text");
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<i>"), "{page}");
        assert!(
            page.contains("&lt;script&gt;&#39;&amp;&quot;") && page.contains("1 workers, 3 tasks, 2 updates"),
            "{page}"
        );
    }

    #[test]
    fn tells_how_long_ago() {
        assert_eq!([5, 125, 7200, 172_800].map(ago), ["5 s ago", "2 min ago", "2 h ago", "2 days ago"]);
    }
}
