//! What `cargo xtask package` makes of this program. `--try` does more, as root and with a fresh Debian.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use tasker_services::Port;
use tempfile::TempDir;

#[test]
fn packages_hold_what_they_promise() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (binary, out) = (folder.path().join("tasker"), folder.path().join("package"));
    // The other program is looked for beside it.
    let agent = binary.with_file_name("tasker-agent");
    for (made, stripped) in
        [(env!("CARGO_BIN_EXE_tasker"), &binary), (env!("CARGO_BIN_EXE_tasker-agent"), &agent)]
    {
        run(Command::new("strip").arg("-o").arg(stripped).arg(made))?;
    }
    let mut package = Command::new(env!("CARGO"));
    package
        .args(["run", "--quiet", "--locked", "--package", "xtask", "--", "package", "--binary"])
        .arg(&binary)
        .arg("--out")
        .arg(&out);
    // The default takes its time.
    package.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    run(package.current_dir(env!("CARGO_MANIFEST_DIR")))?;
    let mut names = fs::read_dir(&out)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    names.sort_unstable();
    let [sums, libraries, archive, deb] = &names[..] else { anyhow::bail!("four files, not {names:?}") };
    ensure!(sums == "SHA256SUMS" && archive.ends_with(".tar.gz") && deb.ends_with(".deb"), "{names:?}");
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&out))?;
    the_list_of_libraries(&out.join(libraries))?;
    the_debian_package(&out.join(deb), folder.path())?;
    the_archive(&out.join(archive), folder.path())
}

fn the_list_of_libraries(list: &Path) -> anyhow::Result<()> {
    ensure!(list.display().to_string().ends_with(".cdx.json"), "{}", list.display());
    let list: Value = serde_json::from_str(&fs::read_to_string(list)?)?;
    ensure!(list["bomFormat"] == "CycloneDX" && list["metadata"]["component"]["name"] == "tasker", "{list}");
    let libraries = list["components"].as_array().context("no components")?;
    for library in libraries {
        let hash = library["hashes"][0]["content"].as_str().unwrap_or_default();
        let licence = library["licenses"][0]["expression"].as_str().unwrap_or_default();
        ensure!(hash.len() == 64 && !licence.is_empty(), "{library}");
    }
    let has = |name: &str| libraries.iter().any(|library| library["name"] == name);
    ensure!(has("rustls") && has("lapin") && has("sqlx"), "what it is built of");
    ensure!(!has("proptest") && !has("tasker"), "what tests it, and itself");
    Ok(())
}

fn the_debian_package(deb: &Path, folder: &Path) -> anyhow::Result<()> {
    let depends = run(Command::new("dpkg-deb").arg("--field").arg(deb).arg("Depends"))?;
    // Everything else is linked in.
    ensure!(depends.contains("libc6 (>= 2.") && depends.split(',').count() <= 4, "{depends}");
    let contents = run(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
    for (path, expected) in [
        ("./usr/bin/tasker", "-rwxr-xr-x root/root"),
        ("./usr/bin/tasker-agent", "-rwxr-xr-x root/root"),
        ("./etc/tasker/", "drwxr-xr-x root/root"),
        ("./etc/tasker/handlers/", "drwxr-xr-x root/root"),
        ("./etc/tasker/production.config.yaml", "-rw-r----- root/root"),
        ("./etc/tasker/tasker.env", "-rw------- root/root"),
        ("./usr/lib/systemd/system/tasker-api.service", "-rw-r--r-- root/root"),
        ("./usr/lib/systemd/system/tasker-endpoint@.service", "-rw-r--r-- root/root"),
        ("./usr/share/bash-completion/completions/tasker", "-rw-r--r-- root/root"),
        ("./usr/share/man/man1/tasker.1.gz", "-rw-r--r-- root/root"),
        ("./usr/share/man/man1/tasker-submit.1.gz", "-rw-r--r-- root/root"),
        ("./usr/share/doc/tasker/copyright", "-rw-r--r-- root/root"),
    ] {
        let line = contents
            .lines()
            .find(|line| line.ends_with(&format!(" {path}")))
            .with_context(|| format!("{path} is not in it"))?;
        ensure!(line.starts_with(expected), "{line}");
    }
    let mine = run(Command::new("dpkg-deb").arg("--info").arg(deb).arg("conffiles"))?;
    ensure!(mine == "/etc/tasker/production.config.yaml\n/etc/tasker/tasker.env\n", "{mine}");

    let root = folder.join("root");
    run(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&root))?;
    for unit in fs::read_dir(root.join("usr/lib/systemd/system"))? {
        let text = fs::read_to_string(unit?.path())?;
        ensure!(text.contains("\nExecStart=/usr/bin/tasker") && !text.contains("/usr/local"), "{text}");
    }
    for program in ["tasker", "tasker-agent"] {
        let version = run(Command::new(root.join("usr/bin").join(program)).arg("--version"))?;
        ensure!(version == format!("{program} {}\n", env!("CARGO_PKG_VERSION")), "{version}");
    }
    let completions = fs::read_to_string(root.join("usr/share/bash-completion/completions/tasker"))?;
    ensure!(completions.contains("complete ") && completions.contains("tasker"), "{completions}");
    Ok(())
}

fn the_archive(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    run(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder))?;
    let name = archive
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix(".tar.gz"))
        .context("a name")?;
    let root = folder.join(name);
    let note = fs::read_to_string(root.join("INSTALL.md"))?;
    ensure!(note.contains("C library 2.") && !note.contains('{'), "{note}");
    let named = note.split(|c: char| c.is_whitespace() || c == '`').filter(|word| {
        let folders = ["bin/", "config/", "systemd/", "completions/", "man/", "docs/"];
        folders.iter().any(|folder| word.starts_with(folder)) && !word.contains('*')
    });
    let named: Vec<&str> = named.map(|word| word.trim_end_matches(['.', ','])).collect();
    ensure!(named.len() > 5, "{named:?}");
    for path in named {
        ensure!(root.join(path).exists(), "INSTALL.md names {path}, which is not in the archive");
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?} ends with {}: {printed}{said}", output.status);
    Ok(printed.into_owned())
}

/// As in a container with nothing but the C library: there plain HTTP has to work.
#[test]
fn a_system_without_certificates_is_enough() -> anyhow::Result<()> {
    let empty = TempDir::new()?;
    // Held, and nothing listens there.
    let port = Port::free()?;
    let closed = format!("127.0.0.1:{}", port.number());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
    command.args(["endpoints", "--api", &format!("http://{closed}")]);
    let output = command
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", empty.path())
        .current_dir(empty.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains(&format!("no API answers at http://{closed}")), "{said}");
    Ok(())
}
