//! Logs: tracing events to stderr, as text or JSON.
//!
//! Spans are opened where the work is: `rpc{method}` in grpc, `session{session_id}` and
//! `execution{execution_id language}` in session, `sandbox{pid image}` in sandbox. Code, environment
//! values, labels and page content never reach an event.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

/// Libraries whose debug events hold what pages do (names of hosts), what models say, or their keys; a
/// filter may still name them.
const QUIET: &str = "hickory=warn,genai=warn,reqwest=info,hyper_util=info,h2=info";

/// An error with all its sources, for the log.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Most errors already hold their source's text.
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
            source = error.source();
        }
        Ok(())
    }
}

/// Reads a filter such as `info` or `pagebox=debug,h2=off`.
///
/// # Errors
/// When it is no filter.
pub fn parse_filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(format!("{QUIET},{text}"))
}

/// Starts logging for the whole process.
///
/// # Errors
/// When the filter does not parse, or logging was already started.
pub fn init(log: &Log) -> Result<(), Error> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(&log.filter)?)
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(Error::Twice)
}

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse.
    #[error("log filter: {0}")]
    Filter(#[from] ParseError),
    /// Something already logs.
    #[error("logging was already started: {0}")]
    Twice(Box<dyn std::error::Error + Send + Sync>),
}
