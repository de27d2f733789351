//! Logs: whose they are, and what never gets into them.

use std::collections::HashMap;

use pagebox::grpc::v1::{Language, SessionOptions};

use crate::client::{Client, environment};
use crate::daemon::Daemon;
use crate::shared::{binary, site};

const SECRET: &str = "s3cr3tt0ken";

/// Puts the secret everywhere a caller or a page can.
async fn use_it(daemon: &Daemon) {
    let client = Client::new(&daemon.url());
    let page = site().url(&format!("/search?q={SECRET}"));
    let options = SessionOptions {
        start_url: page.clone(),
        user_agent: SECRET.to_owned(),
        labels: HashMap::from([("label".to_owned(), SECRET.to_owned())]),
        ..SessionOptions::default()
    };
    let session = client.open_with(options).await;
    let node = format!(
        "console.log('{SECRET}'); console.error('{SECRET}');
         await page.evaluate(() => {{ document.title = '{SECRET}'; console.log('{SECRET}') }});
         for (const url of ['http://10.0.0.1/{SECRET}', 'http://{SECRET}.invalid/', 'file:///{SECRET}'])
           await page.goto(url).catch(String);
         throw new Error('{SECRET}')"
    );
    let mut options = session.options(Language::Node, &node);
    options.environment = environment(&[("TOKEN", SECRET)]);
    options.origin = SECRET.to_owned();
    assert!(!session.run(options).await.success);
    let python = format!("print('{SECRET}')\nraise ValueError('{SECRET}')");
    session.exec(Language::Python, &python).await;
    let bash = format!(
        "echo {SECRET}; agent-browser open '{page}'; curl -s http://{SECRET}.invalid/; exit 3"
    );
    session.exec(Language::Bash, &bash).await;
    for options in [
        SessionOptions {
            start_url: format!("ftp://{SECRET}"),
            ..SessionOptions::default()
        },
        SessionOptions {
            user_agent: format!("{SECRET}\n"),
            ..SessionOptions::default()
        },
    ] {
        client.create(options).await.unwrap_err();
    }
    session.stop().await;
}

fn log_of(daemon: &Daemon) -> String {
    let log = daemon.log();
    for line in log.lines() {
        assert!(!line.to_lowercase().contains(SECRET), "{line}");
    }
    log
}

#[tokio::test]
async fn no_log_line_holds_code_urls_values_or_content() {
    let daemon = Daemon::start(binary(), "[log]\nfilter = \"debug\"\n");
    use_it(&daemon).await;
    let log = log_of(&daemon);
    for span in [
        "rpc{method=",
        "session{session_id=",
        "execution{execution_id=",
    ] {
        assert!(log.contains(span), "no {span} in\n{log}");
    }
}

#[tokio::test]
async fn json_lines_carry_their_spans() {
    let daemon = Daemon::start(
        binary(),
        "[log]\nformat = \"json\"\nfilter = \"pagebox=debug\"\n",
    );
    use_it(&daemon).await;
    let log = log_of(&daemon);
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let spans_of = |message: &str| {
        let line = lines.iter().find(|line| line["message"] == message);
        let line = line.unwrap_or_else(|| panic!("no '{message}' in\n{log}"));
        let spans = line["spans"].as_array().unwrap().iter();
        spans
            .map(|span| {
                let mut keys: Vec<_> = span.as_object().unwrap().keys().cloned().collect();
                keys.retain(|key| key != "name");
                format!("{}{keys:?}", span["name"].as_str().unwrap())
            })
            .collect::<Vec<_>>()
    };
    let session = "session[\"session_id\"]";
    assert_eq!(spans_of("session ended"), [session]);
    let execution = spans_of("execution ended");
    assert_eq!(execution[0], session);
    assert_eq!(
        execution.last().unwrap(),
        "execution[\"execution_id\", \"language\"]"
    );
    assert_eq!(
        spans_of("browser ready"),
        [session, "sandbox[\"id\", \"image\"]"]
    );
    assert_eq!(
        spans_of("CDP client connected"),
        [session, "cdp_client[\"client_id\", \"kind\"]"]
    );
    assert_eq!(spans_of("call refused"), ["rpc[\"method\"]"]);
}
