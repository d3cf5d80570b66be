//! `tasker endpoint invite | enroll | list | revoke`: a broker user for each endpoint.
//!
//! `invite`, `list` and `revoke` run on a machine whose configuration has the broker's management interface
//! and the database. `enroll` runs on the endpoint's server, and needs only the invitation and an API's
//! address.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::args::{EndpointAction, Enroll, Global, Invite, ListEnrolments, Revoke};
use super::deed::deed;
use super::exit::Code;
use super::output::{self, Failure, note, print, setup};
use super::render::clock;
use super::secret_file::SecretFile;
use super::table::{Cell, Colour, Narrow, Screen, Table};
use super::{access, input, settings};
use crate::broker::account::{self, Permissions};
use crate::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use crate::broker::provision;
use crate::config::{Config, Flag, Management, MessageQueue, Secret};
use crate::domain::likeness::{self, listed};
use crate::domain::{EndpointName, ReasonCode, SecretHash, TaskType, Timestamp, json};
use crate::enrolment::{EnrolmentError, Identity, Invitation};
use crate::store::{self, Enrolment, Invited, SharedStore, SubscriptionRecord};

/// Bytes of an invitation, or of an identity, that are read at most.
const LONGEST: u64 = 64 << 10;

/// Endpoints read at a time.
const PAGE: u32 = 1000;

/// The name of an endpoint that would clash with the topology: `<exchange>.<type>.to` is an exchange.
const RESERVED: &str = "to";

pub(super) async fn run(global: &Global, action: EndpointAction) -> Result<Code, Failure> {
    match action {
        EndpointAction::Invite(args) => invite(global, args).await,
        EndpointAction::Enroll(args) => enroll(global, args).await,
        EndpointAction::List(args) => list(global, args).await,
        EndpointAction::Revoke(args) => revoke(global, args).await,
    }
}

/// The database and the configuration of an installation.
struct Place {
    config: Config,
    store: SharedStore,
}

impl Place {
    fn open(global: &Global) -> Result<Self, Failure> {
        let config = settings::read(global.file(), &["manager.db", "rabbitmq"])?;
        let store = store::open(config.database()?)?;
        Ok(Self { config, store })
    }

    fn broker(&self) -> Result<(&MessageQueue, &Management), Failure> {
        Ok(self.config.for_provisioning()?)
    }

    /// Closes the database, and returns the result of the work.
    async fn leave<T>(self, done: Result<T, Failure>) -> Result<T, Failure> {
        self.store.close().await;
        done
    }
}

async fn invite(global: &Global, args: Invite) -> Result<Code, Failure> {
    let place = Place::open(global)?;
    let done = invite_all(&place, args).await;
    place.leave(done).await
}

async fn invite_all(place: &Place, args: Invite) -> Result<Code, Failure> {
    let names = if args.all { uninvited(&place.store).await? } else { args.names };
    if names.is_empty() {
        note("every endpoint that is known has been invited");
        return Ok(Code::Ok);
    }
    if names.len() > 1 && args.out_dir.is_none() {
        return Err(Failure::Usage(format!(
            "{} endpoints are invited: name a directory for their invitations with --out-dir DIR",
            names.len()
        )));
    }
    if let Some(name) = names.iter().find(|name| name.as_str() == RESERVED) {
        return Err(Failure::Usage(format!(
            "`{name}` cannot have a user of its own: the broker's exchanges have that name; call the endpoint otherwise"
        )));
    }
    let types = types(&place.config, args.task_types)?;
    // An invitation voids the one before, so the broker has to be there before the first.
    provision::look(place.broker()?.1).await.map_err(setup)?;
    if let Some(dir) = &args.out_dir {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
            Failure::Usage(format!("cannot make the directory {}: {error}", dir.display()))
        })?;
    }
    for name in names {
        // Create the file first: without it the invitation would be lost.
        let out = args.out.clone().or_else(|| args.out_dir.as_deref().map(|dir| dir.join(name.as_str())));
        let out = out.map(|path| SecretFile::create(&path, "--out or --out-dir")).transpose()?;
        let text = invite_one(place, &name, &types, args.expires).await?;
        match out {
            Some(out) => {
                let path = out.keep(format!("{}\n", text.reveal()).as_bytes())?;
                note(&format!("the invitation of {name} is in {}", path.display()));
            }
            None => print(&format!("{}\n", text.reveal()))?,
        }
    }
    Ok(Code::Ok)
}

/// Creates the next user of an endpoint, and stores it sealed in the ledger. Returns the invitation.
///
/// The ledger comes first: of several people who invite the same endpoint at the same time, one gets the next
/// number there, and only that one makes the user of this number at the broker.
async fn invite_one(
    place: &Place,
    endpoint: &EndpointName,
    types: &[TaskType],
    expires: Duration,
) -> Result<Secret, Failure> {
    let (queue, management) = place.broker()?;
    let before = place.store.enrolment(endpoint).await?;
    let generation = before.as_ref().map_or(0, |before| before.generation) + 1;
    // The users before work until they are deleted.
    let earlier = before.filter(|before| before.revoked_at.is_none());
    let action = if earlier.is_some() { "endpoint.rotate" } else { "endpoint.invite" };
    let earlier: BTreeSet<TaskType> = earlier
        .into_iter()
        .flat_map(|earlier| earlier.task_types.into_iter().chain(earlier.earlier_types))
        .collect();
    let username = account::user_name(queue, endpoint, generation);
    let password = Secret::random("").ok_or(EnrolmentError::NoRandomNumbers).map_err(setup)?;
    let (invitation, text) = Invitation::new().map_err(setup)?;
    let sealed = invitation
        .seal(&Identity {
            endpoint: endpoint.clone(),
            task_types: types.to_vec(),
            virtual_host: queue.virtual_host.clone(),
            exchange: queue.exchange.clone(),
            username: username.clone(),
            password: password.reveal().to_owned(),
        })
        .map_err(setup)?;
    let at = place.store.now().await?;
    let expires_at = at.after(expires);
    let invited = Invited {
        endpoint: endpoint.clone(),
        task_types: types.to_vec(),
        earlier_types: earlier.into_iter().filter(|task_type| !types.contains(task_type)).collect(),
        generation,
        ticket: SecretHash::of(invitation.ticket().map_err(setup)?.as_bytes()),
        sealed,
        at,
        expires_at,
    };
    let detail = json(&Detail { generation, task_types: types, expires_at });
    if !place.store.invite(invited, deed(action, endpoint.as_str()).with(detail)).await? {
        return Err(Failure::Setup(format!(
            "somebody else has invited {endpoint} at the same time, and that invitation counts; run this again for one that takes its place"
        )));
    }
    let permissions = Permissions::of_endpoint(&queue.exchange, endpoint, types);
    provision::make_user(management, &queue.virtual_host, &username, &password, &permissions).await.map_err(
        |error| Failure::Setup(format!("{error}; {endpoint} cannot be enrolled until it is invited again")),
    )?;
    // Somebody may have revoked the endpoint, or invited it again, before this user existed. The invitation is
    // void then, and only we know that this user has to be deleted.
    let now = place.store.enrolment(endpoint).await?;
    if now.is_some_and(|now| now.generation == generation && now.revoked_at.is_none()) {
        return Ok(text);
    }
    provision::delete_user(management, &username).await.map_err(setup)?;
    Err(Failure::Setup(format!(
        "somebody else has invited or revoked {endpoint} at the same time, so this invitation is void: `tasker endpoint list` shows what counts"
    )))
}

/// What the audit log has of an invitation.
#[derive(Serialize)]
struct Detail<'a> {
    generation: u32,
    task_types: &'a [TaskType],
    expires_at: Timestamp,
}

/// The types that the endpoint may perform: those that are named, or all that every endpoint performs.
fn types(config: &Config, named: Vec<TaskType>) -> Result<Vec<TaskType>, Failure> {
    if let Some(unknown) = named.iter().find(|name| config.policy(name).is_none()) {
        let known = config.task_types.iter().map(|policy| policy.name.as_str());
        let text = likeness::unknown("task type", unknown.as_str(), "configured", known).text;
        return Err(Failure::Usage(format!("--type: {text}")));
    }
    let types: BTreeSet<TaskType> = match named.is_empty() {
        true => config.of_delivery(false).map(|policy| policy.name.clone()).collect(),
        false => named.into_iter().collect(),
    };
    match types.is_empty() {
        true => {
            Err(Failure::Usage("no configured type is performed by endpoints: name some with -t".to_owned()))
        }
        false => Ok(types.into_iter().collect()),
    }
}

/// Endpoints that are known and were never invited.
async fn uninvited(store: &SharedStore) -> Result<Vec<EndpointName>, Failure> {
    let invited: BTreeSet<_> = store.enrolments().await?.into_iter().map(|one| one.endpoint).collect();
    let mut names = store.endpoint_names().await?;
    names.retain(|name| !invited.contains(name));
    Ok(names)
}

pub(super) async fn enroll(global: &Global, args: Enroll) -> Result<Code, Failure> {
    let text = input::read(&args.invitation, LONGEST)?;
    let invitation = Invitation::parse(&text)
        .map_err(|error| Failure::Usage(format!("{}: {error}", input::name(&args.invitation))))?;
    let client = access::quiet_client(global)?;
    if client.is_in_the_clear() && !args.plain {
        return Err(Failure::Usage(
            "http:// lets others on the network intercept and use up the invitation: pass an https:// address with --api, or --plain on a network that you trust".to_owned(),
        ));
    }
    // Create the file before the invitation is used up.
    let out = SecretFile::replacing(&args.identity, "--identity FILE")?;
    let answer = client.enrol(&args.endpoint, invitation.ticket().map_err(setup)?).await?;
    let sealed = BASE64_STANDARD.decode(answer.sealed).map_err(setup)?;
    let identity = invitation.open(&args.endpoint, sealed).map_err(setup)?;
    out.keep(&serde_json::to_vec_pretty(&identity).map_err(setup)?)?;
    let types: Vec<&str> = identity.task_types.iter().map(TaskType::as_str).collect();
    note(&format!(
        "{} may perform {}; start it with --identity {}",
        identity.endpoint,
        listed(&types),
        args.identity.display()
    ));
    Ok(Code::Ok)
}

/// The settings in an identity, which override those of the configuration.
pub(super) fn flags(path: &Path, endpoint: Option<&EndpointName>) -> Result<Vec<Flag>, Failure> {
    let wrong = |reason: String| Failure::Usage(format!("--identity {}: {reason}", path.display()));
    let file = File::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mode = file.metadata().map_err(|error| wrong(error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!(
            "others on this machine may read it (mode {:04o}); expected 0600: revoke and invite the endpoint again if they could",
            mode & 0o7777
        )));
    }
    let identity: Identity =
        serde_json::from_reader(file).map_err(|error| wrong(format!("is not an identity: {error}")))?;
    if let Some(endpoint) = endpoint.filter(|endpoint| identity.endpoint != **endpoint) {
        return Err(wrong(format!("is that of {}, and {endpoint} is started", identity.endpoint)));
    }
    let Identity { virtual_host, exchange, username, password, .. } = identity;
    let flag = |key, value| Flag { key, name: "--identity", value };
    Ok(vec![
        flag("manager.message_queue.username", username),
        flag("manager.message_queue.password", password),
        flag("manager.message_queue.virtual_host", virtual_host),
        flag("manager.message_queue.exchange", exchange),
    ])
}

/// An endpoint and its broker user.
#[derive(Debug, Serialize)]
struct Standing {
    /// The endpoint.
    name: EndpointName,
    /// What its user may perform.
    task_types: Vec<TaskType>,
    /// The number of its newest user; none if it was never invited.
    generation: Option<u32>,
    /// When it last fetched a user.
    enrolled_at: Option<Timestamp>,
    /// Until when it may fetch its newest user.
    invited_until: Option<Timestamp>,
    /// When its users were deleted.
    revoked_at: Option<Timestamp>,
    /// When its presence last came from another user.
    unproven_at: Option<Timestamp>,
    /// What it wants to perform without having been invited for it.
    uninvited: Vec<TaskType>,
}

async fn list(global: &Global, args: ListEnrolments) -> Result<Code, Failure> {
    let place = Place::open(global)?;
    let done = async { Ok::<_, Failure>((standings(&place.store).await?, place.store.now().await?)) }.await;
    let (mut standings, now) = place.leave(done).await?;
    if args.unproven {
        standings.retain(|one| one.unproven_at.is_some());
    }
    output::show(global.json, &standings, |screen| table(&standings, now, screen))?;
    Ok(Code::Ok)
}

/// All endpoints that are known or were invited, by name.
async fn standings(store: &SharedStore) -> Result<Vec<Standing>, Failure> {
    let mut standings = BTreeMap::new();
    for one in store.enrolments().await? {
        let Enrolment { endpoint: name, task_types, generation, expires_at, enrolled_at, revoked_at, .. } =
            one;
        let standing = Standing {
            name: name.clone(),
            task_types,
            generation: Some(generation),
            enrolled_at,
            invited_until: expires_at,
            revoked_at,
            unproven_at: None,
            uninvited: Vec::new(),
        };
        standings.insert(name, standing);
    }
    let mut after = None;
    loop {
        let page = store.endpoints(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        for record in page {
            let standing = standings.entry(record.name.clone()).or_insert_with(|| Standing {
                name: record.name,
                task_types: Vec::new(),
                generation: None,
                enrolled_at: None,
                invited_until: None,
                revoked_at: None,
                unproven_at: None,
                uninvited: Vec::new(),
            });
            standing.unproven_at = record.unproven_at;
            let uninvited = |known: &SubscriptionRecord| {
                known.trouble.as_deref().map(ReasonCode::of_trouble) == Some(ReasonCode::NotInvited)
            };
            standing.uninvited =
                record.subscriptions.into_iter().filter(uninvited).map(|known| known.task_type).collect();
        }
    }
    Ok(standings.into_values().collect())
}

/// Endpoints and their broker users.
fn table(standings: &[Standing], now: Timestamp, screen: Screen) -> String {
    use Narrow::{Cut, Drop, Keep};
    let columns = [("NAME", Keep), ("USER", Keep), ("TYPES", Cut), ("ENROLLED", Drop), ("UNPROVEN", Keep)];
    let mut table = Table::new(columns);
    let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), clock);
    for one in standings {
        let number = one.generation.unwrap_or_default();
        let user = match (one.generation, one.revoked_at, one.invited_until) {
            (None, ..) => Cell::new("shared".to_owned(), Colour::Bad),
            (_, Some(at), _) => format!("revoked {}", clock(at)).into(),
            (_, _, Some(until)) if until <= now => {
                Cell::new(format!("{number}, invitation is over"), Colour::Bad)
            }
            (_, _, Some(until)) => format!("{number}, invited until {}", clock(until)).into(),
            _ => number.to_string().into(),
        };
        let types = |types: &[TaskType]| types.iter().map(TaskType::as_str).collect::<Vec<_>>().join(",");
        let performs = match (types(&one.task_types), types(&one.uninvited)) {
            (own, others) if others.is_empty() && own.is_empty() => "-".into(),
            (own, others) if others.is_empty() => own.into(),
            (own, others) => Cell::new(format!("{own}, not invited: {others}"), Colour::Bad),
        };
        table.push([
            one.name.to_string().into(),
            user,
            performs,
            time(one.enrolled_at).into(),
            time(one.unproven_at).into(),
        ]);
    }
    table.text(screen)
}

async fn revoke(global: &Global, args: Revoke) -> Result<Code, Failure> {
    let place = Place::open(global)?;
    let done = revoke_one(&place, &args).await;
    place.leave(done).await
}

async fn revoke_one(place: &Place, Revoke { name, old, force }: &Revoke) -> Result<Code, Failure> {
    let (queue, management) = place.broker()?;
    let Some(enrolment) = place.store.enrolment(name).await? else {
        return Err(Failure::Setup(format!(
            "{name} has no user of its own: `tasker endpoint list` shows who has one"
        )));
    };
    let Enrolment { generation, task_types, earlier_types, expires_at, .. } = enrolment;
    if let Some(until) = expires_at.filter(|_| *old && !*force) {
        let next = match until > place.store.now().await? {
            true => "`tasker endpoint enroll` fetches it",
            false => "its invitation is over, so invite it again",
        };
        return Err(Failure::Setup(format!(
            "{name} has not fetched its newest user yet, and needs the one before until then: {next}; with --force the one before is deleted all the same, as for endpoints with a client certificate"
        )));
    }
    // Delete the users first: the broker closes their connections, so no message comes after this.
    let last = if *old { generation.saturating_sub(1) } else { generation };
    let mut deleted = 0;
    for number in 1..=last {
        let user = account::user_name(queue, name, number);
        deleted += u32::from(provision::delete_user(management, &user).await.map_err(setup)?);
    }
    let (now, detail) = (place.store.now().await?, json(&serde_json::json!({"users": deleted})));
    let mut types: BTreeSet<TaskType> = earlier_types.into_iter().collect();
    // Also those of the time when it had no user of its own.
    let known = place.store.endpoint(name).await?;
    types.extend(known.into_iter().flat_map(|known| known.subscriptions).map(|known| known.task_type));
    let stands = if *old {
        types.retain(|task_type| !task_types.contains(task_type));
        let deed = deed("endpoint.revoke_old", name.as_str()).with(detail);
        place.store.end_earlier_users(name, generation, deed, now).await?
    } else {
        types.extend(task_types);
        let deed = deed("endpoint.revoke", name.as_str()).with(detail);
        place.store.revoke_enrolment(name, generation, deed, now).await?
    };
    if !stands {
        return Err(Failure::Setup(format!(
            "somebody has invited {name} again at the same time: {deleted} users are deleted, and the user of the new invitation is not; run this again to delete the others, and that one unless --old is given"
        )));
    }
    if !*old {
        // An invitation that was under way may have made this user after the loop above.
        let user = account::user_name(queue, name, generation);
        deleted += u32::from(provision::delete_user(management, &user).await.map_err(setup)?);
        place.store.forget_endpoint(name, true).await?;
    }
    let queues: Vec<_> = types.into_iter().map(|task_type| (task_type, name.clone())).collect();
    AmqpBroker::remove_queues(&AmqpOptions::new(queue.clone(), Role::Api { types: Vec::new() }), &queues)
        .await
        .map_err(|error| {
            Failure::Setup(format!(
                "{deleted} users of {name} are deleted, but queues are still there: {error}; the broker deletes them after seven days without a consumer"
            ))
        })?;
    note(&match *old {
        true => {
            format!("deleted {deleted} older users of {name}, and the queues that only they could consume")
        }
        false => format!(
            "{name} is revoked: {deleted} users and its queues are deleted, and no task expects it; what it owes stays open until the tasks end"
        ),
    });
    Ok(Code::Ok)
}
