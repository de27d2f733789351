//! `pagebox image`: what a sandbox sees, computed as the daemon would.

use std::process::ExitCode;

use super::{ConfigFile, Error, output};
use crate::limits::Bytes;
use crate::sandbox::{Image, Listing, Seen, SeenKind};
use crate::server;

/// Say what sandboxes see: every file, where it comes from and why.
///
/// Computed from this host's files as the daemon does when it starts. Nothing is built or run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox image list
  pagebox image show bash
  pagebox image show browser --json | jq '.paths[] | select(.kind == \"directory\")'")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Name the images, with what each holds in all
    List(ListArgs),
    /// Print every path inside with its source, size and reason
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Print one JSON object for each image
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The image's name
    name: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Error> {
    match args.command {
        Command::List(args) => {
            for image in read(args.config)? {
                let listing = listing(&image)?;
                let text = if args.json {
                    format!("{}\n", summary(&listing))
                } else {
                    format!("{:<8} {}\n", listing.name, totals(&listing))
                };
                output::print(&text)?;
            }
        }
        Command::Show(args) => {
            let images = read(args.config)?;
            let names = || {
                let names: Vec<&str> = images.iter().map(|image| &*image.name).collect();
                names.join(", ")
            };
            let image = images.iter().find(|image| image.name == args.name);
            let Some(image) = image else {
                let text = format!("no image {:?}; there are {}", args.name, names());
                return Err(Error::Daemon(anyhow::Error::msg(text)));
            };
            let listing = listing(image)?;
            output::print(&if args.json {
                let mut json = summary(&listing);
                json["paths"] = serde_json::json!(listing.paths);
                format!("{json}\n")
            } else {
                text(&listing)
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(config: ConfigFile) -> Result<Vec<Image>, Error> {
    let config = config.load(Vec::new())?.config;
    Ok(server::read_images(&config)?)
}

fn listing(image: &Image) -> Result<Listing, Error> {
    image.listing().map_err(|error| {
        let text = format!("cannot measure the files of image {}: {error}", image.name);
        Error::Daemon(anyhow::Error::msg(text))
    })
}

/// Everything but the paths.
fn summary(listing: &Listing) -> serde_json::Value {
    let (files, bytes) = listing.total();
    let (copied_files, copied_bytes) = listing.copied();
    let [user, pid, net] = listing.namespaces;
    serde_json::json!({
        "name": listing.name,
        "seccomp": listing.seccomp,
        "namespaces": { "user": user, "pid": pid, "net": net },
        "landlock": {
            "execute": listing.execute,
            "tcp_listeners_only": listing.tcp_listeners_only,
        },
        "files": files,
        "bytes": bytes.0,
        "copied_files": copied_files,
        "copied_bytes": copied_bytes.0,
        "missing": listing.missing,
    })
}

fn totals(listing: &Listing) -> String {
    let (files, bytes) = listing.total();
    let (copied_files, copied_bytes) = listing.copied();
    format!(
        "{files} files, {}; {copied_files} of them, {}, copied to memory",
        size(bytes.0),
        size(copied_bytes.0)
    )
}

fn text(listing: &Listing) -> String {
    let width = |of: fn(&Seen) -> usize| listing.paths.iter().map(of).max().unwrap_or(0);
    let path = width(|seen| seen.path.as_os_str().len());
    let source = width(|seen| shown_source(seen).len());
    let mut text = String::new();
    for seen in &listing.paths {
        let row = format!(
            "{:<9} {} {:>9}  {:<path$}  {:<source$}  {}",
            seen.kind.as_str(),
            flags(seen),
            shown_size(seen),
            seen.path.display().to_string(),
            shown_source(seen),
            seen.why
        );
        text.push_str(row.trim_end());
        text.push('\n');
    }
    for missing in &listing.missing {
        text.push_str(&format!("missing   {missing}\n"));
    }
    let [user, pid, net] = listing.namespaces;
    let execute = match &listing.execute {
        None => "everything not noexec".to_owned(),
        Some(paths) => {
            let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
            paths.join(", ")
        }
    };
    let tcp = if listing.tcp_listeners_only {
        "connect to the daemon's ports only"
    } else {
        "any port of the network namespace"
    };
    text.push_str(&format!(
        "{}\n\
         seccomp     profile {}\n\
         namespaces  {user} user, {pid} pid, {net} network may be created inside\n\
         landlock    execute: {execute}; TCP: {tcp}\n",
        totals(listing),
        listing.seccomp
    ));
    text
}

fn flags(seen: &Seen) -> String {
    let flag = |set: bool, letter: char| if set { letter } else { '-' };
    [flag(seen.writable, 'w'), flag(seen.executable, 'x')]
        .iter()
        .collect()
}

fn shown_source(seen: &Seen) -> String {
    match (&seen.source, seen.kind) {
        (None, _) => String::new(),
        (Some(to), SeenKind::Link) => format!("-> {}", to.display()),
        (Some(from), _) if *from == seen.path => "=".to_owned(),
        (Some(from), _) => from.display().to_string(),
    }
}

fn shown_size(seen: &Seen) -> String {
    match seen.kind {
        SeenKind::Link | SeenKind::Device | SeenKind::Proc | SeenKind::Scratch => String::new(),
        _ => size(seen.bytes),
    }
}

/// Rounded, for reading.
fn size(bytes: u64) -> String {
    const MIB: u64 = Bytes::mib(1).0;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..MIB => format!("{} KiB", bytes / 1024),
        _ => format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_where_from_and_why() {
        let seen = Seen {
            path: "/usr/bin/x".into(),
            kind: SeenKind::Copy,
            source: Some("/usr/bin/x".into()),
            writable: false,
            executable: true,
            files: 1,
            bytes: 3 << 19,
            why: "package x".to_owned(),
        };
        let link = Seen {
            path: "/bin".into(),
            kind: SeenKind::Link,
            source: Some("usr/bin".into()),
            executable: false,
            files: 0,
            bytes: 0,
            why: "named".to_owned(),
            ..seen.clone()
        };
        let listing = Listing {
            name: "x".to_owned(),
            seccomp: "runner".to_owned(),
            namespaces: [0, 1, 2],
            execute: None,
            tcp_listeners_only: true,
            paths: vec![link, seen],
            missing: vec!["liba needed by /usr/bin/x".to_owned()],
        };
        assert_eq!(
            text(&listing),
            "link      --            /bin        -> usr/bin  named\n\
             copy      -x   1.5 MiB  /usr/bin/x  =           package x\n\
             missing   liba needed by /usr/bin/x\n\
             1 files, 1.5 MiB; 1 of them, 1.5 MiB, copied to memory\n\
             seccomp     profile runner\n\
             namespaces  0 user, 1 pid, 2 network may be created inside\n\
             landlock    execute: everything not noexec; TCP: connect to the daemon's ports only\n"
        );
    }
}
