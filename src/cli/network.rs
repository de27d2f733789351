//! Options of a session's network, for every command that opens one.

use url::Url;

use crate::egress::Rule;
use crate::grpc::v1;
use crate::limits::Bytes;

/// What the session may reach.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkArgs {
    /// Reach only this: a host, *.host, address or network, with :PORT if need be; may be repeated
    #[arg(long, value_name = "RULE", value_parser = rule)]
    allow: Vec<String>,
    /// Never reach this; may be repeated
    #[arg(long, value_name = "RULE", value_parser = rule)]
    deny: Vec<String>,
    /// Reach nothing but the session's own localhost
    #[arg(long, conflicts_with_all = ["allow", "deny", "proxy", "max_bytes"])]
    offline: bool,
    /// Go through this proxy: http://[USER:PASSWORD@]HOST:PORT or socks5://…
    #[arg(long, value_name = "URL", value_parser = proxy)]
    proxy: Option<v1::Proxy>,
    /// End all traffic after this many bytes, such as "100 MiB"
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<Bytes>,
}

impl NetworkArgs {
    pub(super) fn wire(self) -> v1::NetworkOptions {
        v1::NetworkOptions {
            allow: self.allow,
            deny: self.deny,
            offline: self.offline,
            proxy: self.proxy,
            max_bytes: self.max_bytes.map_or(0, |Bytes(bytes)| bytes),
        }
    }
}

/// As typed, if it is a rule. What can never match is for the daemon to say.
fn rule(text: &str) -> Result<String, String> {
    let parsed = text.parse::<Rule>();
    parsed.map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Takes user name and password out of the URL. The daemon checks the rest.
fn proxy(text: &str) -> Result<v1::Proxy, String> {
    let mut url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    let decoded = |part: &str| {
        percent_encoding::percent_decode_str(part)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| "user name or password is not UTF-8".to_owned())
    };
    let username = decoded(url.username())?;
    let password = decoded(url.password().unwrap_or_default())?;
    let cannot = |()| "not a URL with a host".to_owned();
    url.set_username("").map_err(cannot)?;
    url.set_password(None).map_err(cannot)?;
    Ok(v1::Proxy {
        server: url.into(),
        username,
        password,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let proxy = proxy("socks5://us%40er:p%3Aw@proxy.test:1080").unwrap();
        assert_eq!(proxy.server, "socks5://proxy.test:1080");
        assert_eq!((&*proxy.username, &*proxy.password), ("us@er", "p:w"));
        for text in ["", "proxy", "http:", "mailto:a@b"] {
            super::proxy(text).unwrap_err();
        }
    }
}
