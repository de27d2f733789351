//! Domain → wire: a session's network, as a caller sees it.

use std::net::IpAddr;

use super::v1;
use super::view::timestamp;
use crate::egress::{LoggedRequest, NetworkUsage, Source, Verdict};
use crate::limits::Bytes;

pub(super) fn usage(usage: NetworkUsage) -> v1::NetworkUsage {
    let NetworkUsage {
        requests,
        refused,
        sent: Bytes(sent_bytes),
        received: Bytes(received_bytes),
    } = usage;
    v1::NetworkUsage {
        requests,
        refused,
        sent_bytes,
        received_bytes,
    }
}

pub(super) fn request(request: LoggedRequest) -> v1::NetworkRequest {
    let (verdict, rule, error) = match &request.verdict {
        Verdict::Allowed => (v1::NetworkVerdict::Allowed, "", ""),
        Verdict::Refused(rule) => (v1::NetworkVerdict::Refused, &**rule, ""),
        Verdict::Failed(error) => (v1::NetworkVerdict::Failed, "", &**error),
    };
    let source = match request.source {
        Source::Browser => v1::NetworkSource::Browser,
        Source::Code => v1::NetworkSource::Code,
    };
    v1::NetworkRequest {
        id: request.id,
        source: source.into(),
        start_time: Some(timestamp(request.start_time)),
        end_time: request.end_time.map(timestamp),
        host: request.host.as_ref().to_owned(),
        port: request.port.into(),
        address: request
            .address
            .as_ref()
            .map(IpAddr::to_string)
            .unwrap_or_default(),
        verdict: verdict.into(),
        rule: rule.to_owned(),
        error: error.to_owned(),
        sent_bytes: request.sent.0,
        received_bytes: request.received.0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_request_arrives_whole() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let wire_time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let refused = LoggedRequest {
            id: 7,
            source: Source::Code,
            start_time: at(1),
            end_time: Some(at(2)),
            host: "a.test".into(),
            port: 8443,
            address: Some("2001:db8::1".parse().unwrap()),
            verdict: Verdict::Refused("byte-limit".into()),
            sent: Bytes(3),
            received: Bytes(4),
        };
        let wire = v1::NetworkRequest {
            id: 7,
            source: v1::NetworkSource::Code.into(),
            start_time: wire_time(1),
            end_time: wire_time(2),
            host: "a.test".into(),
            port: 8443,
            address: "2001:db8::1".into(),
            verdict: v1::NetworkVerdict::Refused.into(),
            rule: "byte-limit".into(),
            error: String::new(),
            sent_bytes: 3,
            received_bytes: 4,
        };
        assert_eq!(request(refused.clone()), wire);
        let failed = LoggedRequest {
            source: Source::Browser,
            end_time: None,
            address: None,
            verdict: Verdict::Failed("no such host".into()),
            ..refused.clone()
        };
        let wire_failed = v1::NetworkRequest {
            source: v1::NetworkSource::Browser.into(),
            end_time: None,
            address: String::new(),
            verdict: v1::NetworkVerdict::Failed.into(),
            rule: String::new(),
            error: "no such host".into(),
            ..wire.clone()
        };
        assert_eq!(request(failed), wire_failed);
        let allowed = LoggedRequest {
            verdict: Verdict::Allowed,
            ..refused
        };
        let wire_allowed = v1::NetworkRequest {
            verdict: v1::NetworkVerdict::Allowed.into(),
            rule: String::new(),
            ..wire
        };
        assert_eq!(request(allowed), wire_allowed);
    }
}
