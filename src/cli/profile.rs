//! `pagebox profile`: saved browser state of a running daemon.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::output::{self, harmless, table};
use super::session::time;
use super::{Error, runtime};
use crate::config::DEFAULT_LISTEN;
use crate::grpc::{Client, to_json, v1};
use crate::limits::Bytes;

/// Characters of a name in a table.
const CELL: usize = 40;
/// Stands for stdin and stdout.
const STANDARD: &str = "-";

/// Manage profiles: cookies and storage that sessions begin with and save under a name.
///
/// A session makes one: `pagebox session create --profile NAME`. Logins made elsewhere come in as
/// Playwright's storage state, and go out as one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox profile list
  pagebox profile show work --json
  pagebox profile export work --output work.json
  pagebox profile import work work.json
  pagebox profile delete work")]
pub(super) struct Args {
    /// The daemon
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "PAGEBOX_SERVER",
        hide_env_values = true,
        default_value = DEFAULT_LISTEN
    )]
    server: String,
    /// Print the reply as one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the profiles, by name
    List,
    /// Show a profile: its size, when it was saved, its cookies by domain
    Show(NameArgs),
    /// Delete a profile
    Delete(NameArgs),
    Export(ExportArgs),
    Import(ImportArgs),
}

#[derive(Debug, clap::Args)]
struct NameArgs {
    /// The profile's name
    name: String,
}

/// Write a profile as Playwright's storage state; whoever has the file is logged in.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox profile export work --output work.json
  pagebox profile export work | jq '.cookies | length'")]
struct ExportArgs {
    /// The profile's name
    name: String,
    /// A new file, which only this user can read; - for stdout
    #[arg(long, value_name = "FILE", default_value = STANDARD)]
    output: PathBuf,
}

/// Make a profile of Playwright's storage state, or replace one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox profile import work work.json
  pagebox profile export work | pagebox profile --server http://10.0.0.5:7370 import work -")]
struct ImportArgs {
    /// The profile's name
    name: String,
    /// What `browserContext.storageState({ path, indexedDB: true })` wrote; - for stdin
    file: PathBuf,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Error> {
    runtime()?.block_on(async {
        // An empty variable is an unset one.
        let server = Some(args.server.as_str()).filter(|server| !server.is_empty());
        let mut client = Client::connect(server.unwrap_or(DEFAULT_LISTEN)).await?;
        let json = args.json;
        let text = match args.command {
            Command::List => {
                let reply = client.list_profiles().await?;
                match json {
                    true => to_json("ListProfilesResponse", &reply)? + "\n",
                    false => list_table(&reply.profiles),
                }
            }
            Command::Show(show) => told(&client.get_profile(show.name).await?, json)?,
            Command::Delete(delete) => {
                let deleted = client.delete_profile(delete.name).await?;
                match (json, deleted) {
                    (true, deleted) => {
                        let reply = v1::DeleteProfileResponse { deleted };
                        to_json("DeleteProfileResponse", &reply)? + "\n"
                    }
                    (false, true) => "deleted\n".to_owned(),
                    (false, false) => "there was none\n".to_owned(),
                }
            }
            Command::Export(export) => {
                let state = client.export_profile(export.name).await? + "\n";
                if export.output != Path::new(STANDARD) {
                    write_new(&export.output, &state)?;
                    return Ok(ExitCode::SUCCESS);
                }
                state
            }
            Command::Import(import) => {
                let state = read(&import.file)?;
                told(&client.import_profile(import.name, state).await?, json)?
            }
        };
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn told(profile: &v1::Profile, json: bool) -> Result<String, Error> {
    match json {
        true => Ok(to_json("Profile", profile)? + "\n"),
        false => Ok(details(profile)),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = if path == Path::new(STANDARD) {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(text)
}

fn write_new(path: &Path, text: &str) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

fn list_table(profiles: &[v1::Profile]) -> String {
    let rows: Vec<Vec<String>> = profiles
        .iter()
        .map(|profile| {
            vec![
                harmless(&profile.name, CELL),
                size(profile),
                time(profile.save_time),
                profile.cookies.values().sum::<u32>().to_string(),
                profile.writer_session_id.clone(),
            ]
        })
        .collect();
    table(&["NAME", "SIZE", "SAVED", "COOKIES", "WRITER"], &rows)
}

fn details(profile: &v1::Profile) -> String {
    let mut cookies: Vec<String> = profile
        .cookies
        .iter()
        .map(|(domain, count)| format!("{domain}: {count}"))
        .collect();
    cookies.sort();
    let rows = [
        ("name", profile.name.clone()),
        ("size", size(profile)),
        ("saved", time(profile.save_time)),
        ("browser", profile.browser.clone()),
        ("cookies", cookies.join(", ")),
        ("writer", profile.writer_session_id.clone()),
    ];
    rows.iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:<8} {}\n", harmless(value, usize::MAX)))
        .collect()
}

/// In whole KiB, as no one needs it closer.
fn size(profile: &v1::Profile) -> String {
    Bytes::kib(profile.size_bytes.div_ceil(1024)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> v1::Profile {
        v1::Profile {
            name: "work\x1b[2J".into(),
            size_bytes: 2049,
            save_time: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 5,
            }),
            cookies: [("b.test".to_owned(), 2), (".a.test".to_owned(), 1)].into(),
            browser: "HeadlessChrome/140.0".into(),
            writer_session_id: String::new(),
        }
    }

    #[test]
    fn a_list_is_a_table() {
        assert_eq!(
            list_table(&[profile()]),
            "NAME      SIZE   SAVED                 COOKIES  WRITER\n\
             work [2J  3 KiB  1970-01-01T00:00:00Z  3\n"
        );
    }

    #[test]
    fn details_leave_out_what_is_empty() {
        let text = details(&profile());
        assert!(text.contains("cookies  .a.test: 1, b.test: 2\n"), "{text}");
        assert!(!text.contains("writer") && !text.contains('\x1b'), "{text}");
    }
}
