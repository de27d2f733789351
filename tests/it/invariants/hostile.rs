//! 8: the daemon answers while hostile sessions do their worst, all at once.

use std::time::{Duration, Instant};

use pagebox::grpc::v1::daemon_service_client::DaemonServiceClient;
use pagebox::grpc::v1::{GetDaemonRequest, Language, ListSessionsRequest};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::client::{Client, duration, reason};
use crate::daemon::Daemon;
use crate::shared::{binary, site};

/// Generous: attackers and the honest share a few cores.
const ANSWER: Duration = Duration::from_secs(90);
/// How long each attack goes on; most are ended by their limits.
const ATTACK: Duration = Duration::from_secs(60);
/// Rounds of honest work meanwhile.
const ROUNDS: usize = 5;

fn attacks(url: &str) -> [(Language, String); 4] {
    [
        (
            Language::Bash,
            "bomb() { bomb | bomb & }; while :; do bomb; sleep 0.01; done".to_owned(),
        ),
        (
            Language::Node,
            "for (;;) process.stdout.write('x'.repeat(1 << 16))".to_owned(),
        ),
        (
            Language::Node,
            "for (;;) await Promise.all(Array.from({ length: 200 }, () => \
             page.evaluate('\"x\".repeat(100000)')))"
                .to_owned(),
        ),
        (
            Language::Python,
            format!(
                "import asyncio, os, socket, urllib.parse\n\
                 proxy = urllib.parse.urlsplit(os.environ['http_proxy'])\n\
                 async def flood():\n\
                 \x20 while True:\n\
                 \x20   try:\n\
                 \x20     r, w = await asyncio.open_connection(proxy.hostname, proxy.port)\n\
                 \x20     w.write(b'GET {url} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n\
                 \x20     await r.read(1); w.close()\n\
                 \x20   except OSError: await asyncio.sleep(0.01)\n\
                 await asyncio.gather(*[flood() for _ in range(100)])"
            ),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_8_the_daemon_answers_while_hostile_sessions_do_their_worst() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    let mut running = Vec::new();
    for (language, code) in attacks(&site().url("/")) {
        let session = client.open("about:blank").await;
        running.push(tokio::spawn(async move {
            let mut options = session.options(language, &code);
            options.timeout = Some(duration(ATTACK));
            session.client().execute(options).await
        }));
    }
    let honest = client.open("about:blank").await;
    let mut times: Vec<(Duration, &str)> = Vec::new();
    let mut timed = async |what: &'static str,
                           work: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        let started = Instant::now();
        let answered = tokio::time::timeout(ANSWER, work).await;
        answered.unwrap_or_else(|_| panic!("{what} took longer than {ANSWER:?}"));
        times.push((started.elapsed(), what));
    };
    for _ in 0..ROUNDS {
        let (list, session) = (client.clone(), honest.clone());
        timed(
            "list",
            Box::pin(async move {
                let request = ListSessionsRequest::default();
                list.sessions().list_sessions(request).await.unwrap();
            }),
        )
        .await;
        timed(
            "execute",
            Box::pin(async move {
                assert_eq!(session.node("6 * 7").await, "42");
            }),
        )
        .await;
        let channel = client.channel();
        timed(
            "health",
            Box::pin(async move {
                let request = HealthCheckRequest::default();
                HealthClient::new(channel).check(request).await.unwrap();
            }),
        )
        .await;
        let channel = client.channel();
        timed(
            "daemon",
            Box::pin(async move {
                let mut daemon = DaemonServiceClient::new(channel);
                let reply = daemon.get_daemon(GetDaemonRequest {}).await.unwrap();
                assert!(reply.into_inner().daemon.unwrap().live_sessions >= 5);
            }),
        )
        .await;
        let create = client.clone();
        timed(
            "create and stop",
            Box::pin(async move {
                create.open("about:blank").await.stop().await;
            }),
        )
        .await;
    }
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "answers: p50 {:?}, p99 {:?}, worst {:?}",
        at(50),
        at(99),
        times.last()
    );
    honest.stop().await;
    for attack in running {
        // Each was ended by a limit or the clock, or did not start in time beside the others; it is
        // reported, not lost.
        match attack.await.unwrap() {
            Ok(reply) => assert!(!reply.success, "{:?}", reply.outcome()),
            Err(status) => assert_eq!(reason(&status), "RUNNER_FAILED"),
        }
    }
}
