//! What holds of whatever a session asks of its network: for property tests and fuzzing.

mod model;
mod request;

pub(crate) use request::request;

use hyper::header::HeaderValue;

use super::rules::Rule;
use super::target::{Host, Target};

/// A text is a rule that reads back as written and fits a header, or no rule.
pub(crate) fn rule(text: &str) {
    let Ok(rule) = text.parse::<Rule>() else {
        return;
    };
    let written = rule.to_string();
    assert_eq!(written.parse::<Rule>().as_ref(), Ok(&rule), "{text:?}");
    assert!(HeaderValue::from_str(&written).is_ok(), "{written:?}");
}

/// An authority is where a browser would go with it, in a spelling that reads the same, or it is
/// refused.
pub(crate) fn target(authority: &str) {
    let Ok(target) = Target::parse(authority, Some(80)) else {
        return;
    };
    assert_eq!(
        Target::parse(&target.to_string(), None).as_ref(),
        Ok(&target)
    );
    assert_eq!(
        Target::parse(&target.host_header(), Some(80)).as_ref(),
        Ok(&target)
    );
    assert!(HeaderValue::from_str(&target.host_header()).is_ok());
    let url = url::Url::parse(&format!("http://{authority}/")).expect("a browser takes it too");
    assert_eq!((url.path(), url.query()), ("/", None), "{authority:?}");
    assert_eq!(url.port_or_known_default(), Some(target.port));
    let host = url.host_str().unwrap_or_default();
    assert_eq!(Host::parse(host).as_ref(), Ok(&target.host));
    match (url.host(), &target.host) {
        (Some(url::Host::Domain(name)), Host::Name(host)) => {
            assert_eq!(name.strip_suffix('.').unwrap_or(name), host);
        }
        (Some(url::Host::Ipv4(address)), Host::Address(host)) => assert_eq!(address, *host),
        (Some(url::Host::Ipv6(address)), Host::Address(host)) => assert_eq!(address, *host),
        (browser, ours) => panic!("{authority:?} is {browser:?} to a browser, {ours:?} to us"),
    }
}

#[cfg(test)]
mod tests;
