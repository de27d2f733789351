//! The same hostile program outside and inside, and what each of its attempts gave.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use pagebox::grpc::v1::Language;

use crate::client::{OpenSession, describe};

/// What every probe begins with. `t` names an attempt and prints how it ended: `ok`, its text, or
/// the name of its errno; `c` makes a system call by number.
const PRELUDE: &str = r#"
import ctypes, errno, os, socket, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def c(number, *arguments):
    ctypes.set_errno(0)
    made = libc.syscall(ctypes.c_long(number), *[a if isinstance(a, (bytes, ctypes.Array)) else ctypes.c_long(a) for a in arguments])
    if made == -1: raise OSError(ctypes.get_errno(), '')
    return made
def t(name, attempt):
    try: got = attempt()
    except OSError as e: got = errno.errorcode.get(e.errno, e.errno)
    except ValueError as e: got = 'EPERM' if 'not allowed' in str(e) else str(e)
    except subprocess.CalledProcessError as e: got = f'exit {e.returncode}'
    print(f'{name} = {got if isinstance(got, str) else "ok"}', flush=True)
def child(attempt):
    """An attempt in a process of its own: its errno is the exit code."""
    pid = os.fork()
    if pid == 0:
        try: attempt(); os._exit(0)
        except OSError as e: os._exit(e.errno)
        except BaseException: os._exit(255)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status): return f'signal {os.WTERMSIG(status)}'
    code = os.waitstatus_to_exitcode(status)
    if code: raise OSError(code, '')
def read(path, count=4096):
    with open(path, 'rb', buffering=0) as f: return f.read(count)
def write(path, text):
    with open(path, 'wb', buffering=0) as f: f.write(text)
"#;

/// Attempts by name, and how each ended.
#[derive(Debug)]
pub(super) struct Seen(BTreeMap<String, String>);

impl Seen {
    fn of(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(" = "));
        Self(
            pairs
                .map(|(name, got)| (name.to_owned(), got.to_owned()))
                .collect(),
        )
    }

    /// How an attempt ended.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no {name:?} in {self:?}"))
    }

    /// Every attempt ended as one of the words listed for it, separated by `|`.
    pub(super) fn expect<'a>(
        &self,
        place: &str,
        all: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let wrong: Vec<_> = all
            .into_iter()
            .filter(|(name, words)| !words.split('|').any(|word| word == self.get(name)))
            .map(|(name, words)| format!("{name}: {} instead of {words}", self.get(name)))
            .collect();
        assert!(wrong.is_empty(), "{place}: {wrong:#?}");
    }
}

/// What an attempt must give: its name, inside, and outside (`""`: only inside, because it needs
/// root or would harm the host).
pub(super) type Pair = (&'static str, &'static str, &'static str);

/// Runs a probe as the test's own user, unconfined.
pub(super) fn outside(probe: &str) -> Seen {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new("/usr/bin/python3")
        .args(["-I", "-c", &format!("{PRELUDE}{probe}")])
        .current_dir(directory.path())
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("python3 is what the images hold too");
    let text = String::from_utf8_lossy(&output.stdout);
    let seen = Seen::of(&text);
    assert!(
        output.status.success(),
        "outside: {seen:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    seen
}

/// The shell words that run a probe.
fn command(probe: &str) -> String {
    format!("python3 -I - <<'END OF PROBE'\n{PRELUDE}{probe}\nEND OF PROBE\n")
}

/// Runs a probe in the bash sandbox.
pub(super) async fn in_bash(session: &OpenSession, probe: &str) -> Seen {
    let reply = session.good(Language::Bash, &command(probe)).await;
    Seen::of(&reply.stdout)
}

/// Runs a probe in the python sandbox, beside the runner.
pub(super) async fn in_python(session: &OpenSession, probe: &str) -> Seen {
    // A JSON text is a literal of python too.
    let code = serde_json::to_string(&format!("{PRELUDE}{probe}")).expect("text");
    let reply = session
        .exec(
            Language::Python,
            &format!(
                "import subprocess, sys\nprint(subprocess.run([sys.executable, '-I', '-c', \
                 {code}], check=True, stdout=subprocess.PIPE, text=True).stdout)"
            ),
        )
        .await;
    assert!(reply.success, "{}", describe(&reply));
    Seen::of(&reply.stdout)
}

/// A probe outside, in bash's sandbox and in python's.
pub(super) async fn pairs(session: &OpenSession, probe: &str, pairs: &[Pair]) {
    let natural = pairs.iter().filter(|pair| !pair.2.is_empty());
    outside(probe_outside(probe, pairs).as_str()).expect("outside", natural.map(|p| (p.0, p.2)));
    let inside = || pairs.iter().map(|pair| (pair.0, pair.1));
    in_bash(session, probe).await.expect("bash", inside());
    in_python(session, probe).await.expect("python", inside());
}

/// Without the attempts that are only made inside: each is one `t("name", …)` line.
fn probe_outside(probe: &str, pairs: &[Pair]) -> String {
    let inside_only = |line: &str| {
        pairs
            .iter()
            .any(|pair| pair.2.is_empty() && line.contains(&format!("t('{}',", pair.0)))
    };
    probe
        .lines()
        .filter(|line| !inside_only(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Whether the test process is root: what outside needs it is said and left out otherwise.
pub(super) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}
