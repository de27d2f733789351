//! `pagebox key`: who may call. Works on the store itself; a running daemon sees it within a second.

use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;

use super::{ConfigFile, Error, output, runtime};
use crate::server::{self, DataDir};
use crate::store::{KeyLimits, KeyRecord, Store};
use crate::tenant::{self, Secret};

/// Make, list and revoke API keys.
///
/// Once there is a key, every call needs one: gRPC metadata `authorization`, or the HTTP header
/// `Authorization`, with `Bearer KEY`. Revoking the last one does not open the daemon again. Limits hold
/// for each owner: the tenant, or whoever a gateway key names with `pagebox-owner`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox key create --tenant acme
  pagebox key create --tenant acme --name laptop --max-sessions 5 --rate 120/min
  pagebox key create --tenant acme --gateway --session-minutes 600 --budget 1000
  pagebox key list --json
  pagebox key revoke 3f1c9a0b7d2e4f68")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Box<Create>),
    List(List),
    Revoke(Revoke),
}

/// List the keys, revoked ones too; not what opens anything
#[derive(Debug, clap::Args)]
struct List {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// Revoke a key: calls with it are refused within a second
#[derive(Debug, clap::Args)]
struct Revoke {
    /// As `key list` shows it
    id: String,
    #[command(flatten)]
    config: ConfigFile,
}

/// Make a key and print it, this once
#[derive(Debug, clap::Args)]
struct Create {
    /// Whose key it is: sessions and usage belong to the tenant
    #[arg(long, value_name = "NAME", value_parser = name)]
    tenant: String,
    /// What it is for, for `key list`
    #[arg(long, value_name = "NAME", default_value = "", value_parser = label)]
    name: String,
    /// Requests with it name their owner themselves: for an API gateway that knows its users
    #[arg(long)]
    gateway: bool,
    /// Live sessions of one owner at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_sessions: Option<u32>,
    /// Requests of one owner in a minute at most
    #[arg(long, value_name = "N/min", value_parser = rate)]
    rate: Option<u32>,
    /// Minutes of all sessions of one owner in a calendar month at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    session_minutes: Option<u32>,
    /// Credits of one owner in a calendar month at most
    #[arg(long, value_name = "CREDITS")]
    budget: Option<u32>,
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Error> {
    match args.command {
        Command::Create(args) => {
            with_store(args.config.clone(), async |store| make(&store, *args).await)
        }
        Command::List(args) => with_store(args.config, async |store| list(&store, args.json).await),
        Command::Revoke(args) => {
            with_store(args.config, async |store| revoke(&store, args.id).await)
        }
    }
}

fn with_store(
    config: ConfigFile,
    work: impl AsyncFnOnce(Store) -> Result<(), Error>,
) -> Result<ExitCode, Error> {
    let config = config.load(Vec::new())?.config;
    let data_dir = DataDir::prepare(&config)?;
    // As the daemon does, so that the files are the daemon's.
    server::drop_root(&config)?;
    let store = data_dir.open()?;
    runtime()?.block_on(work(store))?;
    Ok(ExitCode::SUCCESS)
}

async fn make(store: &Store, args: Create) -> Result<(), Error> {
    let secret = Secret::generate().map_err(Error::NoRandomness)?;
    let hash = secret.hash();
    let key = KeyRecord {
        id: tenant::id_of(&hash),
        hash,
        name: args.name,
        tenant: args.tenant,
        is_gateway: args.gateway,
        limits: KeyLimits {
            max_sessions: args.max_sessions,
            rate: args.rate,
            session_minutes: args.session_minutes,
            budget: args.budget,
        },
        created: SystemTime::now(),
        revoked: None,
    };
    store.add_key(key).await?;
    output::print(&format!("{}\n", secret.reveal()))
}

async fn list(store: &Store, as_json: bool) -> Result<(), Error> {
    let keys = store.keys().await?;
    let text = match as_json {
        true => {
            let keys: Vec<_> = keys.iter().map(to_json).collect();
            format!("{:#}\n", json!({ "keys": keys }))
        }
        false => {
            let rows: Vec<_> = keys.iter().map(row).collect();
            let header = [
                "ID", "TENANT", "NAME", "KIND", "LIMITS", "CREATED", "REVOKED",
            ];
            output::table(&header, &rows)
        }
    };
    output::print(&text)
}

async fn revoke(store: &Store, id: String) -> Result<(), Error> {
    let found = store.revoke_key(id.clone(), SystemTime::now()).await?;
    found.map(drop).ok_or(Error::NoSuchKey(id))
}

fn shown(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn kind(key: &KeyRecord) -> &'static str {
    if key.is_gateway { "gateway" } else { "own" }
}

fn row(key: &KeyRecord) -> Vec<String> {
    let limits = [
        (key.limits.max_sessions, "sessions"),
        (key.limits.rate, "requests/min"),
        (key.limits.session_minutes, "minutes/month"),
        (key.limits.budget, "credits/month"),
    ];
    let limits = limits.map(|(limit, unit)| limit.map(|limit| format!("{limit} {unit}")));
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    vec![
        key.id.clone(),
        key.tenant.clone(),
        key.name.clone(),
        kind(key).to_owned(),
        limits.join(", "),
        shown(key.created),
        key.revoked.map(shown).unwrap_or_default(),
    ]
}

fn to_json(key: &KeyRecord) -> serde_json::Value {
    json!({
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "gateway": key.is_gateway,
        "maxSessions": key.limits.max_sessions,
        "requestsPerMinute": key.limits.rate,
        "sessionMinutes": key.limits.session_minutes,
        "budget": key.limits.budget,
        "created": shown(key.created),
        "revoked": key.revoked.map(shown),
    })
}

/// `N` or `N/min`.
fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/min").unwrap_or(text).parse();
    number
        .ok()
        .filter(|&rate| rate > 0)
        .ok_or_else(|| "write requests in a minute, such as 60 or 60/min".to_owned())
}

/// A name that can be shown.
fn label(text: &str) -> Result<String, String> {
    const MOST: usize = 128;
    let good = text.chars().count() <= MOST && output::harmless(text, MOST) == text;
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("write at most {MOST} printable characters"))
}

/// One that is none is nobody's.
fn name(text: &str) -> Result<String, String> {
    match text.trim() == text && !text.is_empty() {
        true => label(text),
        false => Err("write a name without space around it".to_owned()),
    }
}
