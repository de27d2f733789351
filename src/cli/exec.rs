//! `pagebox exec`: runs a piece of code the way a shell would.

mod drive;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use self::drive::Format;
use super::daemon::{self, server_of};
use super::limits::ExecutionLimitArgs;
use super::{ConfigFile, Error, NetworkArgs, pair, port, seconds};
use crate::execution::{MAX_CODE_BYTES, MAX_TIMEOUT, MIN_TIMEOUT};
use crate::grpc::{Client, v1};
use crate::server::Signals;
use clap::ValueEnum;

/// Run code against a page and pass its output and exit status through.
///
/// stdout and stderr of the code come through live and unchanged; the value of its last expression
/// (node and python) is printed last, on stdout, with a newline.
///
/// Without -s, --server or PAGEBOX_SERVER the command brings its own daemon, for this call only and
/// on no port; nothing is left when it returns. Otherwise the code goes to that daemon; -s alone
/// means the one at 127.0.0.1:7370.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["code", "file"]))]
#[command(after_help = "\
Exit status: the code's own; 1 for an uncaught error; 124 when it ran into its timeout; 137 when it
was killed otherwise; 130 after Ctrl-C; 2 for a mistake on the command line; 125 when Pagebox itself
fails, with the reason on stderr.

Examples:
  pagebox exec --url https://example.com -e 'await page.title()'
  pagebox exec -l python -e 'await page.title()' --url https://example.com
  pagebox exec -t 120 --env USER_NAME=ada tests/login.mjs
  echo 'agent-browser snapshot -i' | pagebox exec -l bash --url https://example.com -
  pagebox exec --allow '*.example.com' --url https://example.com -e 'await page.title()'
  pagebox exec --offline --memory '256 MiB' -l python untrusted.py
  id=$(pagebox session create --url https://example.com)
  pagebox exec -s $id -e 'await page.click(\"a\"); page.url()' --json")]
pub(super) struct Args {
    /// Language [default: by the file's suffix, else node]
    #[arg(short, long, value_enum, value_name = "LANG")]
    language: Option<Lang>,
    /// Run in this session of a running daemon
    #[arg(short, long, value_name = "ID", conflicts_with_all = ["url", "NetworkArgs"])]
    session: Option<String>,
    /// Kill the code after this long, 1 to 300 seconds [default: 30]
    #[arg(short, long, value_name = "SECONDS", value_parser = timeout)]
    timeout: Option<prost_types::Duration>,
    /// The code itself
    #[arg(
        short = 'e',
        long = "code",
        value_name = "CODE",
        allow_hyphen_values = true
    )]
    code: Option<String>,
    /// File with the code; - reads it from stdin
    file: Option<String>,
    /// Page to open first
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print the whole reply as one JSON object instead
    #[arg(long)]
    json: bool,
    /// Run in a new sandbox instead of the session's context of that language
    #[arg(long)]
    fresh: bool,
    /// Add to the code's environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Daemon to use instead of an own one
    #[arg(
        long,
        value_name = "URL",
        env = "PAGEBOX_SERVER",
        hide_env_values = true
    )]
    server: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    /// Let the session reach this port of the host's loopback, '*' for all (own daemon only)
    #[arg(long, value_name = "PORT", value_parser = port, conflicts_with = "session")]
    host_loopback: Vec<String>,
    #[command(flatten)]
    limits: ExecutionLimitArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lang {
    #[value(alias = "js", alias = "javascript")]
    Node,
    #[value(alias = "py")]
    Python,
    #[value(alias = "sh")]
    Bash,
}

impl Lang {
    fn of_file(name: &str) -> Self {
        match Path::new(name)
            .extension()
            .and_then(|suffix| suffix.to_str())
        {
            Some("py") => Self::Python,
            Some("sh" | "bash") => Self::Bash,
            _ => Self::Node,
        }
    }

    fn wire(self) -> v1::Language {
        match self {
            Self::Node => v1::Language::Node,
            Self::Python => v1::Language::Python,
            Self::Bash => v1::Language::Bash,
        }
    }
}

pub(super) fn run(args: Args) -> Result<ExitCode, Error> {
    // Read now: an own daemon is about to give up the right to.
    let code = match (&args.code, &args.file) {
        (Some(code), _) => code.clone(),
        (None, file) => read_code(file.as_deref().unwrap_or("-"))?,
    };
    let format = if args.json {
        Format::Json
    } else {
        Format::Shell
    };
    let server = server_of(args.server.as_deref(), args.session.as_deref());
    let options = options(&args, code);
    let drive = async |client: &mut Client, signals: &mut Signals| {
        drive::drive(client, options, format, signals).await
    };
    let ended = match server {
        Some(server) => daemon::remote(&server, drive)?,
        None => daemon::embedded(daemon::load(args.config, args.host_loopback)?, drive)?,
    };
    Ok(ExitCode::from(ended.status()))
}

/// A timeout the daemon takes.
pub(super) fn timeout(text: &str) -> Result<prost_types::Duration, String> {
    let wire = seconds(text)?;
    match Duration::try_from(wire) {
        Ok(timeout) if (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout) => Ok(wire),
        _ => Err(format!(
            "write {} to {} seconds",
            MIN_TIMEOUT.as_secs(),
            MAX_TIMEOUT.as_secs()
        )),
    }
}

fn options(args: &Args, code: String) -> v1::ExecutionOptions {
    use v1::execution_options::Place;
    let language = args
        .language
        .unwrap_or_else(|| Lang::of_file(args.file.as_deref().unwrap_or_default()));
    let place = match &args.session {
        Some(session) => Place::SessionId(session.clone()),
        None => Place::OneShot(v1::SessionOptions {
            start_url: args.url.clone().unwrap_or_default(),
            network: Some(args.network.clone().wire()),
            ..v1::SessionOptions::default()
        }),
    };
    v1::ExecutionOptions {
        place: Some(place),
        language: language.wire().into(),
        code,
        timeout: args.timeout,
        fresh: args.fresh,
        environment: args.env.iter().cloned().collect(),
        output_limits: None,
        origin: "pagebox-exec".to_owned(),
        execution_id: String::new(),
        limits: Some(args.limits.wire()),
        on_human_control: v1::OnHumanControl::Unspecified.into(),
    }
}

fn read_code(name: &str) -> Result<String, Error> {
    let path = if name == "-" { "stdin" } else { name }.to_owned();
    let error = |source| Error::ReadCode {
        path: path.clone(),
        source,
    };
    // One byte more than is allowed shows that there is more.
    let most = MAX_CODE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if name == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(name).and_then(|file| file.take(most).read_to_end(&mut bytes))
    }
    .map_err(error)?;
    if bytes.len() > MAX_CODE_BYTES {
        return Err(Error::CodeTooLong {
            path,
            limit: MAX_CODE_BYTES,
        });
    }
    String::from_utf8(bytes).map_err(|_| Error::CodeNotText(path))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Args {
        Cli::try_parse_from([&["exec"], words].concat())
            .unwrap()
            .args
    }

    #[test]
    fn the_language_is_said_or_seen_by_the_suffix() {
        for (words, language) in [
            (&["a.js"][..], Lang::Node),
            (&["a.mjs"], Lang::Node),
            (&["a.cjs"], Lang::Node),
            (&["dir.py/a"], Lang::Node),
            (&["a.py"], Lang::Python),
            (&["a.sh"], Lang::Bash),
            (&["-"], Lang::Node),
            (&["-e", "1"], Lang::Node),
            (&["-l", "bash", "a.py"], Lang::Bash),
        ] {
            let wire = options(&parse(words), String::new());
            assert_eq!(wire.language, i32::from(language.wire()), "{words:?}");
        }
    }

    #[test]
    fn options_say_what_the_flags_say() {
        use v1::execution_options::Place;
        let args = parse(&[
            "--url",
            "https://a/",
            "-t",
            "5",
            "--fresh",
            "--memory",
            "128 MiB",
            "--env",
            "A=b=c",
            "-e",
            "x",
        ]);
        assert_eq!(
            options(&args, "x".into()),
            v1::ExecutionOptions {
                place: Some(Place::OneShot(v1::SessionOptions {
                    start_url: "https://a/".into(),
                    network: Some(v1::NetworkOptions::default()),
                    ..v1::SessionOptions::default()
                })),
                language: v1::Language::Node.into(),
                code: "x".into(),
                timeout: Some(prost_types::Duration {
                    seconds: 5,
                    nanos: 0
                }),
                fresh: true,
                environment: [("A".to_owned(), "b=c".to_owned())].into(),
                output_limits: None,
                origin: "pagebox-exec".into(),
                execution_id: String::new(),
                on_human_control: v1::OnHumanControl::Unspecified.into(),
                limits: Some(v1::ExecutionLimits {
                    memory_bytes: 128 << 20,
                    ..v1::ExecutionLimits::default()
                }),
            }
        );
        let args = parse(&["-s", "id", "-e", "x"]);
        let wire = options(&args, String::new());
        assert_eq!(wire.place, Some(Place::SessionId("id".into())));
    }

    #[test]
    fn the_network_is_of_an_own_session_only() {
        use v1::execution_options::Place;
        let words = [
            "--allow",
            "a.test",
            "--allow",
            "*.b.test:8443",
            "--deny",
            "c.b.test:*",
        ];
        let args = parse(&[&words[..], &["--max-bytes", "1 MiB", "-e", "1"]].concat());
        let Some(Place::OneShot(session)) = options(&args, String::new()).place else {
            panic!("not a session of its own");
        };
        let network = v1::NetworkOptions {
            allow: vec!["a.test".into(), "*.b.test:8443".into()],
            deny: vec!["c.b.test:*".into()],
            max_bytes: 1 << 20,
            ..v1::NetworkOptions::default()
        };
        assert_eq!(session.network, Some(network));
        for words in [
            &["--allow", "a.test"][..],
            &["--deny", "a.test"],
            &["--offline"],
            &["--proxy", "http://proxy.test:3128"],
            &["--max-bytes", "1"],
        ] {
            let words = [&["exec", "-s", "id", "-e", "1"], words].concat();
            let error = Cli::try_parse_from(&words).unwrap_err();
            assert_eq!(
                error.kind(),
                clap::error::ErrorKind::ArgumentConflict,
                "{words:?}"
            );
        }
    }

    #[test]
    fn code_comes_from_a_file_within_the_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap();
        std::fs::write(name, "1 + 1").unwrap();
        assert_eq!(read_code(name).unwrap(), "1 + 1");
        std::fs::write(name, vec![b'x'; MAX_CODE_BYTES + 1]).unwrap();
        assert!(matches!(read_code(name), Err(Error::CodeTooLong { .. })));
        std::fs::write(name, b"\xff").unwrap();
        assert!(matches!(read_code(name), Err(Error::CodeNotText(_))));
        assert!(matches!(
            read_code("/nonexistent.js"),
            Err(Error::ReadCode { .. })
        ));
    }
}
