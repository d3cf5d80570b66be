//! `tasker token`, and the platform it guards, as they are typed.

use anyhow::{Context, ensure};

use crate::support::place::Place;

#[test]
fn a_secret_is_shown_once_and_kept_nowhere() -> anyhow::Result<()> {
    let place = Place::new()?;
    let made = place.good("token create --name ci --scope submit,read --type backup --expires 90d")?;
    let secret = made.out.trim();
    ensure!(secret.starts_with("tasker_") && secret.len() == 50 && made.out.lines().count() == 1, "{made:?}");
    ensure!(!made.err.contains(secret) && made.err.contains("ci (submit, read)"), "{made:?}");
    let listed = place.good("token list")?;
    let line = listed.out.lines().nth(1).context("a line")?;
    ensure!(line.starts_with("ci") && line.contains("submit,read") && line.contains("backup"), "{listed:?}");
    let listed = place.good("token list --json")?;
    let value: serde_json::Value = serde_json::from_str(&listed.out)?;
    ensure!(
        value[0]["name"] == "ci" && value[0]["expires_at"].is_string() && value[0].get("secret").is_none(),
        "{value}"
    );
    for file in std::fs::read_dir(place.path().join("tasker-data"))? {
        let bytes = std::fs::read(file?.path())?;
        ensure!(
            !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
            "the secret is on the disk"
        );
    }
    Ok(())
}

#[test]
fn a_token_that_ends_at_once_is_not_made() -> anyhow::Result<()> {
    let place = Place::new()?;
    for span in ["0s", "0d0h", "0"] {
        let refused = place.any(&format!("token create --name ci --scope read --expires {span}"))?;
        ensure!(refused.code == Some(1) && refused.err.contains(&format!("'{span}'")), "{refused:?}");
    }
    let refused = place.any("token create --name ci --scope read --expires 0s")?;
    ensure!(refused.err.contains("would end at once: expected a span such as `90d`"), "{refused:?}");
    Ok(())
}

#[test]
fn a_secret_goes_to_a_file_for_its_owner_alone() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new()?;
    let made = place.good("token create --name ci --scope read --out ci.token")?;
    let file = place.path().join("ci.token");
    let secret = std::fs::read_to_string(&file)?;
    ensure!(
        secret.starts_with("tasker_")
            && secret.ends_with('\n')
            && made.out.is_empty()
            && !made.err.contains(secret.trim()),
        "{made:?}"
    );
    ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    // What is there is kept, and no token is made that nobody has.
    let refused = place.any("token create --name other --scope read --out ci.token")?;
    ensure!(refused.code == Some(1) && refused.err.contains("ci.token"), "{refused:?}");
    let taken = place.any("token create --name ci --scope read --out new.token")?;
    ensure!(taken.code == Some(1) && !place.path().join("new.token").exists(), "{taken:?}");
    let listed = place.good("token list")?;
    ensure!(!listed.out.contains("other") && std::fs::read_to_string(&file)? == secret, "{listed:?}");
    Ok(())
}

#[test]
fn a_secret_of_others_is_taken_in() -> anyhow::Result<()> {
    let place = Place::new()?;
    let secret = "0123456789abcdef".repeat(8);
    std::fs::write(place.path().join("secret"), format!("{secret}\n"))?;
    let made = place.good("token create --name thunder --scope submit,read --secret-file secret")?;
    ensure!(made.out.is_empty() && !made.err.contains(&secret), "{made:?}");
    let same = place.fed("token create --name other --scope read --secret-file -", &secret)?;
    ensure!(
        same.code == Some(1)
            && same.err.contains("another token with this secret")
            && !same.err.contains(&secret),
        "{same:?}"
    );
    for bad in ["short", "", "two words of more than thirty-two characters"] {
        let said = place.fed("token create --name bad --scope read --secret-file -", bad)?;
        ensure!(said.code == Some(1) && said.err.contains("32 to 1024 characters"), "{said:?}");
    }
    place.fed("token create --name trial --scope read --weak --secret-file -", "short")?;
    ensure!(place.good("token list")?.out.contains("trial"));
    ensure!(
        place.fed("token create --name bad --scope read --weak --secret-file -", "")?.code == Some(1),
        "but not none at all"
    );
    ensure!(place.any("token create --name bad --scope read --weak")?.err.contains("--secret-file"));
    let taken = place.any("token create --name thunder --scope read")?;
    ensure!(
        taken.code == Some(1) && taken.err.contains("`tasker token revoke thunder`") && taken.out.is_empty(),
        "{taken:?}"
    );
    Ok(())
}

#[test]
fn what_is_revoked_is_gone() -> anyhow::Result<()> {
    let place = Place::new()?;
    ensure!(place.any("token list")?.err.contains("there is no directory ./tasker-data"));
    place.good("token create --name a --scope admin")?;
    place.good("token create --name b --scope work")?;
    let said = place.good("token revoke a")?;
    ensure!(said.err.contains("token a is revoked") && !said.err.contains("no token is left"), "{said:?}");
    ensure!(place.good("token revoke b")?.err.contains("no token is left"));
    let gone = place.any("token revoke b")?;
    ensure!(
        gone.code == Some(1) && gone.err.contains(r#"unknown token "b" (there are: none) in "#),
        "{gone:?}"
    );

    for name in ["c", "d"] {
        place.good(&format!("token create --name {name} --scope admin"))?;
    }
    ensure!(place.any("token revoke c --all")?.code == Some(1), "one or all");
    let said = place.good("token revoke --all")?;
    for text in ["token c is revoked", "token d is revoked", "no token is left"] {
        ensure!(said.err.contains(text), "{text} in {said:?}");
    }
    ensure!(place.good("token list")?.out.is_empty());
    Ok(())
}

#[test]
fn nothing_listens_to_others_without_a_token() -> anyhow::Result<()> {
    let place = Place::new()?;
    let said = place.any("up --listen 0.0.0.0:0 --data-dir there")?;
    ensure!(said.code == Some(1), "{said:?}");
    for word in
        ["0.0.0.0:", "without any token", "`tasker token create --name NAME --scope admin --data-dir there`"]
    {
        ensure!(said.err.contains(word), "{word} in {said:?}");
    }
    Ok(())
}

#[test]
fn an_api_process_does_not_either() -> anyhow::Result<()> {
    let place = Place::new()?;
    // Nobody answers at port 1: the broker is waited for, the tokens are not.
    let config = "task_types: [worker]\nmanager: {db: {uri: 'sqlite://DIR/ledger.db'}, message_queue: {host: 127.0.0.1, port: 1, username: u, password: p}}";
    std::fs::write(place.path().join("c.yaml"), config.replace("DIR", &place.path().display().to_string()))?;
    let early = place.any("token create --name a --scope admin --config c.yaml")?;
    ensure!(
        early.code == Some(1) && early.err.contains("tasker initialize --database") && early.out.is_empty(),
        "{early:?}"
    );
    std::fs::write(place.path().join("up.yaml"), "task_types: [worker]")?;
    let none = place.any("token create --name a --scope admin --config up.yaml")?;
    ensure!(
        none.code == Some(1)
            && none.err.contains("for the database of `tasker up`, name its directory with --data-dir"),
        "{none:?}"
    );
    place.good("initialize -d --config c.yaml")?;
    let said = place.any("api --listen 0.0.0.0:0 --config c.yaml")?;
    ensure!(
        said.code == Some(1)
            && said.err.contains("`tasker token create --name NAME --scope admin --config c.yaml`"),
        "{said:?}"
    );
    place.good("token create --name a --scope admin --config c.yaml")?;
    ensure!(place.good("token list --config c.yaml")?.out.contains("admin"));
    let warned = place.good("token create --name b --scope read --type wroker --config c.yaml")?;
    let text =
        r#"tasker: warning: --type: unknown task type "wroker" (configured: worker); did you mean worker?"#;
    ensure!(warned.err.contains(text), "{warned:?}");
    Ok(())
}

#[test]
fn a_guarded_platform_is_used_with_a_token() -> anyhow::Result<()> {
    let place = Place::new()?;
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    for (name, text) in [("server.cert", certificate.pem()), ("server.key", key.serialize_pem())] {
        std::fs::write(place.path().join(name), text)?;
    }
    for (file, scopes) in [("all", "submit,read"), ("some", "read")] {
        let made = place.good(&format!("token create --name {file} --scope {scopes}"))?;
        std::fs::write(place.path().join(file), made.out)?;
    }
    let up = place.up("--listen 127.0.0.1:0 --tls-certificate server.cert --tls-key server.key")?;
    let api = &up.api;
    ensure!(api.starts_with("https://127.0.0.1:"), "{api}");
    let warned = place.good("token create --name typo --scope read --type wroker")?;
    let text = r#"tasker: warning: --type: unknown task type "wroker" (its endpoints have: backup, worker); did you mean worker?"#;
    ensure!(warned.err.contains(text), "{warned:?}");

    let submit = format!("submit worker --payload 0 --api {api}");
    let done = place.good(&format!("{submit} --ca-file server.cert --token-file all"))?;
    ensure!(done.out.starts_with("CREATED worker") && done.err.is_empty(), "{done:?}");
    let careless = place.good(&format!("{submit} --insecure --token-file all"))?;
    ensure!(careless.err.contains("warning: --insecure"), "{careless:?}");
    let secret = std::fs::read_to_string(place.path().join("all"))?;
    let from_environment = place
        .command(&format!("list worker --api {api} --ca-file server.cert"))
        .env("TASKER_TOKEN", secret.trim())
        .output()?;
    ensure!(from_environment.status.success(), "{from_environment:?}");
    for (more, wanted) in [
        ("--token-file all", "is not trusted"),
        ("--ca-file server.cert", "--token-file"),
        ("--ca-file server.cert --token-file server.cert", "does not hold a token"),
        ("--ca-file server.cert --token-file some", "the scope `submit`"),
        ("--ca-file all --token-file all", "there is no certificate"),
        ("--ca-file nowhere --token-file all", "cannot read nowhere"),
    ] {
        let said = place.any(&format!("{submit} {more}"))?;
        ensure!(
            said.code == Some(1) && said.err.contains(wanted) && !said.err.contains(secret.trim()),
            "{wanted} in {said:?}"
        );
    }
    let guess = "tasker_somebody-s-guess-at-a-secret";
    ensure!(
        !place
            .command(&format!("list worker --api {api} --ca-file server.cert"))
            .env("TASKER_TOKEN", guess)
            .output()?
            .status
            .success()
    );
    let log = place.log()?;
    for (code, token) in [("insufficient_scope", "token=\"some\""), ("invalid_token", "")] {
        let told = |line: &str| {
            [" WARN ", "refused: ", "peer=\"127.0.0.1\"", code, token].iter().all(|part| line.contains(part))
        };
        ensure!(log.lines().any(told), "{code} in {log}");
    }
    ensure!(!log.contains(guess) && !log.contains(secret.trim()), "a secret in {log}");
    Ok(())
}

#[test]
fn certificates_come_with_their_keys() -> anyhow::Result<()> {
    let place = Place::new()?;
    ensure!(place.any("up --tls-certificate a.pem")?.err.contains("--tls-key"));
    let said = place.any("up --listen 127.0.0.1:0 --tls-certificate a.pem --tls-key b.pem")?;
    ensure!(said.code == Some(1) && said.err.contains("cannot read a.pem"), "{said:?}");
    Ok(())
}

#[test]
fn a_quota_is_shown_as_it_was_given() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.good(
        "token create --name shop --scope submit,read:own --rate 50/s --burst 200 --open 10000 --endpoints 100 --waits 64 --bytes 10MiB/s",
    )?;
    let listed = place.good("token list")?;
    for word in ["submit,read:own", "50/s, burst 200, open 10000, endpoints 100, waits 64, 10MiB/s"] {
        ensure!(listed.out.contains(word), "{word} in {listed:?}");
    }
    let listed: serde_json::Value = serde_json::from_str(&place.good("token list --json")?.out)?;
    let quota = serde_json::json!({
        "rate": "50/s", "burst": 200, "open": 10000, "endpoints": 100, "waits": 64, "bytes": 10_485_760,
    });
    ensure!(listed[0]["quota"] == quota, "{listed}");
    for (bad, expected) in [
        ("--rate 50", "50/s, 600/min or 1000/h"),
        ("--rate 0/s", "50/s, 600/min or 1000/h"),
        ("--bytes 10MiB", "such as 10MiB/s"),
        ("--burst 5", "--rate"),
        ("--open 0", "--open"),
    ] {
        let said = place.any(&format!("token create --name bad --scope read {bad}"))?;
        ensure!(said.code == Some(1) && said.err.contains(expected), "{bad}: {said:?}");
    }
    Ok(())
}
