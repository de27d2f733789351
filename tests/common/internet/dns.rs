//! A name server whose answers tests choose, one lookup after the other, and which keeps every
//! question. UDP and TCP.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Largest question taken by UDP.
const QUESTION_BYTES: usize = 4096;

/// What a name has.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    /// These addresses, at every lookup.
    Fixed(Vec<IpAddr>),
    /// One list after the other, TTL 0; the last one for good. A and AAAA count apart.
    Rebinding(Vec<Vec<IpAddr>>),
    /// Another name.
    Alias(String),
    /// No answer, ever.
    Silent,
}

/// One question that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// Lower case, without the last dot.
    pub(crate) name: String,
    /// `A`, `AAAA`, …
    pub(crate) kind: String,
}

/// Its names and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    zones: Mutex<HashMap<String, Zone>>,
    questions: Mutex<Vec<Question>>,
}

impl Dns {
    /// Gives a name a meaning, from now on.
    pub(crate) fn set(&self, name: &str, zone: Zone) {
        self.zones.lock().unwrap().insert(name.to_owned(), zone);
    }

    /// A name that always has these addresses.
    pub(crate) fn fixed(&self, name: &str, addresses: &[&str]) {
        self.set(name, Zone::Fixed(parse(addresses)));
    }

    /// A name that has other addresses at every lookup.
    pub(crate) fn rebinding(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers.iter().map(|addresses| parse(addresses)).collect();
        self.set(name, Zone::Rebinding(answers));
    }

    /// Every question so far.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.questions.lock().unwrap().clone()
    }

    /// How often a name was asked for, all record types together.
    pub(crate) fn asked(&self, name: &str) -> usize {
        let questions = self.questions.lock().unwrap();
        questions.iter().filter(|asked| asked.name == name).count()
    }

    /// The addresses a name has now, asked from the side: not among the questions, and no step of a
    /// rebinding name.
    pub(super) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        match self.zones.lock().unwrap().get(name) {
            Some(Zone::Fixed(addresses)) => addresses.clone(),
            _ => Vec::new(),
        }
    }

    /// Serves until the runtime ends.
    pub(super) async fn serve(self: Arc<Self>, address: SocketAddr) -> io::Result<()> {
        let udp = UdpSocket::bind(address).await?;
        let tcp = TcpListener::bind(address).await?;
        tokio::spawn(Arc::clone(&self).serve_udp(udp));
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(Arc::clone(&self).serve_tcp(stream));
            }
        });
        Ok(())
    }

    async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
        let mut buffer = [0; QUESTION_BYTES];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if let Some(reply) = self.reply(&buffer[..length]) {
                // Whoever asked may be gone.
                let _ = socket.send_to(&reply, from).await;
            }
        }
    }

    async fn serve_tcp(self: Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let length = stream.read_u16().await?;
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await?;
            if let Some(reply) = self.reply(&question) {
                stream.write_u16(reply.len() as u16).await?;
                stream.write_all(&reply).await?;
            }
        }
    }

    fn reply(&self, question: &[u8]) -> Option<Vec<u8>> {
        let asked = Message::from_vec(question).ok()?;
        let query = asked.queries().first()?;
        let name = plain(query.name());
        self.questions.lock().unwrap().push(Question {
            name: name.clone(),
            kind: query.query_type().to_string(),
        });
        let mut reply = Message::new();
        reply
            .set_id(asked.id())
            .set_message_type(MessageType::Response)
            .set_op_code(OpCode::Query)
            .set_recursion_desired(asked.recursion_desired())
            .set_recursion_available(true)
            .add_query(query.clone());
        match self.records(&name, query)? {
            Some(records) => reply.add_answers(records),
            None => reply.set_response_code(ResponseCode::NXDomain),
        };
        reply.to_vec().ok()
    }

    /// No answer at all, no such name, or the records of the type that was asked for.
    fn records(&self, name: &str, query: &Query) -> Option<Option<Vec<Record>>> {
        let mut zones = self.zones.lock().unwrap();
        let mut records = Vec::new();
        let mut owner = query.name().clone();
        let mut name = name.to_owned();
        while let Some(Zone::Alias(other)) = zones.get(&name) {
            let target = Name::from_ascii(format!("{other}.")).expect("a name of the tests");
            let data = RData::CNAME(CNAME(target.clone()));
            records.push(Record::from_rdata(owner, 0, data));
            owner = target;
            name = other.clone();
        }
        let addresses = match zones.get_mut(&name) {
            None => return Some(None),
            Some(Zone::Alias(_)) => unreachable!("followed above"),
            Some(Zone::Silent) => return None,
            Some(Zone::Fixed(addresses)) => addresses.clone(),
            Some(Zone::Rebinding(answers)) => {
                let kind = query.query_type().to_string();
                let questions = self.questions.lock().unwrap();
                let before = questions
                    .iter()
                    .filter(|asked| asked.name == name && asked.kind == kind)
                    .count();
                let last = answers.len() - 1;
                answers[before.saturating_sub(1).min(last)].clone()
            }
        };
        let wanted =
            addresses
                .into_iter()
                .filter_map(|address| match (query.query_type(), address) {
                    (RecordType::A, IpAddr::V4(v4)) => Some(RData::A(A(v4))),
                    (RecordType::AAAA, IpAddr::V6(v6)) => Some(RData::AAAA(AAAA(v6))),
                    _ => None,
                });
        records.extend(wanted.map(|data| Record::from_rdata(owner.clone(), 0, data)));
        Some(Some(records))
    }
}

fn plain(name: &Name) -> String {
    name.to_lowercase()
        .to_ascii()
        .trim_end_matches('.')
        .to_owned()
}

fn parse(addresses: &[&str]) -> Vec<IpAddr> {
    let parse = |text: &&str| text.parse().expect("an address of the tests");
    addresses.iter().map(parse).collect()
}
