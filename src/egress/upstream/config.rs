//! The daemon's upstream proxy as an operator sets it.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::egress::{Error, Proxy, ProxyError};

/// What stands for a secret wherever one would be shown.
const HIDDEN: &str = "***";
/// Bytes of a password file: the longest password and the end of its line.
const MAX_PASSWORD_FILE: usize = 257;

/// Config section `[egress.upstream]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamConfig {
    /// `http://host:port` (CONNECT) or `socks5://host:port`; empty: none.
    pub server: String,
    /// Empty: no credentials.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// A file whose first line is the password, read once at start; empty: none.
    pub password_file: PathBuf,
    /// Who looks names up.
    pub resolve: Resolve,
}

/// Who looks names up when there is an upstream proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolve {
    /// The daemon, which checks every address and passes the checked one on.
    #[default]
    Local,
    /// The proxy. No rule by address holds then, but for literal addresses.
    Upstream,
}

/// A text that is never shown: `Debug`, `Display` and serialisation give `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for where it is used.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(SecretVisitor)
    }
}

/// Takes a string, and does not repeat what is none in its complaint.
struct SecretVisitor;

impl de::Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(text.into())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom("must be a text in quotes"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom("must be a text in quotes"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom("must be a text in quotes"))
    }
}

impl UpstreamConfig {
    /// Checks what can be checked without reading the password file.
    pub(in crate::egress) fn validate(&self) -> Result<(), Error> {
        let has_file = !self.password_file.as_os_str().is_empty();
        if self.server.is_empty() {
            let without_effect = [
                ("username", !self.username.is_empty()),
                ("password", !self.password.is_empty()),
                ("password_file", has_file),
                ("resolve", self.resolve != Resolve::Local),
            ];
            return match without_effect.iter().find(|(_, is_set)| *is_set) {
                Some((key, _)) => Err(wrong(key, "is set, but server is not")),
                None => Ok(()),
            };
        }
        if self.password.0 == HIDDEN {
            return Err(wrong(
                "password",
                "is what `pagebox config` shows in place of a password",
            ));
        }
        if has_file && !self.password.is_empty() {
            return Err(wrong("password_file", "and password are both set"));
        }
        if has_file && self.username.is_empty() {
            return Err(wrong("password_file", "is set, but username is not"));
        }
        // What the file will hold is not known yet, only that there will be a password.
        let password = if has_file { HIDDEN } else { &self.password.0 };
        self.proxy(password).map(drop)
    }

    /// Turns `password_file`, if there is one, into `password`. Before privileges are dropped: the
    /// file is best readable by root alone.
    pub(crate) fn read_password(&mut self) -> Result<(), Error> {
        if self.password_file.as_os_str().is_empty() {
            return Ok(());
        }
        let shown = self.password_file.display().to_string();
        let wrong = |what: String| Err(wrong("password_file", format!("{shown}: {what}")));
        let password = match read_line(&self.password_file) {
            Ok(password) if password.is_empty() => return wrong("is empty".to_owned()),
            Ok(password) => password,
            Err(error) => return wrong(format!("cannot read the password: {error}")),
        };
        self.proxy(&password)?;
        self.password = Secret(password);
        self.password_file = PathBuf::new();
        Ok(())
    }

    /// What names going to the proxy weakens, for people; `None` while they are looked up here.
    pub(in crate::egress) fn weakening(&self) -> Option<String> {
        (self.resolve == Resolve::Upstream).then(|| {
            "names are looked up by the upstream proxy (egress.upstream.resolve = \"upstream\"): \
             rules and closed ranges hold for literal addresses only, not for the addresses of names"
                .to_owned()
        })
    }

    fn proxy(&self, password: &str) -> Result<Proxy, Error> {
        Proxy::new(&self.server, &self.username, password).map_err(|error| {
            let key = match error {
                ProxyError::Server(_) | ProxyError::UserInfo => "server",
                ProxyError::Username => "username",
                ProxyError::Password => "password",
            };
            wrong(key, error.to_string())
        })
    }
}

fn wrong(key: &'static str, message: impl Into<String>) -> Error {
    Error::Upstream {
        key,
        message: message.into(),
    }
}

/// The one line of a file, without its end.
fn read_line(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than is allowed shows that there is more.
    let most = MAX_PASSWORD_FILE as u64 + 1;
    std::fs::File::open(path)?
        .take(most)
        .read_to_string(&mut text)?;
    if text.len() > MAX_PASSWORD_FILE {
        return Err(io::Error::other(format!(
            "longer than {MAX_PASSWORD_FILE} bytes"
        )));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains(['\n', '\r']) {
        return Err(io::Error::other("it has more than one line"));
    }
    Ok(line.to_owned())
}

/// The daemon's upstream proxy, ready for use.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub(super) proxy: Proxy,
    pub(super) resolve: Resolve,
}

impl Upstream {
    /// The one of `config`, whose password file has been read; `None` when it names none.
    ///
    /// # Errors
    /// The first key that is not as it must be.
    pub fn new(config: &super::super::Config) -> Result<Option<Self>, Error> {
        let config = &config.upstream;
        if config.server.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            proxy: config.proxy(&config.password.0)?,
            resolve: config.resolve,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str) -> UpstreamConfig {
        UpstreamConfig {
            server: server.to_owned(),
            ..UpstreamConfig::default()
        }
    }

    fn complaint(config: &UpstreamConfig) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn what_has_no_effect_or_two_meanings_is_refused_by_its_key() {
        UpstreamConfig::default().validate().unwrap();
        config("http://proxy.test:3128").validate().unwrap();
        config("socks5://[fd00::1]:1080").validate().unwrap();
        type Change = fn(&mut UpstreamConfig);
        let unused: [(&str, Change); 4] = [
            ("username", |c| c.username = "u".into()),
            ("password", |c| c.password = "pass-word".into()),
            ("password_file", |c| c.password_file = "/x".into()),
            ("resolve", |c| c.resolve = Resolve::Upstream),
        ];
        for (key, change) in unused {
            let mut config = UpstreamConfig::default();
            change(&mut config);
            let expected = format!("egress.upstream.{key}: is set, but server is not");
            assert_eq!(complaint(&config), expected);
        }
        let with: [(&str, Change); 6] = [
            ("password_file", |c| {
                (c.username, c.password_file) = ("u".into(), "/x".into());
                c.password = "pass-word".into();
            }),
            ("password_file", |c| c.password_file = "/x".into()),
            ("password", |c| c.password = "pass-word".into()),
            ("password", |c| {
                (c.username, c.password) = ("u".into(), "***".into());
            }),
            ("username", |c| {
                (c.username, c.password) = ("u:v".into(), "pass-word".into());
            }),
            ("password", |c| {
                (c.username, c.password) = ("u".into(), "pass-word\n".into());
            }),
        ];
        for (key, change) in with {
            let mut config = config("http://proxy.test:3128");
            change(&mut config);
            let said = complaint(&config);
            assert!(
                said.starts_with(&format!("egress.upstream.{key}: ")),
                "{said}"
            );
            assert!(!said.contains("pass-word"), "{said}");
        }
    }

    #[test]
    fn a_bad_server_is_named_without_what_may_be_a_password() {
        for (server, expected) in [
            ("ftp://proxy.test:1", "is \"ftp://proxy.test:1\""),
            ("http://proxy.test:0", "is \"http://proxy.test:0\""),
            ("socks5://proxy.test", "is \"socks5://proxy.test\""),
            ("http://proxy.test:1/x", "is \"http://proxy.test:1/x\""),
            ("u:pass-word@proxy.test:1", "is \"***@proxy.test:1\""),
            (
                "http://u:pass-word@proxy.test:1",
                "must not hold a user name",
            ),
            ("http://u:pass-word@", "is \"***@\""),
        ] {
            let said = complaint(&config(server));
            let start = format!("egress.upstream.server: {expected}");
            assert!(said.starts_with(&start), "{said}");
            assert!(!said.contains("pass-word"), "{said}");
        }
        let long = format!("http://{}", "a".repeat(100_000));
        assert!(complaint(&config(&long)).len() < 500);
    }

    #[test]
    fn the_password_file_is_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let mut config = config("socks5://proxy.test:1080");
        config.username = "u".into();
        config.password_file.clone_from(&path);
        config.validate().unwrap();
        let read = |content: &[u8]| {
            let mut config = config.clone();
            std::fs::write(&path, content).unwrap();
            config.read_password().map_err(|error| error.to_string())?;
            config.validate().unwrap();
            Ok(config.password.0)
        };
        let longest = "x".repeat(255);
        for (content, expected) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("se cret\r\n", "se cret"),
            (&format!("{longest}\r\n"), &longest),
        ] {
            assert_eq!(
                read(content.as_bytes()),
                Ok::<_, String>(expected.to_owned())
            );
        }
        for (content, expected) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"secret\nmore\n", "more than one line"),
            (b"secret\xff", "UTF-8"),
            (&[b'x'; 258], "longer than 257 bytes"),
        ] {
            let said = read(content).unwrap_err();
            assert!(
                said.starts_with("egress.upstream.password_file: /"),
                "{said}"
            );
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
        std::fs::remove_file(&path).unwrap();
        let said = config.read_password().unwrap_err().to_string();
        assert!(said.contains("No such file"), "{said}");
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let mut config = config("http://proxy.test:3128");
        config.username = "u".into();
        config.password = "pass-word".into();
        let shown = [
            format!("{config:?}"),
            toml::to_string(&config).unwrap(),
            format!("{:?}", config.proxy("pass-word").unwrap()),
        ];
        for shown in shown {
            assert!(!shown.contains("pass-word"), "{shown}");
        }
    }
}
