//! Merging: defaults, then files, then environment variables, then flags.
//!
//! Every source is checked by itself against the whole schema, so an error names the file and
//! line, the variable, or the flag that caused it. Does not judge values; [`Config::validate`] does.

mod environment;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, Error, paths, render};

/// Longest file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Longest description of what is wrong in one.
const MAX_SHOWN: usize = 2000;
/// A flag that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As typed, for messages: `--listen`.
    pub name: &'static str,
    /// The key, with dots: `egress.host_loopback`.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
}

/// Where configuration comes from; later ones win.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, in order.
    pub files: Vec<PathBuf>,
    /// `PAGEBOX_*` variables; others are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// This process's own: `file` if given, else the usual files that exist; its environment; and
    /// these flags.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let files = match file {
            Some(file) => vec![file],
            None => paths::usual_files(),
        };
        Self {
            files,
            environment: std::env::vars_os().collect(),
            flags,
        }
    }

    /// Merges and checks them.
    ///
    /// # Errors
    /// What is wrong in the first source that is wrong, then what [`Config::validate`] refuses.
    pub fn load(self) -> Result<Loaded, Error> {
        let mut merged = Merged {
            table: Table::try_from(Config::default()).map_err(combine)?,
            origins: BTreeMap::new(),
        };
        for path in &self.files {
            merged.add(read_file(path)?, &path.display().to_string());
        }
        let defaults = merged.table.clone();
        for (name, value) in self.environment {
            let Some((name, key)) = environment::key_of_variable(&name) else {
                continue;
            };
            let error = |message| Error::Environment {
                name: name.clone(),
                message,
            };
            let value = value
                .into_string()
                .map_err(|_| error("is not UTF-8".to_owned()))?;
            let table = environment::variable_table(&key, &value, &defaults).map_err(error)?;
            merged.add(table, &name);
        }
        for flag in self.flags {
            let key: Vec<String> = flag.key.split('.').map(str::to_owned).collect();
            let table = nest(&key, flag.value);
            check(&table).map_err(|message| Error::Flag {
                flag: flag.name,
                message,
            })?;
            merged.add(table, flag.name);
        }
        let config: Config = merged.table.try_into().map_err(combine)?;
        config.validate()?;
        Ok(Loaded {
            config,
            files: self.files,
            origins: merged.origins,
        })
    }
}

fn combine(error: impl std::fmt::Display) -> Error {
    Error::Combine(error.to_string())
}

/// The effective configuration and where each value is from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    files: Vec<PathBuf>,
    /// Dotted key to source, for values that are not the default.
    origins: BTreeMap<String, String>,
}

impl Loaded {
    /// As TOML, each value that is not the default with a note where it is from.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, Error> {
        render::render(&self.config, &self.files, &self.origins)
    }

    /// Whether a source other than the defaults set this dotted key.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }
}

struct Merged {
    table: Table,
    origins: BTreeMap<String, String>,
}

impl Merged {
    fn add(&mut self, table: Table, origin: &str) {
        merge(&mut self.table, table, &mut self.origins, "", origin);
    }
}

fn merge(
    into: &mut Table,
    from: Table,
    origins: &mut BTreeMap<String, String>,
    prefix: &str,
    origin: &str,
) {
    for (key, value) in from {
        let path = format!("{prefix}{key}");
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => {
                merge(into, from, origins, &format!("{path}."), origin);
            }
            (_, value) => {
                origins.insert(path, origin.to_owned());
                into.insert(key, value);
            }
        }
    }
}

/// Not without end: the path may be that of a device.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!(
            "it is longer than {MAX_FILE} bytes"
        )));
    }
    Ok(text)
}

fn read_file(path: &Path) -> Result<Table, Error> {
    let text = read_text(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let error = |error: toml::de::Error| Error::File {
        path: path.to_owned(),
        message: describe(&error, &text),
    };
    toml::from_str::<Config>(&text).map_err(error)?;
    toml::from_str(&text).map_err(error)
}

/// What is wrong in a file, with the line it is in; without that line where it may hold a password,
/// or is too long to be read.
fn describe(error: &toml::de::Error, text: &str) -> String {
    let shown = error.to_string();
    if !text.contains("upstream") && shown.len() <= MAX_SHOWN {
        return shown.trim_end().to_owned();
    }
    let start = error.span().map_or(0, |span| span.start);
    let line = text.bytes().take(start).filter(|&b| b == b'\n').count() + 1;
    // A key or a value may be in it.
    let message: String = error.message().chars().take(MAX_SHOWN).collect();
    format!("line {line}: {message}")
}

/// Checks one source alone; every key has a default, so a part is a whole.
fn check(table: &Table) -> Result<(), String> {
    Config::deserialize(table.clone())
        .map(drop)
        .map_err(|error| error.to_string().trim_end().replace('\n', " "))
}

fn nest(key: &[String], value: Value) -> Table {
    let mut value = value;
    for part in key.iter().rev() {
        value = Value::Table(Table::from_iter([(part.clone(), value)]));
    }
    match value {
        Value::Table(table) => table,
        // Only for an empty key, which `split` never gives.
        _ => Table::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::Bytes;

    fn env(pairs: &[(&str, &str)]) -> Sources {
        Sources {
            environment: pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..Sources::default()
        }
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, Sources) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let sources = Sources {
            files: vec![file.path().to_owned()],
            ..Sources::default()
        };
        (file, sources)
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        let loaded = Sources::default().load().unwrap();
        assert_eq!(loaded.config, Config::default());
    }

    #[test]
    fn flags_win_over_environment_wins_over_files() {
        let (_file, mut sources) =
            file("listen = \"127.0.0.1:1\"\ndrain_grace = \"1s\"\n[session]\nmax_sessions = 3\n");
        sources.environment = env(&[
            ("PAGEBOX_LISTEN", "127.0.0.1:2"),
            ("PAGEBOX_SESSION__MAX_SESSIONS", "4"),
            ("PAGEBOX_CONFIG", "ignored"),
            ("PAGEBOX_SERVER", "ignored"),
            ("HOME", "/root"),
        ])
        .environment;
        sources.flags = vec![Flag {
            name: "--listen",
            key: "listen",
            value: Value::String("127.0.0.1:3".into()),
        }];
        let loaded = sources.load().unwrap();
        let mut expected = Config {
            listen: "127.0.0.1:3".parse().unwrap(),
            drain_grace: Duration::from_secs(1),
            ..Config::default()
        };
        expected.session.max_sessions = 4;
        assert_eq!(loaded.config, expected);
        assert!(loaded.is_set("listen"));
        assert!(!loaded.is_set("log.filter"));
    }

    #[test]
    fn a_variable_takes_the_type_of_its_key() {
        let loaded = env(&[
            ("PAGEBOX_LOG__FILTER", "warn"),
            ("PAGEBOX_LOG__FORMAT", "json"),
            ("PAGEBOX_ALLOW_UNAUTHENTICATED", "true"),
            ("PAGEBOX_DRAIN_GRACE", "2m"),
            ("PAGEBOX_SESSION__SCRATCH", "64 MiB"),
            ("PAGEBOX_LIMITS__STDOUT", "1024"),
            ("PAGEBOX_RUNNERS", "/opt/runners"),
            ("PAGEBOX_SANDBOX__ALLOW_DEGRADED", "no-cgroup, shared-uid"),
        ])
        .load()
        .unwrap();
        let config = loaded.config;
        assert_eq!(config.log.filter, "warn");
        assert_eq!(config.log.format, super::super::LogFormat::Json);
        assert!(config.allow_unauthenticated);
        assert_eq!(config.drain_grace, Duration::from_secs(120));
        assert_eq!(config.session.scratch, Bytes::mib(64));
        assert_eq!(config.limits.stdout, Bytes(1024));
        assert_eq!(config.runners, Some("/opt/runners".into()));
        assert_eq!(
            config.sandbox.allow_degraded,
            [
                crate::sandbox::Weakening::NoCgroup,
                crate::sandbox::Weakening::SharedUid
            ]
        );
    }

    #[test]
    fn unknown_keys_are_refused_by_name_in_files_and_environment() {
        let (path, sources) = file("[session]\nmax_sesions = 3\n");
        let message = sources.load().unwrap_err().to_string();
        assert!(message.contains("max_sesions"), "{message}");
        assert!(message.contains("line 2"), "{message}");
        assert!(
            message.contains(&path.path().display().to_string()),
            "{message}"
        );

        let message = env(&[("PAGEBOX_SESION__MAX_SESSIONS", "3")])
            .load()
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("PAGEBOX_SESION__MAX_SESSIONS"),
            "{message}"
        );
        assert!(message.contains("`sesion`"), "{message}");
    }

    #[test]
    fn wrong_types_are_refused_where_they_are() {
        let message = env(&[("PAGEBOX_SESSION__MAX_SESSIONS", "many")])
            .load()
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("PAGEBOX_SESSION__MAX_SESSIONS"),
            "{message}"
        );
        let (_file, sources) = file("drain_grace = \"soon\"\n");
        let message = sources.load().unwrap_err().to_string();
        assert!(message.contains("line 1"), "{message}");
    }

    #[test]
    fn the_sample_file_names_every_key_with_its_default() {
        let sample = include_str!("../../deploy/pagebox.toml");
        let commented: Config = toml::from_str(sample).unwrap();
        assert_eq!(commented, Config::default());
        // `#key = value` is a setting, `# words` is a comment.
        let uncommented = sample
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => setting,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n");
        let table: Table = uncommented.parse().unwrap();
        let mut config: Config = toml::from_str(&uncommented).unwrap();
        // These have no default of their own.
        assert!(config.data_dir.take().is_some() && config.agent.provider.take().is_some());
        assert!(config.runners.take().is_some() && config.images.take().is_some());
        assert_eq!(config, Config::default());
        let defaults = Table::try_from(Config::default()).unwrap();
        assert_same_keys(&defaults, &table);
    }

    fn assert_same_keys(defaults: &Table, sample: &Table) {
        for (key, value) in defaults {
            let found = sample.get(key);
            assert!(found.is_some(), "{key}");
            if let Value::Table(defaults) = value {
                assert_same_keys(defaults, found.unwrap().as_table().unwrap());
            }
        }
    }

    #[test]
    fn the_upstream_proxy_is_set_by_variables_and_its_password_stays_hidden() {
        let loaded = env(&[
            ("PAGEBOX_EGRESS__UPSTREAM__SERVER", "http://proxy.test:3128"),
            ("PAGEBOX_EGRESS__UPSTREAM__USERNAME", "12"),
            ("PAGEBOX_EGRESS__UPSTREAM__PASSWORD", "471147114711"),
            ("PAGEBOX_EGRESS__UPSTREAM__RESOLVE", "upstream"),
        ])
        .load()
        .unwrap();
        let upstream = &loaded.config.egress.upstream;
        assert_eq!(upstream.username, "12");
        assert_eq!(upstream.password, "471147114711".into());
        assert_eq!(upstream.resolve, crate::egress::Resolve::Upstream);
        let shown = loaded.to_toml().unwrap();
        let expected = "password = \"***\"  # PAGEBOX_EGRESS__UPSTREAM__PASSWORD\n";
        assert!(shown.contains(expected), "{shown}");
        assert!(!shown.contains("4711"), "{shown}");
        assert!(!format!("{loaded:?}").contains("4711"));
    }

    #[test]
    fn no_error_repeats_a_password() {
        for text in [
            "[egress.upstream]\npassword = 471147114711\n",
            "[egress.upstream]\npassword = 4711.5\n",
            "[egress.upstream]\npassword = 4711-11-11\n",
            "[egress.upstream]\npassword = [\"4711\"]\n",
            "[egress.upstream]\npassword = \"4711\n",
            "[egress.upstream]\npassword = 4711x\n",
            "[egress.upstream]\npassowrd = \"4711\"\n",
            "[egress.upstream]\npassword = \"4711\"\n",
            "[egress]\nupstream = { server = \"http://p:1\", password = 4711 }\n",
            "[egress]\nupstream = { server = \"http://u:4711@p:1\" }\n",
        ] {
            let (path, sources) = file(text);
            let message = sources.load().unwrap_err().to_string();
            let message = message.replace(&path.path().display().to_string(), "");
            assert!(!message.contains("4711"), "{message}");
            assert!(
                message.contains("line 2") || message.contains("egress.upstream."),
                "{message}"
            );
        }
        for name in ["PASSWORD", "PASSOWRD"] {
            let name = format!("PAGEBOX_EGRESS__UPSTREAM__{name}");
            let message = env(&[(&name, "4711")]).load().unwrap_err().to_string();
            assert!(!message.contains("4711"), "{message}");
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let sources = Sources {
            files: vec!["/nonexistent/pagebox.toml".into()],
            ..Sources::default()
        };
        let message = sources.load().unwrap_err().to_string();
        assert!(message.contains("/nonexistent/pagebox.toml"), "{message}");
    }
}
