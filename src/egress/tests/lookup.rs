//! The real resolver against a real name server on loopback.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use crate::egress::uplink::{Direct, LookupError, Uplink};

/// Knows `two.test` (A and AAAA), `half.test` (A only), `many.test` (24 of A), is silent on `silent.test`, and has nothing
/// else. Reports the names it is asked for.
async fn name_server() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (asked_tx, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries()[0].clone();
            let name = query.name().to_ascii();
            let _ = asked_tx.send(name.clone());
            let many = (0..24).map(|last| IpAddr::from([93, 184, 216, last]));
            let addresses: Vec<IpAddr> = match (name.as_str(), query.query_type()) {
                ("two.test." | "half.test.", RecordType::A) => vec![[93, 184, 216, 34].into()],
                ("many.test.", RecordType::A) => many.collect(),
                ("two.test.", RecordType::AAAA) => vec!["fd00::1".parse().unwrap()],
                ("silent.test.", _) => continue,
                _ => Vec::new(),
            };
            let mut answer = Message::new();
            answer
                .set_id(question.id())
                .set_message_type(MessageType::Response)
                .set_recursion_available(true)
                .add_query(query.clone());
            if addresses.is_empty() && !["half.test.", "many.test."].contains(&name.as_str()) {
                answer.set_response_code(ResponseCode::NXDomain);
            }
            for address in addresses {
                let record = Record::from_rdata(query.name().clone(), 60, RData::from(address));
                answer.add_answer(record);
            }
            socket
                .send_to(&answer.to_vec().unwrap(), from)
                .await
                .unwrap();
        }
    });
    (address, asked)
}

#[tokio::test]
async fn both_families_are_in_the_answer_and_names_are_absolute() {
    let (server, mut asked) = name_server().await;
    let direct = Direct::with_name_server(server);
    let mut answer = direct.resolve("two.test").await.unwrap();
    answer.sort();
    let expected: [IpAddr; 2] = ["93.184.216.34".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(answer, expected);
    assert_eq!(direct.resolve("half.test").await.unwrap(), expected[..1]);
    let missing = direct.resolve("missing").await;
    assert!(
        matches!(missing, Err(LookupError::NoAddress)),
        "{missing:?}"
    );
    asked.close();
    while let Some(name) = asked.recv().await {
        assert!(
            ["two.test.", "half.test.", "missing."].contains(&name.as_str()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_silent_name_server_fails_in_time() {
    let (server, _asked) = name_server().await;
    let direct = Direct::with_name_server(server);
    let start = Instant::now();
    let answer = direct.resolve("silent.test").await;
    assert!(matches!(answer, Err(LookupError::Failed(_))), "{answer:?}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn answers_are_remembered_but_for_long_ones() {
    let (server, mut asked) = name_server().await;
    let direct = Direct::with_name_server(server);
    for _ in 0..3 {
        assert_eq!(direct.resolve("two.test").await.unwrap().len(), 2);
        assert_eq!(direct.resolve("many.test").await.unwrap().len(), 24);
    }
    asked.close();
    let mut names = Vec::new();
    while let Some(name) = asked.recv().await {
        names.push(name);
    }
    let count = |name: &str| names.iter().filter(|asked| *asked == name).count();
    // A and AAAA each time.
    assert_eq!((count("two.test."), count("many.test.")), (2, 6));
}
