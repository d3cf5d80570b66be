//! `tasker config check --for`: what the command that is named misses, and what it does not read.

use anyhow::ensure;

use crate::support::place::Place;

/// Names files that are not there in every part of a configuration.
const FILES: &str = "
task_types: [backup, http, {name: builds, delivery: queue}]
manager:
  db: {uri: 'mysql://u:p@127.0.0.1/t?ssl-mode=VERIFY_IDENTITY&ssl-ca=none/d.pem'}
  message_queue: {host: 127.0.0.1, username: u, password: p, exchange: e, tls: {ca: none/b.pem, certificate: none/c.pem, key: none/k.pem}}
rabbitmq: {apiurl: 'https://127.0.0.1:15671/api', ca: none/m.pem, username: a, password: b}
endpoint: {labels_file: none/labels, http: {ca_bundle: none/e.pem}}
http_worker: {http: {allow: [bmc1], ca_bundle: none/h.pem, client_certificate: none/i.pem, client_key: none/j.pem}}
";

#[test]
fn each_command_is_told_of_the_files_that_it_misses() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.write("c.yaml", FILES)?;
    let broker = ["b", "c", "k"].map(|name| format!("none/{name}.pem does not exist"));
    let [http, own] = [["h", "i", "j"], ["d", "m", "e"]]
        .map(|names| names.map(|name| format!("none/{name}.pem does not exist")));
    let [database, management, bundle] = &own;
    let labels = "endpoint.labels_file: none/labels does not exist".to_owned();
    let all = [&broker[..], &http, &own, std::slice::from_ref(&labels)].concat();
    for (role, missed) in [
        ("api", [&broker[..], std::slice::from_ref(database)].concat()),
        ("endpoint", [&broker[..], &[bundle.clone(), labels.clone()]].concat()),
        ("worker", [&broker[..], std::slice::from_ref(&labels)].concat()),
        ("http-worker", [&broker[..], &http].concat()),
        ("initialize", vec![database.clone(), management.clone()]),
    ] {
        let said = place.refused(&format!("config check --for {role} --config c.yaml"))?;
        for text in &all {
            ensure!(said.contains(text.as_str()) == missed.contains(text), "{role}, {text}: {said}");
        }
    }
    let worker = place.good("config check --for worker --api http://127.0.0.1:1 --config c.yaml")?;
    ensure!(worker.err.contains(&labels) && !worker.err.contains(".pem"), "{worker:?}");
    // An endpoint starts without these, so they are warnings.
    for name in ["b", "c", "k"] {
        place.write(&format!("none/{name}.pem"), "")?;
    }
    let endpoint = place.good("config check --for endpoint --config c.yaml")?;
    let warned = format!("tasker: warning: {labels}");
    ensure!(endpoint.out == "ok\n" && endpoint.err.contains(&warned), "{endpoint:?}");
    std::fs::create_dir(place.path().join("none/m.pem"))?;
    let said = place.refused("config check --for initialize --config c.yaml")?;
    ensure!(said.contains("rabbitmq.ca: none/m.pem is a directory; expected a file"), "{said}");
    Ok(())
}

#[test]
fn a_worker_over_the_api_needs_no_configuration() -> anyhow::Result<()> {
    let place = Place::new()?;
    ensure!(place.good("config check --for worker --api http://127.0.0.1:1")?.out == "ok\n");
    // A configuration that is named has its types.
    place.write("c.yaml", "task_types: [backup]")?;
    let said = place.refused("config check --for worker --api http://127.0.0.1:1 --config c.yaml")?;
    ensure!(said.contains("has no type with `delivery: queue`"), "{said}");
    Ok(())
}

#[test]
fn an_identity_is_checked_or_refused() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.write(
        "c.yaml",
        "
task_types: [backup, {name: builds, delivery: queue}]
manager: {message_queue: {host: 127.0.0.1, exchange: e}}
http_worker: {http: {allow: [bmc1]}}
",
    )?;
    place.write(
        "web1.json",
        r#"{"endpoint": "web1", "virtual_host": "/", "exchange": "e", "username": "u", "password": "p", "task_types": ["backup"]}"#,
    )?;
    let check = |more: &str| format!("config check --config c.yaml {more}");
    let lacking = place.refused(&check("--for endpoint"))?;
    ensure!(lacking.contains("manager.message_queue.username"), "{lacking}");
    ensure!(place.good(&check("--for endpoint --identity web1.json"))?.out == "ok\n");
    ensure!(place.good(&check("--for endpoint --for worker --identity web1.json"))?.out == "ok\n");
    for more in ["", "--for http-worker", "--for endpoint --for api", "--for worker --api http://127.0.0.1:1"]
    {
        let said = place.refused(&check(&format!("{more} --identity web1.json")))?;
        ensure!(
            said.contains("use it with --for endpoint, or with --for worker without --api"),
            "{more}: {said}"
        );
    }
    // Beside a worker over HTTP, which reads none, it is still the endpoint's.
    let beside = "--for endpoint --for worker --api http://127.0.0.1:1 --identity web1.json";
    ensure!(place.any(&check(beside))?.code == Some(0));
    // The environment names one for all commands of a machine.
    place.write("whole.yaml", "task_types: [backup]\nmanager: {message_queue: {host: 127.0.0.1, username: u, password: p, exchange: e}}")?;
    let with_variable = |more: &str| {
        let mut command = place.command(&format!("config check --config whole.yaml {more}"));
        let output = command.env("TASKER_IDENTITY", "nowhere.json").output()?;
        anyhow::Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    ensure!(with_variable("")?.0 == Some(0));
    let (code, said) = with_variable("--for endpoint")?;
    ensure!(code == Some(1) && said.contains("--identity nowhere.json: cannot be read"), "{said}");
    Ok(())
}
