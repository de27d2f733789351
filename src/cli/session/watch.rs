//! What a session does, for people: a line for each event, a table of its network requests.

use super::{CELL, harmless, short_name, state_name, table};
use crate::grpc::v1;
use crate::grpc::v1::watch_session_response::Event;

/// Totals in a few words.
pub(super) fn usage(usage: v1::NetworkUsage) -> String {
    let plural = if usage.requests == 1 { "" } else { "s" };
    format!(
        "{} request{plural}, {} refused, {} bytes sent, {} received",
        usage.requests, usage.refused, usage.sent_bytes, usage.received_bytes
    )
}

/// The requests under a header, after an empty line; nothing where there are none.
pub(super) fn requests_table(requests: &[v1::NetworkRequest]) -> String {
    if requests.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = requests
        .iter()
        .map(|request| {
            vec![
                clock(request.start_time),
                source(request),
                target(request),
                verdict(request),
                request.sent_bytes.to_string(),
                request.received_bytes.to_string(),
                request.address.clone(),
                why(request),
            ]
        })
        .collect();
    let header = [
        "TIME", "FROM", "HOST", "VERDICT", "SENT", "RECEIVED", "ADDRESS", "WHY",
    ];
    format!("\n{}", table(&header, &rows))
}

/// An event on one line.
pub(super) fn line(event: &v1::WatchSessionResponse) -> String {
    let what = match &event.event {
        Some(Event::Session(session)) => format!("session {}", state_name(session)),
        Some(Event::PageOpened(page)) => format!("page opened {}", page_text(page)),
        Some(Event::PageChanged(page)) => format!("page changed {}", page_text(page)),
        Some(Event::PageClosed(page)) => format!("page closed {}", page_text(page)),
        Some(Event::PageActivated(page)) => format!("page activated {}", page_text(page)),
        Some(Event::EventsDropped(dropped)) => format!("{} events dropped", dropped.count),
        Some(Event::NetworkRequest(request)) => request_text(request),
        Some(Event::ControlChanged(control)) => match control.human {
            true => "a person is in control".to_owned(),
            false => "code is in control".to_owned(),
        },
        Some(Event::HumanAsked(asked)) if asked.reason.is_empty() => {
            "code asks for nobody any more".to_owned()
        }
        Some(Event::HumanAsked(asked)) => {
            format!("code asks for a person: {}", harmless(&asked.reason, CELL))
        }
        None => "an event of a newer daemon".to_owned(),
    };
    format!("{} {what}", clock(event.time))
}

fn page_text(page: &v1::PageEvent) -> String {
    let url = harmless(&page.url, usize::MAX);
    format!("{url} {}", harmless(&page.title, CELL))
        .trim_end()
        .to_owned()
}

/// The verdict when it is decided, the bytes when it has ended; one line has both where a rule or an
/// error ended a connection.
fn request_text(request: &v1::NetworkRequest) -> String {
    let mut text = format!(
        "request {} {} {}",
        request.id,
        source(request),
        target(request)
    );
    let has_ended = request.end_time.is_some();
    if !has_ended || !why(request).is_empty() {
        text += &format!(" {}", verdict(request));
    }
    if !why(request).is_empty() {
        text += &format!(": {}", why(request));
    } else if !has_ended && !request.address.is_empty() {
        text += &format!(", {}", request.address);
    }
    let bytes = (request.sent_bytes, request.received_bytes);
    if has_ended && (why(request).is_empty() || bytes != (0, 0)) {
        let (sent, received) = bytes;
        let comma = if why(request).is_empty() { "" } else { "," };
        text += &format!("{comma} ended, {sent} bytes sent, {received} received");
    }
    text
}

fn source(request: &v1::NetworkRequest) -> String {
    short_name(request.source().as_str_name(), "NETWORK_SOURCE_")
}

fn verdict(request: &v1::NetworkRequest) -> String {
    short_name(request.verdict().as_str_name(), "NETWORK_VERDICT_")
}

fn target(request: &v1::NetworkRequest) -> String {
    format!("{}:{}", harmless(&request.host, usize::MAX), request.port)
}

/// The rule or the error.
fn why(request: &v1::NetworkRequest) -> String {
    harmless(&format!("{}{}", request.rule, request.error), usize::MAX)
}

/// The time of day, in UTC.
fn clock(time: Option<prost_types::Timestamp>) -> String {
    super::time(time)
        .split_once('T')
        .map(|(_, time)| time.to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::NetworkRequest {
        v1::NetworkRequest {
            id: 3,
            source: v1::NetworkSource::Code.into(),
            start_time: Some(prost_types::Timestamp::default()),
            end_time: Some(prost_types::Timestamp::default()),
            host: "ads.test".into(),
            port: 443,
            verdict: v1::NetworkVerdict::Refused.into(),
            rule: "deny ads.test".into(),
            ..v1::NetworkRequest::default()
        }
    }

    #[test]
    fn requests_are_a_table_after_the_details() {
        assert_eq!(requests_table(&[]), "");
        assert_eq!(
            requests_table(&[request()]),
            "\nTIME       FROM  HOST          VERDICT  SENT  RECEIVED  ADDRESS  WHY\n\
             00:00:00Z  code  ads.test:443  refused  0     0                  deny ads.test\n"
        );
    }

    #[test]
    fn each_event_is_one_line() {
        let line = |event| {
            line(&v1::WatchSessionResponse {
                time: Some(prost_types::Timestamp::default()),
                event: Some(event),
            })
        };
        assert_eq!(
            line(Event::NetworkRequest(request())),
            "00:00:00Z request 3 code ads.test:443 refused: deny ads.test"
        );
        let cut = v1::NetworkRequest {
            rule: "byte-limit".into(),
            sent_bytes: 1,
            received_bytes: 2,
            ..request()
        };
        assert_eq!(
            line(Event::NetworkRequest(cut)),
            "00:00:00Z request 3 code ads.test:443 refused: byte-limit, ended, 1 bytes sent, 2 received"
        );
        let ended = v1::NetworkRequest {
            verdict: v1::NetworkVerdict::Allowed.into(),
            rule: String::new(),
            address: "93.184.216.34".into(),
            ..request()
        };
        let going_on = v1::NetworkRequest {
            end_time: None,
            ..ended.clone()
        };
        assert_eq!(
            line(Event::NetworkRequest(going_on)),
            "00:00:00Z request 3 code ads.test:443 allowed, 93.184.216.34"
        );
        assert_eq!(
            line(Event::NetworkRequest(ended)),
            "00:00:00Z request 3 code ads.test:443 ended, 0 bytes sent, 0 received"
        );
        let page = v1::PageEvent {
            url: "http://a/".into(),
            title: "A\nB".into(),
            ..v1::PageEvent::default()
        };
        assert_eq!(
            line(Event::PageOpened(page)),
            "00:00:00Z page opened http://a/ A B"
        );
        assert_eq!(
            line(Event::EventsDropped(v1::EventsDropped { count: 2 })),
            "00:00:00Z 2 events dropped"
        );
        let session = v1::Session {
            state: v1::SessionState::Ready.into(),
            ..v1::Session::default()
        };
        assert_eq!(line(Event::Session(session)), "00:00:00Z session ready");
    }
}
