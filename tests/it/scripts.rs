//! The shell scripts of the repository: all of them pass shellcheck, and those of the Thunder example do what
//! they say.
//!
//! Nothing here needs a server, a privilege or systemd: the scripts write under `DESTDIR` and meet a `tasker`
//! and a `crontab` of ours.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use serde_json::json;
use tasker_services::find;
use tempfile::TempDir;

#[test]
fn shellcheck_is_content() -> anyhow::Result<()> {
    let mut scripts = Vec::new();
    collect(&checkout(""), &mut scripts)?;
    for known in [
        ".ci/run",
        "config/examples/thunder/warmers",
        "supervisor/supervisord",
        "supervisor/thunder/server-init.sh",
    ] {
        ensure!(scripts.contains(&checkout(known)), "{known} is not among the scripts that were found");
    }
    let output = Command::new(find("shellcheck", &["/usr/bin"])?)
        .args(["--color=never", "--"])
        .args(&scripts)
        .output()?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(())
}

/// The shell scripts below a directory, as the file system has them: not every checkout has git.
///
/// Directories of what was built or installed are left out.
fn collect(directory: &Path, scripts: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let built =
            ["target", ".git", "tasker-data", "node_modules"].iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && !built {
            collect(&entry.path(), scripts)?;
        } else if kind.is_file() && is_shell_script(&entry.path())? {
            scripts.push(entry.path());
        }
    }
    Ok(())
}

fn is_shell_script(path: &Path) -> anyhow::Result<bool> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(64).read_to_end(&mut start)?;
    let start = String::from_utf8_lossy(&start);
    let program = start
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("#!"))
        .and_then(|line| line.rsplit(['/', ' ']).next());
    Ok(program.is_some_and(|program| ["sh", "bash", "dash"].contains(&program))
        || path.extension().is_some_and(|ext| ext == "sh"))
}

#[test]
fn a_server_is_set_up_once_and_renewed() -> anyhow::Result<()> {
    let server = Server::new()?;
    let refused = server.script("deploy.sh", &[])?;
    ensure!(
        !refused.status.success() && said(&refused).contains("set the server up with server-init.sh"),
        "{}",
        said(&refused)
    );
    ensure!(server.files()?.is_empty(), "a deployment that was refused leaves {:?}", server.files()?.keys());

    let first = server.succeeds("server-init.sh", &["--elastic-apm-url", "http://apm.example.net:8200"])?;
    for skipped in [
        "daemon-reload",
        "enable --now tasker-thunder-api.service",
        "enable --now tasker-thunder-worker.service",
    ] {
        ensure!(first.contains(&format!("skipped: systemctl {skipped}")), "{skipped}: {first}");
    }
    let before = server.files()?;
    let modes: BTreeMap<&str, u32> = before.iter().map(|(name, (mode, _))| (name.as_str(), *mode)).collect();
    let expected = [
        ("etc/systemd/system/tasker-thunder-api.service", 0o644),
        ("etc/systemd/system/tasker-thunder-worker.service", 0o644),
        ("etc/tasker/thunder", 0o755),
        ("etc/tasker/thunder.config.yaml", 0o644),
        ("etc/tasker/thunder.env", 0o640),
        ("etc/tasker/thunder.token", 0o640),
        ("etc/tasker/thunder/handlers", 0o755),
        ("etc/tasker/thunder/handlers/payload.sh", 0o644),
        ("etc/tasker/thunder/handlers/runners", 0o755),
        ("etc/tasker/thunder/handlers/warmers", 0o755),
        ("etc/tasker/thunder/prune-images.sh", 0o755),
        ("etc/tasker/thunder/server.cert", 0o644),
        ("etc/tasker/thunder/server.key", 0o640),
        ("usr/local/bin/tasker", 0o755),
        ("var/lib/tasker-thunder", 0o700),
        ("var/lib/tasker-thunder/tasker.db", 0o640),
    ];
    let parents = [
        "etc", "etc/systemd", "etc/systemd/system", "etc/tasker", "usr", "usr/local", "usr/local/bin", "var",
        "var/lib",
    ];
    assert_eq!(modes, expected.into_iter().chain(parents.map(|parent| (parent, 0o755))).collect());
    assert_eq!(server.text("etc/tasker/thunder.config.yaml")?, "task_types: [warmers, runners]\n");
    let environment = server.text("etc/tasker/thunder.env")?;
    ensure!(environment.contains("\nELASTIC_APM_URL=http://apm.example.net:8200\n"), "{environment}");

    let token = server.text("etc/tasker/thunder.token")?;
    ensure!(
        token.len() == 128 && token.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "a token of {} bytes",
        token.len()
    );
    assert_eq!(fs::read_to_string(server.dir.path().join("imported"))?, token);
    let crontab = fs::read_to_string(server.dir.path().join("crontab"))?;
    ensure!(
        crontab.starts_with("0 0 * * * theirs\n") && crontab.contains(" docker system prune --force "),
        "{crontab}"
    );
    ensure!(crontab.contains(" /etc/tasker/thunder/prune-images.sh "), "{crontab}");

    // What an operator has written stays.
    let apm = "ELASTIC_APM_URL=http://other.example.net:8200\n";
    fs::write(server.root().join("etc/tasker/thunder.env"), apm)?;
    let before = BTreeMap::from_iter(
        before.into_iter().chain([("etc/tasker/thunder.env".to_owned(), (0o640, apm.into()))]),
    );
    let second = server.succeeds("server-init.sh", &[])?;
    ensure!(second.contains("nothing was changed"), "{second}");
    assert_eq!(differing(&before, &server.files()?), [] as [&str; 0]);
    assert_eq!(fs::read_to_string(server.dir.path().join("crontab"))?, crontab);

    fs::write(server.dir.path().join("thunder.config.yaml"), "task_types: [warmers, runners] # new\n")?;
    executable(&server.dir.path().join("tasker"), &format!("{FAKE_TASKER}# new\n"))?;
    let crontab_of_old = crontab.replace("docker system prune", "docker container prune");
    fs::write(server.dir.path().join("crontab"), crontab_of_old + "1 1 * * * theirs too\n")?;
    let deployed = server.succeeds("deploy.sh", &[])?;
    let renewed =
        ["etc/tasker/thunder.config.yaml", "etc/tasker/thunder.config.yaml.previous", "usr/local/bin/tasker"];
    assert_eq!(differing(&before, &server.files()?), renewed);
    assert_eq!(fs::read_to_string(server.dir.path().join("crontab"))?, crontab + "1 1 * * * theirs too\n");
    let steps = [
        "daemon-reload",
        "restart tasker-thunder-api.service",
        "the worker finishes",
        "restart tasker-thunder-worker.service",
    ];
    let places: Vec<_> = steps.iter().map(|step| deployed.find(step)).collect();
    ensure!(places.is_sorted() && places[0].is_some(), "{deployed}");

    let asked = fs::read_to_string(server.dir.path().join("asked"))?;
    let data = server.root().join("var/lib/tasker-thunder").display().to_string();
    let file = server.root().join("etc/tasker/thunder.token").display().to_string();
    let expected = format!(
        "token create --name thunder --scope submit,read,work --secret-file {file} --data-dir {data}\ntoken list --data-dir {data}\n"
    );
    assert_eq!(asked, expected);
    for (text, whose) in [
        (&first, "the first run"),
        (&second, "the second run"),
        (&deployed, "the deployment"),
        (&asked, "a command line"),
    ] {
        ensure!(!text.contains(&token), "the token is in what came of {whose}");
    }
    Ok(())
}

#[test]
fn the_certificate_is_one_that_workers_accept() -> anyhow::Result<()> {
    let server = Server::new()?;
    server.succeeds("server-init.sh", &[])?;
    let certificate = CertificateDer::from_pem_file(server.root().join("etc/tasker/thunder/server.cert"))?;
    let key = PrivateKeyDer::from_pem_file(server.root().join("etc/tasker/thunder/server.key"))?;
    let provider = Arc::new(ring::default_provider());
    CertifiedKey::from_der(vec![certificate.clone()], key, &provider)
        .context("key and certificate are no pair")?;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    for name in ["localhost", "127.0.0.1"] {
        let name = ServerName::try_from(name)?;
        verifier
            .verify_server_cert(&certificate, &[], &name, &[], UnixTime::now())
            .with_context(|| format!("{name:?}"))?;
    }
    Ok(())
}

#[test]
fn only_old_images_of_thunder_are_removed() -> anyhow::Result<()> {
    let dir = TempDir::new()?;
    executable(&dir.path().join("docker"), FAKE_DOCKER)?;
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH")?);
    let output = Command::new(checkout("supervisor/thunder/prune-images.sh"))
        .env("PATH", path)
        .env("FAKE", dir.path())
        .output()?;
    ensure!(output.status.success(), "{}", said(&output));
    let removed = fs::read_to_string(dir.path().join("removed"))?;
    assert_eq!(removed, "warm-db:old\nwarm-thunder-php:old\nburda/thunder-performance:old\n");
    Ok(())
}

/// Has an old and a new image of any name, and removes none that it is told to.
const FAKE_DOCKER: &str = r#"#!/bin/sh
case "$2 $5" in
  "ls "*) printf '%s\n' "$5:old" "$5:new" ;;
  "inspect "*:old) date --utc --date '-8 days' +%Y-%m-%dT%H:%M:%S.123456789Z ;;
  "inspect "*:new) date --utc --date '-6 days' +%Y-%m-%dT%H:%M:%S.123456789Z ;;
  "rm ") echo "$3" >>"$FAKE/removed" && exit 1 ;;
esac
"#;

/// A machine to be: an empty `DESTDIR`, and beside it what the scripts find on their path.
struct Server {
    dir: TempDir,
}

/// Keeps tokens as the real one does, names in a database and no secrets in any output, and notes what it was
/// asked.
const FAKE_TASKER: &str = r#"#!/bin/sh
echo "$*" >>"$FAKE/asked"
verb=$1-$2
while [ $# -gt 0 ]; do
  case $1 in
    --data-dir) data=$2 ;;
    --name) name=$2 ;;
    --secret-file) secret=$2 ;;
  esac
  shift
done
case $verb in
  token-create) echo "1  $name  submit,read,work" >>"$data/tasker.db" && cp "$secret" "$FAKE/imported" ;;
  token-list) cat "$data/tasker.db" ;;
  *) exit 1 ;;
esac
"#;

const FAKE_CRONTAB: &str = r#"#!/bin/sh
case $* in
  -l) cat "$FAKE/crontab" ;;
  -) cat >"$FAKE/crontab" ;;
  *) exit 1 ;;
esac
"#;

impl Server {
    fn new() -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        fs::create_dir_all(dir.path().join("path"))?;
        executable(&dir.path().join("path/crontab"), FAKE_CRONTAB)?;
        executable(&dir.path().join("tasker"), FAKE_TASKER)?;
        fs::write(dir.path().join("crontab"), "0 0 * * * theirs\n")?;
        fs::write(dir.path().join("thunder.config.yaml"), "task_types: [warmers, runners]\n")?;
        Ok(Self { dir })
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn script(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let path = std::env::var("PATH")?;
        let mut script = Command::new(checkout("supervisor/thunder").join(name));
        script
            .args(["--no-systemd", "--no-user", "--binary"])
            .arg(self.dir.path().join("tasker"))
            .arg("--config")
            .arg(self.dir.path().join("thunder.config.yaml"))
            .args(arguments)
            .env("DESTDIR", self.root())
            .env("FAKE", self.dir.path())
            .env("PATH", format!("{}:{path}", self.dir.path().join("path").display()));
        script.output().with_context(|| name.to_owned())
    }

    /// What a script says on its way to success.
    fn succeeds(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.script(name, arguments)?;
        ensure!(output.status.success(), "{name} ends with {}: {}", output.status, said(&output));
        Ok(said(&output))
    }

    fn text(&self, name: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.root().join(name)).with_context(|| name.to_owned())
    }

    /// All files and directories with mode and content.
    fn files(&self) -> anyhow::Result<BTreeMap<String, (u32, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        let mut open = vec![self.root()];
        while let Some(directory) = open.pop() {
            if !directory.exists() {
                continue;
            }
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                let content = if path.is_dir() { Vec::new() } else { fs::read(&path)? };
                let mode = fs::metadata(&path)?.permissions().mode() & 0o7777;
                files.insert(path.strip_prefix(self.root())?.display().to_string(), (mode, content));
                if path.is_dir() {
                    open.push(path);
                }
            }
        }
        Ok(files)
    }
}

fn differing<'a, T: PartialEq>(
    before: &'a BTreeMap<String, T>,
    after: &'a BTreeMap<String, T>,
) -> Vec<&'a str> {
    let mut names: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|name| before.get(*name) != after.get(*name))
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn builds_get_their_arguments_as_they_were_submitted() -> anyhow::Result<()> {
    let awkward = [
        "main",
        "two words",
        "a 'b' \"c\"",
        "$(touch called) `id` $HOME",
        "; exit 1 #",
        "*",
        "\\n",
        "é \u{1F980}",
        " -x",
        "a-b",
        "0",
    ];
    for reader in ["jq", "python3"] {
        let thunder = Thunder::new(reader)?;
        let home = thunder.home().display().to_string();
        for text in awkward {
            let called = thunder.called(
                "warmers",
                json!({"branchTag": text, "imageTag": text, "composeType": text}),
                0,
            )?;
            let (image, file) =
                (format!("burda/thunder-performance:{text}"), format!("{home}/docker-compose.{text}.yml"));
            assert_eq!(
                called,
                ["--tag", text, "--image", &image, "--file", &file, "http://apm:8200"],
                "{reader}"
            );
            let called = thunder.called(
                "runners",
                json!({"branchTag": text, "imageTag": "-", "composeType": text}),
                0,
            )?;
            assert_eq!(called, ["--tag", text, "--file", &file, "http://apm:8200"], "{reader}");
        }
        let called = thunder.called(
            "warmers",
            json!({"branchTag": "b", "imageTag": "-i", "composeType": "default"}),
            0,
        )?;
        assert_eq!(called[3], "burda/thunder-performance:-i", "{reader}: it is no argument of its own");
        fs::write(thunder.home().join("runner/docker-compose.default.yml"), "")?;
        let called = thunder.called("runners", json!({"branchTag": "b", "composeType": "default"}), 0)?;
        assert_eq!(
            called[3],
            format!("{home}/runner/docker-compose.default.yml"),
            "{reader}: the build's own goes first"
        );
        for code in [1, 75, 255] {
            thunder.called("runners", json!({"branchTag": "main", "composeType": "default"}), code)?;
        }
    }
    Ok(())
}

#[test]
fn what_no_build_can_use_is_refused() -> anyhow::Result<()> {
    let payloads = [
        (
            json!({"branchTag": "-x", "imageTag": "i", "composeType": "default"}),
            "branchTag begins with a dash",
        ),
        (
            json!({"branchTag": "--", "imageTag": "i", "composeType": "default"}),
            "branchTag begins with a dash",
        ),
        (
            json!({"branchTag": "a\nb", "imageTag": "i", "composeType": "default"}),
            "branchTag has to be a text",
        ),
        (
            json!({"branchTag": "a\u{0}b", "imageTag": "i", "composeType": "default"}),
            "branchTag has to be a text",
        ),
        (json!({"branchTag": "", "imageTag": "i", "composeType": "default"}), "branchTag has to be a text"),
        (json!({"branchTag": 7, "imageTag": "i", "composeType": "default"}), "branchTag has to be a text"),
        (json!({"branchTag": "b", "composeType": "default"}), "imageTag has to be a text"),
        (json!({"branchTag": "b", "imageTag": "i", "composeType": "x/../../y"}), "composeType has a slash"),
        (json!({"branchTag": "b", "imageTag": "i"}), "composeType has to be a text"),
        (json!(null), "branchTag has to be a text"),
        (json!("branchTag"), "branchTag has to be a text"),
    ];
    for reader in ["jq", "python3"] {
        let thunder = Thunder::new(reader)?;
        for (payload, reason) in &payloads {
            let output = thunder.run("warmers", payload, 0)?;
            ensure!(
                output.status.code() == Some(64) && said(&output).contains(reason),
                "{reader}, {payload}: {}",
                said(&output)
            );
            ensure!(
                !thunder.home().join("warmer/called").exists(),
                "{reader}, {payload}: the build was started"
            );
        }
    }
    let payload = json!({"branchTag": "b", "composeType": "default"});
    let thunder = Thunder::new("cat")?;
    let output = thunder.run("runners", &payload, 0)?;
    ensure!(
        output.status.code() == Some(78) && said(&output).contains("neither jq nor python3"),
        "{}",
        said(&output)
    );
    let thunder = Thunder::new("jq")?;
    fs::remove_file(thunder.home().join("runner/build.sh"))?;
    let output = thunder.run("runners", &payload, 0)?;
    ensure!(
        output.status.code() == Some(78) && said(&output).contains("build.sh is not there"),
        "{}",
        said(&output)
    );
    Ok(())
}

/// A checkout of the Thunder scripts whose builds write down what they are given, and a path with one program
/// that reads JSON.
struct Thunder {
    dir: TempDir,
}

/// An argument a line, then the variable: none of the values has a line break.
const FAKE_BUILD: &str = r#"#!/bin/sh
printf '%s\n' "$@" "$ELASTIC_APM_URL" >"${0%/*}/called"
echo building
read -r code <"${0%/*}/code"
exit "$code"
"#;

impl Thunder {
    fn new(reader: &str) -> anyhow::Result<Self> {
        let thunder = Self { dir: TempDir::new()? };
        for kind in ["warmer", "runner"] {
            fs::create_dir_all(thunder.home().join(kind))?;
            executable(&thunder.home().join(kind).join("build.sh"), FAKE_BUILD)?;
        }
        let path = thunder.dir.path().join("path");
        fs::create_dir_all(&path)?;
        for program in ["cat", reader] {
            // Not the first on the path: that may be a stand-in which needs more programs.
            let link = path.join(program);
            if !link.exists() {
                symlink(find(program, &["/usr/bin", "/bin"])?, link)?;
            }
        }
        Ok(thunder)
    }

    /// With a space, as any directory may have one.
    fn home(&self) -> PathBuf {
        self.dir.path().join("thunder home")
    }

    /// Runs a handler with the environment that an endpoint gives it.
    fn run(&self, handler: &str, payload: &serde_json::Value, code: i32) -> anyhow::Result<Output> {
        for kind in ["warmer", "runner"] {
            fs::write(self.home().join(kind).join("code"), format!("{code}\n"))?;
        }
        let task = json!({"id": "1", "identifier": "branchTag", "type": handler, "endpoint": "thunder", "attempt": 1, "payload": payload});
        let file = self.dir.path().join("task");
        fs::write(&file, format!("{task}\n"))?;
        let output = Command::new(checkout("config/examples/thunder").join(handler))
            .env_clear()
            .env("PATH", self.dir.path().join("path"))
            .env("HOME", "/")
            .env("LANG", "C.UTF-8")
            .env("THUNDER_HOME", self.home())
            .env("ELASTIC_APM_URL", "http://apm:8200")
            .stdin(fs::File::open(file)?)
            .output()?;
        Ok(output)
    }

    /// What the build was given, once it has ended with the code, said its word to the log and nothing where
    /// the answer goes.
    fn called(&self, handler: &str, payload: serde_json::Value, code: i32) -> anyhow::Result<Vec<String>> {
        let output = self.run(handler, &payload, code)?;
        ensure!(
            output.status.code() == Some(code),
            "{payload} ends with {}: {}",
            output.status,
            said(&output)
        );
        ensure!(output.stdout.is_empty() && output.stderr == b"building\n", "{payload}: {}", said(&output));
        let file = self.home().join(if handler == "warmers" { "warmer/called" } else { "runner/called" });
        let called = fs::read_to_string(&file)?.lines().map(str::to_owned).collect();
        fs::remove_file(file)?;
        Ok(called)
    }
}

/// Written by another process: a test beside this one may start a program just while we have the file open,
/// which that program would then keep open for writing for a moment, and files that are being written cannot
/// be run.
fn executable(path: &Path, script: &str) -> anyhow::Result<()> {
    let write = r#"printf %s "$2" >"$1" && chmod 755 "$1""#;
    let status = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(script).status()?;
    ensure!(status.success(), "writing {} ends with {status}", path.display());
    Ok(())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
