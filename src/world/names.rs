//! Names, asked of the system's name servers by a resolver of our own: `getaddrinfo` tells no TTL and knows no SRV.
//!
//! Its cache is off: who asks knows how long an answer holds. One resolver serves all; it is made when it is first asked, so that a host
//! without `/etc/resolv.conf` can run as long as no name is to be found.

use super::Answer;
use crate::core::discovery::{Kind, Record};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::proto::rr::{RData, RecordType};
use parking_lot::Mutex;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// A whole question may take this long, its repeats included.
const PATIENCE: Duration = Duration::from_secs(5);

/// The resolver, once made.
#[derive(Default)]
pub(super) struct Names(Mutex<Option<TokioResolver>>);

impl Names {
    fn resolver(&self) -> io::Result<TokioResolver> {
        let mut made = self.0.lock();
        if let Some(resolver) = &*made {
            return Ok(resolver.clone());
        }
        let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
        settle(builder.options_mut());
        let resolver = builder.build().map_err(io::Error::other)?;
        *made = Some(resolver.clone());
        Ok(resolver)
    }

    /// The records of a name.
    pub(super) async fn lookup(&self, name: &str, kind: Kind) -> io::Result<Answer> {
        if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Answer {
                records: vec![Record::Address(ip)],
                ttl: Duration::MAX,
            });
        }
        let resolver = self.resolver()?;
        let asked = resolver.lookup(
            name,
            match kind {
                Kind::A => RecordType::A,
                Kind::Aaaa => RecordType::AAAA,
                Kind::Srv => RecordType::SRV,
            },
        );
        let found = tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(io::Error::other)?;
        // Of the whole chain: an alias holds no longer than its own record.
        let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        Ok(Answer {
            records: found.answers().iter().filter_map(|one| record(&one.data)).collect(),
            ttl: Duration::from_secs(u64::from(ttl)),
        })
    }
}

fn settle(options: &mut ResolverOpts) {
    options.cache_size = 0;
}

fn record(data: &RData) -> Option<Record> {
    match data {
        RData::A(ip) => Some(Record::Address(IpAddr::V4(ip.0))),
        RData::AAAA(ip) => Some(Record::Address(IpAddr::V6(ip.0))),
        RData::SRV(service) => Some(Record::Service {
            priority: service.priority,
            weight: service.weight,
            port: service.port,
            target: service.target.to_utf8(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]
    use super::*;
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, SRV};
    use hickory_resolver::proto::rr::{Name, Record as Line};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::UdpSocket;

    /// A name server that knows two names, and how often it was asked.
    async fn server() -> (Names, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let asked = Message::from_vec(buffer.get(..length).unwrap()).unwrap();
                let answer = answer(&asked).to_vec().unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        let mut server = NameServerConfig::udp(address.ip());
        for connection in &mut server.connections {
            connection.port = address.port();
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        settle(builder.options_mut());
        (Names(Mutex::new(Some(builder.build().unwrap()))), asked)
    }

    fn answer(asked: &Message) -> Message {
        let query = asked.queries.first().unwrap().clone();
        let mut answer = Message::response(asked.metadata.id, OpCode::Query);
        let name = query.name().clone();
        let line = |ttl, data| Line::from_rdata(name.clone(), ttl, data);
        match (name.to_utf8().to_lowercase().as_str(), query.query_type()) {
            ("nodes.example.", RecordType::A) => {
                answer.add_answer(line(60, RData::A(A([10, 0, 0, 1].into()))));
                answer.add_answer(line(20, RData::A(A([10, 0, 0, 2].into()))));
            }
            ("_http._tcp.example.", RecordType::SRV) => {
                let target = Name::from_ascii("a.example.").unwrap();
                answer.add_answer(line(30, RData::SRV(SRV::new(10, 60, 9000, target))));
            }
            _ => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer.add_query(query);
        answer
    }

    #[tokio::test]
    async fn a_name_is_asked_each_time_and_its_records_hold_for_the_shortest_ttl() {
        let (names, asked) = server().await;
        for times in 1..3 {
            let found = names.lookup("nodes.example.", Kind::A).await.unwrap();
            let wanted = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|ip| Record::Address(ip.into()));
            assert_eq!(found.records, wanted);
            assert_eq!(found.ttl, Duration::from_secs(20));
            assert_eq!(asked.load(Ordering::SeqCst), times, "nothing is remembered here");
        }
        assert!(names.lookup("other.example.", Kind::A).await.is_err());
    }

    #[tokio::test]
    async fn services_tell_their_target_port_priority_and_weight() {
        let (names, _) = server().await;
        let found = names.lookup("_http._tcp.example.", Kind::Srv).await.unwrap();
        let wanted = Record::Service {
            priority: 10,
            weight: 60,
            port: 9000,
            target: "a.example.".to_owned(),
        };
        assert_eq!((found.records, found.ttl.as_secs()), (vec![wanted], 30));
    }

    #[tokio::test]
    async fn an_address_needs_no_name_server() {
        let found = Names::default().lookup("10.0.0.1", Kind::A).await.unwrap();
        assert_eq!(found.records, [Record::Address([10, 0, 0, 1].into())]);
    }
}
