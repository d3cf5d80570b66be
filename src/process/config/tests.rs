//! The whole path from text to configuration: accepted files, refused files with their exact words, and no
//! panics.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::backoff::Backoff;
use crate::domain::Ignored;

/// The sample of the original, key for key.
const SAMPLE: &str = r#"
task_types: [worker, backup]
api: {port: 8888, wait_for_endpoints_timeout: 30}
manager:
  db: {verbose: false, uri: "mysql://tasker:tasker@localhost:3307/tasker"}
  message_queue: {host: 127.0.0.1, port: 5672, username: tasker, password: "...", virtual_host: tasker,
                  exchange: tasker_local, queue: tasker_local, routing_key: tasker_local}
rabbitmq: {apiurl: "http://localhost:15672/api", username: guest, password: guest}
"#;

fn loaded(text: &str, environment: &Environment) -> Result<Loaded, ConfigError> {
    checked(layers::merge_text("my.yaml", text, environment, &[])?)
}

/// What is wrong with a text, one line each.
fn problems(text: &str, environment: &Environment) -> Vec<String> {
    loaded(text, environment)
        .err()
        .map(|error| error.problems().iter().map(ToString::to_string).collect())
        .unwrap_or_default()
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = loaded(text, &Environment::default()).expect("the text is valid");
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn accepts_the_original_sample_without_a_word() {
    let loaded = loaded(SAMPLE, &Environment::default()).expect("the sample is valid");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    let (db, queue) = config.for_api().expect("it has all an API needs");
    assert_eq!(db.uri.reveal(), "mysql://tasker:tasker@localhost:3307/tasker");
    assert_eq!(
        (queue.host.as_str(), queue.port, queue.exchange.as_str()),
        ("127.0.0.1", 5672, "tasker_local")
    );
    assert_eq!(
        config.management().expect("it names the management interface").apiurl,
        "http://localhost:15672/api"
    );
    assert_eq!(config.api.wait_for_endpoints_timeout, Duration::from_secs(30));
    let names: Vec<_> = config.task_types.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["worker", "backup"]);
}

#[test]
fn a_type_is_a_name_or_a_policy() {
    let text = "
task_types:
  - worker
  - {name: backup, attempts: 5, backoff: {first: 250ms, max: 10s}, time_limit: 2h, expires_after: 2d, concurrency: 1, persistent: true,
     wait_for_endpoints_timeout: 1m, run_as: 'builder:docker'}
tasks: {expires_after: 12h}";
    let config = Config::from_yaml(text).expect("valid");
    let worker = config.policy(&"worker".parse().expect("a name")).expect("configured").clone();
    let (first, max) = (Duration::from_secs(1), Duration::from_secs(60));
    assert_eq!(
        (worker.attempts, worker.backoff, worker.concurrency, worker.persistent),
        (3, Backoff { first, max }, 4, false)
    );
    assert_eq!(
        (worker.expires_after, worker.wait_for_endpoints_timeout),
        (Duration::from_secs(12 * 3600), Duration::from_secs(30))
    );
    let backup = config.policy(&"backup".parse().expect("a name")).expect("configured").clone();
    let (first, max) = (Duration::from_millis(250), Duration::from_secs(10));
    assert_eq!(
        (backup.attempts, backup.backoff, backup.concurrency, backup.persistent),
        (5, Backoff { first, max }, 1, true)
    );
    assert_eq!(
        (backup.time_limit, backup.wait_for_endpoints_timeout),
        (Duration::from_secs(7200), Duration::from_secs(60))
    );
    assert_eq!((worker.run_as, backup.run_as.as_deref()), (None, Some("builder:docker")));
    let error =
        Config::from_yaml("task_types: [{name: backup, run_as: 'a b'}]").expect_err("no user").to_string();
    assert!(
        error.contains(
            "task_types[0].run_as: expected a user, or a user and a group such as `builder:docker`"
        ),
        "{error}"
    );
    assert_eq!(config.endpoint.remember, Duration::from_secs(49 * 3600), "two days and an hour");
}

#[test]
fn later_layers_win_and_are_named() {
    let environment = Environment::of([
        ("TASKER_API__PORT", "9000"),
        ("TASKER_TASK_TYPES", "a, b"),
        ("TASKER_API_URL", "http://x"),
    ]);
    let flags = [Flag { key: "api.host", value: "127.0.0.2".to_owned(), name: "--listen" }];
    let merged =
        layers::merge_text("my.yaml", "api: {port: 1, host: 127.0.0.3}\nlog:\n", &environment, &flags)
            .expect("reads");
    let loaded = checked(merged).expect("valid");
    assert_eq!((loaded.config.api.port, loaded.config.api.host.to_string().as_str()), (9000, "127.0.0.2"));
    assert_eq!(loaded.config.task_types.len(), 2);
    let origin = |path: &str| {
        loaded.entries.iter().find(|entry| entry.path == path).map(|entry| entry.origin.as_str())
    };
    assert_eq!(origin("api.port"), Some("the environment variable TASKER_API__PORT"));
    assert_eq!(origin("api.host"), Some("the flag --listen"));
    assert!(
        origin("log.filter").is_some_and(|origin| origin == "the default"),
        "an empty section overrides nothing"
    );
    assert_eq!(origin("manager.message_queue.port"), Some("follows from manager.message_queue.tls"));
}

#[test]
fn placeholders_come_from_the_environment() {
    let text = "task_types: [worker]
api: {port: {PORT}}
manager: {message_queue: {host: 127.0.0.1, username: '{USER}-{USER}', password: {PASSWORD}, virtual_host: '{lower} {'}}";
    let environment = Environment::of([("PORT", "81"), ("USER", "u"), ("PASSWORD", "a: #'\"{PORT}\n")]);
    let config = loaded(text, &environment).expect("valid").config;
    let queue = config.message_queue().expect("given");
    assert_eq!(config.api.port, 81);
    assert_eq!(
        (queue.username.as_str(), queue.password.reveal(), queue.virtual_host.as_str()),
        ("u-u", "a: #'\"{PORT}\n", "{lower} {")
    );
    let text = "task_types: [worker]\napi: {port: {PORT:-8080}, host: '{HOST:-127.0.0.9}'}";
    let port = |environment: &Environment| {
        loaded(text, environment).map(|loaded| (loaded.config.api.port, loaded.config.api.host.to_string()))
    };
    let (unset, set) = (
        port(&Environment::default()).expect("valid"),
        port(&Environment::of([("PORT", "81")])).expect("valid"),
    );
    assert_eq!((unset, set), ((8080, "127.0.0.9".to_owned()), (81, "127.0.0.9".to_owned())));
    let wrong = problems(text, &Environment::of([("PORT", "x")]));
    assert_eq!(
        wrong,
        ["api.port: expected a whole number from 0 to 65535, got the value of `PORT` (my.yaml:2)"]
    );
}

#[test]
fn parts_are_asked_for_by_whoever_needs_them() {
    let text = "task_types: [worker]
manager:
  db: {uri: 'mysql://tasker:{DB_PASSWORD}@localhost/tasker'}
  message_queue: {host: 127.0.0.1, username: tasker, password: pw}";
    let config = loaded(text, &Environment::default()).expect("an endpoint needs no database").config;
    assert!(config.for_endpoint().is_ok());
    let lacking = |error: ConfigError| error.problems().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        lacking(config.for_api().expect_err("the database has no password")),
        ["manager.db.uri: the environment variable `DB_PASSWORD` is not set (my.yaml:3)"]
    );
    assert_eq!(
        lacking(config.for_provisioning().expect_err("there is no management interface")),
        [
            "rabbitmq.apiurl: is missing: expected an address such as `http://localhost:15672/api`, without user and password in it",
            "rabbitmq.username: is missing: expected a user name",
            "rabbitmq.password: is missing: expected a text (a number needs quotes)",
        ]
    );
    let empty = Config::from_yaml("task_types: [worker]").expect("valid");
    assert_eq!(
        lacking(empty.for_api().expect_err("nothing is given")).len(),
        4,
        "database, host, user and password"
    );
}

#[test]
fn embedded_needs_no_file() {
    let loaded = load(&Sources::default()).expect("the default is valid");
    assert_eq!(loaded.config.task_types.len(), 2);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn refuses_with_key_expectation_value_and_source() {
    let worker = "task_types: [worker]\n";
    let typed = "expected the name of a task type: a letter followed by at most 63 letters, digits, `_` or `-`, and none of the reserved names";
    let span = "a span of time such as `30s`, `1h30m` or `250ms`";
    let uri = "expected `mysql://user:password@host:port/database` (other characters than letters and digits in user and password \
               percent-encoded) or `sqlite:///path/to/file`";
    let table: [(&str, Vec<String>); _] = [
        ("{}", vec!["task_types: is missing: expected a list of task types such as `[worker, backup]`".into()]),
        ("task_types: []", vec!["task_types: expected a list of task types such as `[worker, backup]`, got an empty list (my.yaml:1)".into()]),
        ("task_types: worker", vec!["task_types: expected a list of task types such as `[worker, backup]`, got `worker` (my.yaml:1)".into()]),
        (
            "task_types: [a.b, metrics, 5, worker,\n worker]",
            vec![
                "task_types: `worker` is there twice (my.yaml:2)".into(),
                format!("task_types[0].name: {typed}, got `a.b` (my.yaml:1)"),
                format!("task_types[1].name: {typed}, got `metrics` (my.yaml:1)"),
                format!("task_types[2].name: {typed}, got `5` (my.yaml:1)"),
            ],
        ),
        (
            "task_types: [{name: a, atempts: 1, attempts: 0, backoff: {frist: 1s}, concurrency: 1001, persistent: yes}]",
            vec![
                "task_types[0].atempts: unknown key; did you mean `attempts`? (my.yaml:1)".into(),
                "task_types[0].attempts: expected a whole number from 1 to 100, got `0` (my.yaml:1)".into(),
                "task_types[0].backoff.frist: unknown key; did you mean `first`? (my.yaml:1)".into(),
                "task_types[0].concurrency: expected a whole number from 1 to 1000, got `1001` (my.yaml:1)".into(),
                "task_types[0].persistent: expected true or false, got `yes` (my.yaml:1)".into(),
            ],
        ),
        (
            "task_types: [{attempts: 2}]",
            vec![format!("task_types[0].name: is missing: {typed}")],
        ),
        (
            "api: {port: 65536, prot: 1}\ncolour: 1\nlog: {format: xml}\n",
            vec![
                "api.port: expected a whole number from 0 to 65535, got `65536` (my.yaml:2)".into(),
                "api.prot: unknown key; did you mean `port`? (my.yaml:2)".into(),
                "colour: unknown key; known here: task_types, api, tasks, schedules, requests, manager, flamenco, rabbitmq, endpoint, http_worker, security, log, insecure_transport (my.yaml:3)".into(),
                "log.format: expected `text` or `json`, got `xml` (my.yaml:4)".into(),
            ],
        ),
        ("api: 5", vec!["api: expected a map, got `5` (my.yaml:2)".into()]),
        ("api: {port: '80'}", vec!["api.port: expected a whole number from 0 to 65535, got `80` (my.yaml:2)".into()]),
        ("api: {host: here}", vec!["api.host: expected an IP address such as `127.0.0.1` or `::`, or `localhost`, got `here` (my.yaml:2)".into()]),
        ("tasks:\n  retention: 30", vec![format!("tasks.retention: expected {span}, from 1ms to 3650d, got `30` (my.yaml:3)")]),
        (
            "api: {wait_for_endpoints_timeout: -1}",
            vec![format!("api.wait_for_endpoints_timeout: expected {span}, or a number of seconds, from 1ms to 1d, got `-1` (my.yaml:2)")],
        ),
        (
            "api: {wait_for_endpoints_timeout: 1h}\ntasks: {expires_after: 1h}",
            vec![
                "api.wait_for_endpoints_timeout: the time-out for receiving (1h) must be shorter than the task's life (expires_after 1h) \
                 for type `worker` (my.yaml:2)"
                    .into(),
            ],
        ),
        (
            "endpoint: {remember: 24h}",
            vec!["endpoint.remember: expected at least 1d1h (the longest expires_after and an hour), got 1d: a task could run twice (my.yaml:2)".into()],
        ),
        (
            "api: {body_limit: 1GiB}",
            vec!["api.body_limit: expected a size such as `256KiB`, `1MiB` or a number of bytes, from 1KiB to 8MiB, got `1GiB` (my.yaml:2)".into()],
        ),
        (
            "manager:\n  db:\n    uri: postgres://u:hunter2@h/d\n    verbose: hunter2@x",
            vec![
                format!("manager.db.uri: {uri}, got another text (my.yaml:4)"),
                "manager.db.verbose: expected true or false, got a text with `@`, not shown since it may hold a password (my.yaml:5)".into(),
            ],
        ),
        (
            "manager: {message_queue: {host: h, username: u, password: 123, exchange: 'a b', port: 0}}",
            vec![
                "manager.message_queue.exchange: expected 1 to 60 characters out of A-Z a-z 0-9 . _ -, got `a b` (my.yaml:2)".into(),
                "manager.message_queue.password: expected a text (a number needs quotes), got a number (my.yaml:2)".into(),
                "manager.message_queue.port: expected a whole number from 1 to 65535, got `0` (my.yaml:2)".into(),
            ],
        ),
        (
            "api: {port: 5672}\nmanager: {message_queue: {host: localhost, username: u, password: p}}",
            vec!["api.port: 5672 is the port of manager.message_queue on this host (my.yaml:2)".into()],
        ),
        ("log: {filter: 'a=b=c'}", vec!["log.filter: expected a log filter such as `info` or `info,tasker=debug`, got `a=b=c` (my.yaml:2)".into()]),
        ("a.b[7]: 1", vec!["(a key that is not a word): unknown key (my.yaml:2)".into()]),
        ("api: [", vec!["not valid YAML: look at quotes, brackets, indentation and colons here or just above (my.yaml:2)".into()]),
        ("api: {port: 1, port: 2}", vec!["the key `port` is given twice (my.yaml:2)".into()]),
        ("---\napi: {}\n---\n", vec!["expected one YAML document, got several (my.yaml:3)".into()]),
        ("[1]", vec!["expected a map of sections such as `api:` (my.yaml)".into()]),
    ];
    for (text, expected) in table {
        let whole = if text.starts_with(['{', '[', '-']) || text.contains("task_types") {
            text.to_owned()
        } else {
            format!("{worker}{text}")
        };
        assert_eq!(problems(&whole, &Environment::default()), expected, "{whole}");
    }
}

#[test]
fn refuses_bad_variables() {
    let environment = Environment::of([
        ("TASKER_API__PORT", "http"),
        ("TASKER_API__PROT", "1"),
        ("TASKER_MANAGER__DB__URI", "hunter2"),
        ("TASKER_X__Y__Z", "1"),
        ("TASKER_LOG__FORMAT__DEEP", "1"),
        ("LIMIT", "hunter2"),
    ]);
    let uri = "expected `mysql://user:password@host:port/database` (other characters than letters and digits in user and password \
               percent-encoded) or `sqlite:///path/to/file`";
    assert_eq!(
        problems("task_types: [worker]\napi: {body_limit: {LIMIT}, host: {UNSET}}", &environment),
        [
            "api.body_limit: expected a size such as `256KiB`, `1MiB` or a number of bytes, from 1KiB to 8MiB, got the value of `LIMIT` (my.yaml:2)",
            "api.host: the environment variable `UNSET` is not set (my.yaml:2)",
            "api.port: expected a whole number from 0 to 65535, got `http` (the environment variable TASKER_API__PORT)",
            "api.prot: unknown key; did you mean `port`? (the environment variable TASKER_API__PROT)",
            "log.format: expected `text` or `json`, got a map (the environment variable TASKER_LOG__FORMAT__DEEP)",
            &format!(
                "manager.db.uri: {uri}, got another text (the environment variable TASKER_MANAGER__DB__URI)"
            ),
            "x: unknown key; known here: task_types, api, tasks, schedules, requests, manager, flamenco, rabbitmq, endpoint, http_worker, security, log, insecure_transport (the environment variable TASKER_X__Y__Z)",
        ]
    );
}

#[test]
fn warns_of_what_is_rarely_meant() {
    let text = "task_types: [{name: worker, time_limit: 2d}]
api: {host: 0.0.0.0}
insecure_transport: true
manager:
  db: {uri: 'mysql://u:hunter2@db.example/tasker'}
  message_queue: {host: mq.example, username: u, password: hunter2, port: 5671}";
    assert_eq!(
        warnings(text),
        [
            "api.host: tokens and tasks cross the network to 0.0.0.0 in the clear: set api.tls (my.yaml:2)",
            "manager.db.uri: the connection falls back to plain text when the server offers no TLS: add `?ssl-mode=VERIFY_IDENTITY` (my.yaml:5)",
            "manager.message_queue.port: 5671 is the usual port with TLS (my.yaml:6)",
            "manager.message_queue.tls: passwords and tasks cross the network to mq.example in the clear: set tls: true (the default)",
            "task_types[0].time_limit: an attempt may run for 2d, but the task is given up after 1d (my.yaml:1)",
        ]
    );
    for (apiurl, exposed) in [
        ("http://mq.example:15672/api", true),
        ("http://10.0.0.7/api", true),
        ("https://mq.example:15671/api", false),
        ("http://localhost:15672/api", false),
        ("http://127.0.0.1:15672/api", false),
        ("http://[::1]:15672/api", false),
    ] {
        let text = format!(
            "task_types: [worker]\ninsecure_transport: true\nrabbitmq: {{apiurl: '{apiurl}', username: u, password: hunter2}}"
        );
        let told = warnings(&text);
        let expected = |told: &String| {
            told.starts_with("rabbitmq.apiurl: the administrator's password crosses the network to ")
        };
        assert_eq!(
            (told.len(), told.iter().all(expected)),
            (usize::from(exposed), true),
            "{apiurl}: {told:?}"
        );
    }
    let mode = problems(
        "task_types: [worker]\nmanager: {db: {uri: 'mysql://u:hunter2@h/t?ssl-mode=VERIFY'}}",
        &Environment::default(),
    );
    assert!(
        mode.len() == 1
            && mode[0].starts_with("manager.db.uri: ssl-mode is one of")
            && !mode[0].contains("hunter2"),
        "{mode:?}"
    );
    let environment = Environment::of([("TASKER_API_PORT", "1")]);
    let slip = loaded("task_types: [worker]", &environment).expect("valid").warnings;
    assert_eq!(
        slip.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "api.port: `TASKER_API_PORT` has no effect: levels are separated by two underscores, `TASKER_API__PORT`"
        ]
    );
}

#[test]
fn a_schedule_whose_times_never_come_is_told() {
    for (cron, never) in [
        ("0 0 31 4 *", true),
        ("0 0 30 2 *", true),
        ("0 0 31 2,4,6,9,11 *", true),
        ("0 0 0 1 1 * 2020", true),
        ("0 0 29 2 *", false),
        ("0 0 31 4 5", false),
        ("0 0 31 * *", false),
        ("30 3 * * 1-5", false),
    ] {
        let told = warnings(&format!(
            "task_types: [{{name: worker, expect: known}}]\nschedules:\n  - {{name: s, type: worker, cron: \"{cron}\"}}"
        ));
        let expected = format!(
            "schedules[0].cron: `{cron}` has no time from now on, so schedule `s` never submits a task (my.yaml:3)"
        );
        assert_eq!(told, Vec::from_iter(never.then_some(expected)), "{cron}");
    }
}

#[test]
fn whom_a_scheduled_task_is_for_is_said() {
    for (policy, endpoints, warned) in [
        ("worker", "[]", true),
        ("{name: worker, expect: subscribed}", "[]", false),
        ("{name: worker, expect: known}", "[]", false),
        ("worker", "[a]", false),
        ("{name: worker, delivery: queue}", "[]", false),
    ] {
        let told = warnings(&format!(
            "task_types: [{policy}]\nschedules:\n  - {{name: s, type: worker, cron: \"30 3 * * *\", endpoints: {endpoints}}}"
        ));
        let expected = "schedules[0].type: a task of `s` is for the endpoints that are there at its time";
        assert_eq!(told.first().is_some_and(|told| told.starts_with(expected)), warned, "{policy}: {told:?}");
        assert_eq!(told.len(), usize::from(warned), "{policy}: {told:?}");
    }
}

#[test]
fn certificate_and_key_come_together() {
    let tls =
        |text: &str| Config::from_yaml(&format!("task_types: [worker]\napi: {{host: 0.0.0.0, tls: {text}}}"));
    let config = tls("{certificate: a.pem, key: b.pem}").expect("valid");
    assert_eq!(config.api.tls, Some(TlsFiles { certificate: "a.pem".into(), key: "b.pem".into() }));
    assert_eq!(tls("{}").expect("valid").api.tls, None);
    assert_eq!(
        problems("task_types: [worker]\napi: {tls: {certificate: a.pem}}", &Environment::default()),
        ["api.tls.key: is missing: api.tls.certificate is of no use without it"]
    );
    assert!(
        warnings("task_types: [worker]\napi: {host: 0.0.0.0, tls: {certificate: a.pem, key: b.pem}}")
            .is_empty()
    );
}

#[test]
fn a_list_of_revoked_keys_that_nobody_reads_is_told() {
    for (signatures, told) in [
        (
            "off",
            vec![
                "http_worker.revocations: nobody reads the list of revoked keys while http_worker.signatures \
                 is off (my.yaml:2)",
            ],
        ),
        ("require", vec![]),
    ] {
        let text = format!(
            "task_types: [worker]\nhttp_worker: {{revocations: /etc/tasker/revoked.json, signatures: {signatures}}}"
        );
        assert_eq!(warnings(&text), told);
    }
}

#[test]
fn what_is_shown_loads_again_and_hides_secrets() {
    let loaded = loaded(SAMPLE, &Environment::default()).expect("valid");
    let shown = show::yaml(&loaded.entries, true);
    assert!(!shown.contains("..."), "{shown}");
    assert!(!shown.contains("tasker:tasker"), "{shown}");
    let again = checked(layers::merge_text("shown", &shown, &Environment::default(), &[]).expect("reads"))
        .expect("valid");
    assert_eq!(show::yaml(&again.entries, false), show::yaml(&loaded.entries, false));
    assert!(show::yaml(&loaded.entries, true).contains("  port: 8888  # my.yaml:3\n"), "{shown}");
}

#[test]
fn the_default_names_every_key() {
    let text =
        "task_types: [{name: worker, attempts: 5, backoff: {first: 250ms, max: 10s}, time_limit: 2h, expires_after: 2d, concurrency: 1,
        persistent: true, wait_for_endpoints_timeout: 1m},
        {name: q, delivery: queue, priority: 5, ttl: 1h, unique_key: /a, unique_scope: s, limit_key: /b, max_per_key: 2, max_running: 3,
        then: {type: q, priority: 7, payload: [a, c=/b]}, body: payload, trim: true, schema: '{}', run_as: x, answers: {ignore: [/pid]}}]
schedules: [{name: s, type: q, cron: '0 3 * * *', time_zone: Europe/Berlin, missed: all, payload: '1'},
        {name: t, type: worker, cron: '0 3 * * *', endpoints: [a]}]
endpoint: {handlers_dir: /x}"
            .to_owned()
            + &SAMPLE.replace("task_types: [worker, backup]", "");
    for entry in loaded(&text, &Environment::default()).expect("valid").entries {
        let key = entry.path.rsplit('.').next().unwrap_or_default();
        assert!(DEFAULT.contains(&format!("{key}:")), "{} is not described", entry.path);
    }
}

#[test]
fn what_answers_ignore_are_pointers() {
    let config = Config::from_yaml("task_types: [a, {name: b, answers: {ignore: [/pid, /disks/0/a~1b]}}]")
        .expect("valid");
    assert_eq!(config.task_types[0].ignored, Ignored::default());
    assert_eq!(config.ignored().of(&config.task_types[1].name), &Ignored::of(["/pid", "/disks/0/a~1b"]));
    let error = Config::from_yaml("task_types: [{name: b, answers: {ignore: [pid]}}]")
        .expect_err("no pointer")
        .to_string();
    assert!(
        error.contains("task_types[0].answers.ignore: expected a list of JSON pointers such as `/pid`"),
        "{error}"
    );
    let error = Config::from_yaml("task_types: [{name: b, answers: {ignored: [/pid]}}]")
        .expect_err("no such key")
        .to_string();
    assert!(error.contains("task_types[0].answers.ignored"), "{error}");
}

#[test]
fn configurations_never_show_secrets() {
    let text =
        SAMPLE.replace("\"...\"", "hunter2").replace("guest}", "hunter2}").replace(":tasker@", ":hunter2@");
    let loaded = loaded(&text, &Environment::default()).expect("valid");
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

/// A text as YAML reads it whatever it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Texts that mean something else without quotes, and any others.
fn texts() -> impl Strategy<Value = String> {
    const TRICKY: &[&str] = &[
        "no", "Null", "~", "0123", "1e5", "0x1d", "1_000", ".inf", "1s", "12:30", "- a", "a: b", "a #b", "{",
        "[]", "&a", "*a", "!a", "%a", "---",
    ];
    prop_oneof![
        proptest::sample::select(TRICKY).prop_map(str::to_owned),
        "[a-zA-Z0-9/._-]{1,12}",
        "[^\\p{Cc}=]{1,12}"
    ]
}

/// Spans of time of all sizes, as they are written.
fn written_spans(most: Duration) -> impl Strategy<Value = String> {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    prop_oneof![1..=most, (0..=most / 1_000_000).prop_map(|whole| whole * 1_000_000)]
        .prop_map(|micros| span::format(Duration::from_micros(micros)))
}

/// The texts of valid configurations that say much.
fn configurations() -> impl Strategy<Value = String> {
    const HOUR: Duration = Duration::from_secs(3600);
    let policy = ("t[a-zA-Z0-9_-]{0,10}", 1u32..=100, written_spans(HOUR), written_spans(HOUR), 1u32..=64, any::<bool>()).prop_map(
        |(name, attempts, first, time_limit, concurrency, persistent)| {
            format!(
                "  - {{name: {}, attempts: {attempts}, backoff: {{first: {first}, max: 1h}}, time_limit: {time_limit}, \
                 concurrency: {concurrency}, persistent: {persistent}}}\n",
                quoted(&name)
            )
        },
    );
    let api = (1u16.., written_spans(HOUR), 1u32..=8).prop_map(|(port, stop, size)| {
        format!("{{port: {port}, stop_timeout: {stop}, body_limit: {size}MiB}}")
    });
    let queue = ("[a-zA-Z0-9:.-]{1,12}", texts(), texts(), any::<String>(), any::<bool>()).prop_map(
        |(host, username, virtual_host, queue, tls)| {
            let [host, username, virtual_host, queue] = [host, username, virtual_host, queue].map(|text| quoted(&text));
            format!(
                "{{host: {host}, username: {username}, password: p, virtual_host: {virtual_host}, exchange: x, queue: {queue}, tls: {tls}}}"
            )
        },
    );
    let endpoint = (texts(), texts(), proptest::collection::vec(texts(), 0..3), 1u64..1000).prop_map(
        |(data, handlers, pass, size)| {
            let pass = pass.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
            format!(
                "{{data_dir: {}, handlers_dir: {}, pass_env: [{pass}], journal_limit: {size}MiB}}",
                quoted(&data),
                quoted(&handlers)
            )
        },
    );
    (proptest::collection::vec(policy, 1..4), api, queue, endpoint).prop_map(
        |(policies, api, queue, endpoint)| {
            format!(
                "task_types:\n{}api: {api}\nmanager:\n  message_queue: {queue}\nendpoint: {endpoint}\n",
                policies.concat()
            )
        },
    )
}

#[test]
fn most_of_the_configurations_made_for_the_next_test_are_valid() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut made = || configurations().new_tree(&mut runner).expect("a configuration").current();
    let valid = (0..100).filter(|_| loaded(&made(), &Environment::default()).is_ok()).count();
    assert!(valid > 30, "{valid} of 100");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_shown_reads_back_as_the_same(text in configurations()) {
        // A part that names a variable which is not set, such as `{A}`, is of no use, and not shown.
        if let Ok(first) = loaded(&text, &Environment::default()) && first.config.for_endpoint().is_ok() {
            let shown = show::yaml(&first.entries, false);
            let again = loaded(&shown, &Environment::default());
            let again = again.map_err(|error| TestCaseError::fail(format!("{error}\n{shown}")))?;
            // Passwords are not shown, neither here nor there.
            prop_assert_eq!(format!("{:?}", again.config), format!("{:?}", first.config), "{}", shown);
            prop_assert_eq!(show::yaml(&again.entries, false), shown);
        }
    }

    #[test]
    fn takes_any_text(text in "\\PC{0,200}") {
        let _ = problems(&text, &Environment::default());
    }

    #[test]
    fn takes_anything_like_yaml(text in "([a-z]{1,3}|task_types|api|port|\\{|\\}|\\[|\\]|:|,|-|\n|  |&a|\\*a|<<|'|\"|#|!|\\||>|%|---|~|0|[0-9]{1,20}|\\.inf|1s){0,60}") {
        let _ = problems(&text, &Environment::default());
    }

    #[test]
    fn takes_a_damaged_sample_without_telling_its_secrets(cut in 0usize..600, add in "[\\[\\]{}:*&!|>'\"%@`,#?-]{0,3}") {
        let mut text = SAMPLE.replace("...", "hunter2");
        let at = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.insert_str(at, &add);
        for problem in problems(&text, &Environment::default()) {
            prop_assert!(!problem.contains("hunter2"), "{}", problem);
        }
    }

    #[test]
    fn takes_any_variable(name in "TASKER_[A-Z_\\[\\]0-9.]{0,200}", value in "\\PC{0,20}") {
        let _ = problems("task_types: [worker]", &Environment::of([(name.as_str(), value.as_str())]));
    }
}

#[test]
fn takes_deep_and_large_texts() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(50_000),
        "- ".repeat(50_000),
        format!("a: &a [{}]", "*a,".repeat(1000)),
        "x".repeat(2 << 20),
    ] {
        assert!(!problems(&text, &Environment::default()).is_empty());
    }
}
