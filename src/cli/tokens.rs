//! `tasker token`: who may use the API. Works on the database itself, so that the first token needs none.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use super::args::{Global, ListTokens, NewToken, RevokeToken, TokenCommand};
use super::database::{Opened, open};
use super::deed::deed;
use super::exit::Code;
use super::output::{self, Failure, note, print, print_json};
use super::secret_file::SecretFile;
use super::{input, render};
use crate::config::Secret;
use crate::domain::likeness;
use crate::domain::{EndpointName, Quota, Scope, SecretHash, TaskType, Timestamp, Token, TokenName, json};
use crate::shell;
use crate::store::TokenCreated;

/// What the text of a secret begins with, so that whoever finds one knows what it is.
const PREFIX: &str = "tasker_";

/// Characters of an imported secret at least: 128 bits in hexadecimal.
const SHORTEST: usize = 32;
/// And at most: it has to fit into a header with others.
const LONGEST: usize = 1024;

pub(super) async fn run(global: &Global, command: TokenCommand) -> Result<Code, Failure> {
    match command {
        TokenCommand::Create(args) => create(global, args).await,
        TokenCommand::List(args) => list(global, args).await,
        TokenCommand::Revoke(args) => revoke(global, args).await,
    }
}

/// A token as programs see it; the secret only when it was made here, and only once.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a TokenName,
    scopes: Vec<&'static str>,
    task_types: &'a [TaskType],
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a EndpointName>,
    #[serde(skip_serializing_if = "Quota::is_none")]
    quota: &'a Quota,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(token: &'a Token, secret: Option<&'a Secret>) -> Self {
        Self {
            name: &token.name,
            scopes: token.scopes.iter().map(|scope| scope.as_str()).collect(),
            task_types: &token.task_types,
            created_at: token.created_at,
            expires_at: token.expires_at,
            worker: token.worker.as_ref(),
            quota: &token.quota,
            secret: secret.map(Secret::reveal),
        }
    }
}

async fn create(global: &Global, args: NewToken) -> Result<Code, Failure> {
    if args.worker.is_some() && (!args.scopes.contains(&Scope::Work) || args.scopes.contains(&Scope::Admin)) {
        return Err(Failure::Usage(
            "--worker is for a token with the scope `work` and without `admin`: pass --scope work".to_owned(),
        ));
    }
    let quota = Quota {
        rate: args.rate,
        burst: args.burst,
        open: args.open,
        endpoints: args.endpoints,
        waits: args.waits,
        bytes: args.bytes,
    };
    let (secret, made) = match &args.secret_file {
        Some(path) => (import(path, if args.weak { 1 } else { SHORTEST })?, false),
        None => (fresh()?, true),
    };
    // Before there is a token: a secret that cannot be handed over is of no use to anybody.
    let out = args.out.as_deref().map(|path| SecretFile::create(path, "--out FILE")).transpose()?;
    let Opened { store, place, known } = open(global, args.data_dir.as_deref(), true).await?;
    for name in args.task_types.iter().filter(|name| !known.types.is_empty() && !known.types.contains(*name))
    {
        let text = likeness::unknown(
            "task type",
            name.as_str(),
            known.how,
            known.types.iter().map(TaskType::as_str),
        )
        .text;
        output::warn(format!("--type: {text}"));
    }
    let done = async {
        let now = store.now().await?;
        let token = Token {
            id: Uuid::now_v7(),
            name: args.name,
            hash: SecretHash::of(secret.reveal().as_bytes()),
            scopes: args.scopes.into_iter().collect(),
            task_types: args.task_types,
            created_at: now,
            expires_at: args.expires.map(|span| now.after(span)),
            worker: args.worker,
            parent: None,
            quota,
        };
        let deed = deed("token.create", token.name.as_str()).with(json(&Shown::of(&token, None)));
        Ok::<_, Failure>((store.create_token(&token, Some(deed)).await?, token))
    };
    let done = done.await;
    store.close().await;
    let (created, token) = done?;
    match created {
        TokenCreated::New => {}
        TokenCreated::NameTaken => {
            return Err(Failure::Setup(format!(
                "there is a token `{0}` already: `tasker token revoke {0}` removes it",
                token.name
            )));
        }
        TokenCreated::SecretTaken => {
            return Err(Failure::Setup("there is another token with this secret already".to_owned()));
        }
    }
    let kept = out.map(|out| out.keep(format!("{}\n", secret.reveal()).as_bytes())).transpose();
    let kept = kept.map_err(|failure| {
        Failure::Setup(format!("token {} is made, but its secret is lost: {failure}", token.name))
    })?;
    let shown = made && kept.is_none();
    if global.json {
        print_json(&Shown::of(&token, shown.then_some(&secret)))?;
        return Ok(Code::Ok);
    }
    let scopes = token.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
    note(&format!("token {} ({scopes}) is in {place}", token.name));
    if let Some(path) = &kept {
        note(&format!("its secret is in {}", path.display()));
    }
    if shown {
        note("its secret, shown this once:");
        if io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map(File::from)
            .and_then(|file| file.metadata())
            .is_ok_and(|meta| is_open_file(&meta))
        {
            note(
                "others on this machine can read the file it goes to: --out FILE makes one that they cannot",
            );
        }
        print(&format!("{}\n", secret.reveal()))?;
    }
    Ok(Code::Ok)
}

const NONE: &str = "no tokens: `tasker token create` makes one, and from then on each request needs one";

async fn list(global: &Global, args: ListTokens) -> Result<Code, Failure> {
    let Opened { store, .. } = open(global, args.data_dir.as_deref(), false).await?;
    let done = async { Ok::<_, Failure>((store.tokens().await?, store.now().await?)) }.await;
    store.close().await;
    let (tokens, now) = done?;
    let tokens = given(tokens);
    let shown: Vec<_> = tokens.iter().map(|token| Shown::of(token, None)).collect();
    let none = shown.is_empty().then_some(NONE);
    output::list(global.json, &shown, none, |screen| render::tokens(&tokens, now, screen))?;
    Ok(Code::Ok)
}

/// The tokens that somebody was given, without the sessions that browsers have with them.
fn given(mut tokens: Vec<Token>) -> Vec<Token> {
    tokens.retain(|token| !token.is_session());
    tokens
}

async fn revoke(global: &Global, args: RevokeToken) -> Result<Code, Failure> {
    let Opened { store, place, .. } = open(global, args.data_dir.as_deref(), false).await?;
    let done = async {
        // Without a name: all.
        let wanted = match &args.name {
            Some(name) => vec![name.clone()],
            None => given(store.tokens().await?).into_iter().map(|token| token.name).collect(),
        };
        let mut revoked = Vec::new();
        for name in wanted {
            let deed = deed("token.revoke", name.as_str());
            if store.delete_token(&name, Some((deed, store.now().await?))).await? {
                revoked.push(name);
            }
        }
        Ok::<_, Failure>((revoked, given(store.tokens().await?)))
    };
    let done = done.await;
    store.close().await;
    let (revoked, left) = done?;
    if let (Some(name), []) = (&args.name, revoked.as_slice()) {
        let known = left.iter().map(|token| token.name.as_str());
        return Err(Failure::Setup(format!(
            "{} in {place}",
            likeness::unknown("token", name.as_str(), "there are", known).text
        )));
    }
    for name in &revoked {
        note(&format!("token {name} is revoked; running API processes refuse it within three seconds"));
    }
    if left.is_empty() {
        note(
            "no token is left: API processes that are started from now on listen on loopback addresses only, and need none",
        );
    }
    Ok(Code::Ok)
}

fn is_open_file(meta: &fs::Metadata) -> bool {
    meta.is_file() && meta.permissions().mode() & 0o044 != 0
}

/// 256 random bits.
fn fresh() -> Result<Secret, Failure> {
    Secret::random(PREFIX).ok_or_else(|| Failure::Setup("the system gives no random numbers".to_owned()))
}

/// A secret that somebody else has made.
fn import(path: &Path, shortest: usize) -> Result<Secret, Failure> {
    let source = input::name(path);
    // A little more than is taken, so that what is too long is seen to be.
    let text = input::read(path, 2 * LONGEST as u64)?;
    secret(&text, shortest).ok_or_else(|| {
        let message = format!(
            "{source} holds no secret: expected one word of {shortest} to {LONGEST} characters such as `openssl rand -hex 64` makes"
        );
        Failure::Usage(message)
    })
}

fn secret(text: &str, shortest: usize) -> Option<Secret> {
    let word = text.trim();
    let formed =
        (shortest..=LONGEST).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic());
    formed.then(|| Secret::new(word))
}

/// What is good for creating a token that lets everything be done.
pub(super) fn command_to_create(global: &Global, data_dir: Option<&Path>) -> String {
    let place = match data_dir {
        Some(directory) => format!("--data-dir {}", shell::word(&directory.display().to_string())),
        None => global.file_flag().unwrap_or_else(|| "-m development".to_owned()),
    };
    format!("tasker token create --name NAME --scope {} {place}", Scope::Admin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_say_what_they_are_and_differ() {
        let (one, other) = (fresh().expect("random numbers"), fresh().expect("random numbers"));
        assert!(one.reveal().starts_with("tasker_") && one.reveal().len() == 50, "{}", one.reveal().len());
        assert!(one.reveal() != other.reveal() && secret(one.reveal(), SHORTEST).is_some());
    }

    #[test]
    fn imports_what_cannot_be_guessed() {
        assert_eq!(
            secret(&format!("{}\n", "a".repeat(128)), SHORTEST).map(|secret| secret.reveal().len()),
            Some(128)
        );
        for bad in [
            "",
            "short",
            &"ä".repeat(40),
            &format!("{} {}", "a".repeat(20), "b".repeat(20)),
            &"a".repeat(1025),
        ] {
            assert!(secret(bad, SHORTEST).is_none(), "{bad}");
        }
    }
}
