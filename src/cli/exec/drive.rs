//! One execution from the caller's side: its output as it comes, its end as an exit status, its
//! death when the caller has enough.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::SignalKind;

use super::super::{Error, output};
use crate::grpc::v1::execute_stream_response::Event;
use crate::grpc::v1::execution_options::Place;
use crate::grpc::{self, Client, ExecutionStream, v1};
use crate::server::Signals;
use crate::session::text_of;

/// How long a daemon may take to confirm that it killed what we no longer want.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(3);
/// Exit status after a timeout, as timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// Exit status when killed otherwise.
const KILLED: u8 = 137;

/// How the reply is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Output as it comes, the result last.
    Shell,
    /// The whole reply as one object.
    Json,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself or by Pagebox, with this status.
    Status(u8),
    /// By a signal to this process.
    Interrupted(SignalKind),
    /// Because nobody reads its output any more.
    OutputClosed,
}

impl Ended {
    pub(super) fn status(self) -> u8 {
        let of_signal =
            |signal: SignalKind| u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX);
        match self {
            Self::Status(status) => status,
            Self::Interrupted(signal) => of_signal(signal),
            Self::OutputClosed => of_signal(SignalKind::pipe()),
        }
    }
}

/// Runs it to its end, or to a signal's.
pub(super) async fn drive(
    client: &mut Client,
    options: v1::ExecutionOptions,
    format: Format,
    signals: &mut Signals,
) -> Result<Ended, Error> {
    let place = options.place.clone();
    let mut stream = tokio::select! {
        stream = client.execute(options) => stream?,
        // Dropping the call is enough: nothing has an id yet.
        signal = signals.next() => return Ok(Ended::Interrupted(signal)),
    };
    let asked_for_url =
        matches!(&place, Some(Place::OneShot(session)) if !session.start_url.is_empty());
    let mut pump = Pump::default();
    let ended = tokio::select! {
        ended = pump.run(&mut stream, format) => ended,
        signal = signals.next() => Ok(Ended::Interrupted(signal)),
    };
    let ended = match ended {
        Err(Error::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(Ended::OutputClosed)
        }
        ended => ended,
    };
    if asked_for_url && let Some(id) = &pump.session_id {
        remark_on_start(client, id).await;
    }
    if !matches!(ended, Ok(Ended::Status(_)))
        && let Some(id) = pump.execution_id
    {
        // Dropping the stream would do it too, but only after this process is gone.
        let cancel = async {
            let cancelled = client.cancel(id).await;
            // Its last event says that it is dead.
            while let Ok(Some(_)) = stream.next().await {}
            cancelled
        };
        let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, cancel).await;
        if !matches!(cancelled, Ok(Ok(_))) {
            tracing::warn!("the daemon did not confirm the cancel");
        }
    }
    ended
}

/// Takes events off the stream. The daemon's limits bound what it keeps for JSON.
#[derive(Debug, Default)]
struct Pump {
    execution_id: Option<String>,
    /// Known at the end.
    session_id: Option<String>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Pump {
    async fn run(&mut self, stream: &mut ExecutionStream, format: Format) -> Result<Ended, Error> {
        let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
        while let Some(event) = stream.next().await? {
            match (event, format) {
                (Event::Started(started), _) => self.execution_id = Some(started.execution_id),
                (Event::Stdout(piece), Format::Shell) => write(&mut out, &piece).await?,
                (Event::Stderr(piece), Format::Shell) => write(&mut err, &piece).await?,
                (Event::Stdout(piece), Format::Json) => self.stdout.extend_from_slice(&piece),
                (Event::Stderr(piece), Format::Json) => self.stderr.extend_from_slice(&piece),
                (Event::Finished(reply), Format::Shell) => {
                    self.session_id = Some(reply.session_id.clone());
                    let status = status_of(&reply);
                    if let Some(mut result) = reply.result.clone() {
                        result.push('\n');
                        write(&mut out, result.as_bytes()).await?;
                    }
                    remark(&reply);
                    return Ok(Ended::Status(status));
                }
                (Event::Finished(reply), Format::Json) => {
                    self.session_id = Some(reply.session_id.clone());
                    let status = status_of(&reply);
                    let mut json = grpc::to_json("ExecuteResponse", &self.with_output(reply))?;
                    json.push('\n');
                    write(&mut out, json.as_bytes()).await?;
                    return Ok(Ended::Status(status));
                }
            }
        }
        Err(grpc::ClientError::Lost("the reply ended early".to_owned()).into())
    }

    fn with_output(&mut self, mut reply: v1::ExecuteResponse) -> v1::ExecuteResponse {
        let stdout = std::mem::take(&mut self.stdout);
        let stderr = std::mem::take(&mut self.stderr);
        let stdout = text_of(stdout, reply.stdout_truncated);
        let stderr = text_of(stderr, reply.stderr_truncated);
        (reply.stdout, reply.stdout_lossy) = (stdout.text, stdout.lossy);
        (reply.stderr, reply.stderr_lossy) = (stderr.text, stderr.lossy);
        reply
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    to.write_all(bytes).await.map_err(Error::Write)?;
    to.flush().await.map_err(Error::Write)
}

fn status_of(reply: &v1::ExecuteResponse) -> u8 {
    match reply.outcome() {
        v1::Outcome::TimedOut => TIMED_OUT,
        _ if reply.success => 0,
        // As the kernel does it: the low eight bits.
        _ => match u8::try_from(reply.exit_code & 0xff).unwrap_or(KILLED) {
            0 => KILLED,
            status => status,
        },
    }
}

/// Code runs on whatever page there is; that it is not the one asked for shows nowhere else.
async fn remark_on_start(client: &mut Client, session_id: &str) {
    let asked = client.get_session(session_id.to_owned());
    // Only a remark: a daemon that has forgotten the session, or is gone, keeps nobody.
    if let Ok(Ok(reply)) = tokio::time::timeout(CANCEL_TIMEOUT, asked).await
        && let Some(session) = reply.session
        && !session.start_error.is_empty()
    {
        output::complain(&session.start_error);
    }
}

/// What a shell user would otherwise miss.
fn remark(reply: &v1::ExecuteResponse) {
    let killed = match reply.outcome() {
        v1::Outcome::TimedOut => Some("killed: it ran into its timeout"),
        v1::Outcome::OutOfMemory => Some("killed: out of memory"),
        v1::Outcome::OutputLimit => Some("killed: it wrote more than the output limit"),
        v1::Outcome::Cancelled => Some("killed: cancelled"),
        v1::Outcome::BrowserCrashed => Some("failed: the browser crashed"),
        v1::Outcome::RunnerCrashed => Some("failed: its runner died"),
        v1::Outcome::Unspecified | v1::Outcome::Completed | v1::Outcome::Failed => None,
    };
    if let Some(killed) = killed {
        output::complain(&killed);
    }
    for (cut, what) in [
        (reply.stdout_truncated, "stdout"),
        (reply.stderr_truncated, "stderr"),
        (reply.result_truncated, "the result"),
    ] {
        if cut {
            output::complain(&format_args!("{what} was cut at its limit"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(outcome: v1::Outcome, exit_code: i32) -> v1::ExecuteResponse {
        v1::ExecuteResponse {
            outcome: outcome.into(),
            success: outcome == v1::Outcome::Completed,
            exit_code,
            ..v1::ExecuteResponse::default()
        }
    }

    #[test]
    fn the_exit_status_is_the_codes_own_unless_it_was_killed() {
        for (outcome, exit_code, status) in [
            (v1::Outcome::Completed, 0, 0),
            (v1::Outcome::Failed, 1, 1),
            (v1::Outcome::Failed, 42, 42),
            (v1::Outcome::Failed, 124, 124),
            (v1::Outcome::Failed, 256, 137),
            (v1::Outcome::TimedOut, 137, 124),
            (v1::Outcome::OutOfMemory, 137, 137),
            (v1::Outcome::Cancelled, 137, 137),
            (v1::Outcome::RunnerCrashed, 137, 137),
        ] {
            assert_eq!(status_of(&reply(outcome, exit_code)), status, "{outcome:?}");
        }
    }

    #[test]
    fn signals_end_as_a_shell_shows_them() {
        assert_eq!(Ended::Interrupted(SignalKind::interrupt()).status(), 130);
        assert_eq!(Ended::Interrupted(SignalKind::terminate()).status(), 143);
        assert_eq!(Ended::OutputClosed.status(), 141);
    }

    #[test]
    fn json_carries_the_output_with_its_flags() {
        let mut pump = Pump {
            stdout: b"a\xff".to_vec(),
            stderr: b"b".to_vec(),
            ..Pump::default()
        };
        let reply = pump.with_output(reply(v1::Outcome::Completed, 0));
        assert_eq!(
            (reply.stdout.as_str(), reply.stdout_lossy),
            ("a\u{fffd}", true)
        );
        assert_eq!((reply.stderr.as_str(), reply.stderr_lossy), ("b", false));
    }
}
