//! Answers that end in all their ways, and those that wait for somebody else than the peer.

use super::{Client, DATA, END_STREAM, HEADERS, IDLE, Part, RST_STREAM, STALL, request};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::UnboundedSender;

async fn told(client: &mut Client, stream: u32) -> UnboundedSender<Part> {
    client.ask(stream, "/t").await;
    client.find(HEADERS).await;
    client.told.recv().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_pauses_is_not_a_peer_that_takes_nothing() {
    let mut client = Client::connect().await;
    let tell = told(&mut client, 1).await;
    for _ in 0..4 {
        tell.send(Part::Data(Bytes::from_static(b"piece"))).unwrap();
        assert_eq!(client.find(DATA).await.payload, b"piece");
        tokio::time::sleep(STALL * 3).await;
    }
    drop(tell);
    assert_eq!(client.find(DATA).await.flags, END_STREAM);
    assert!(client.start.elapsed() > IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_waited_for_once_is_not_waited_for_when_the_node_pauses() {
    let mut client = Client::connect().await;
    // INITIAL_WINDOW_SIZE: no room at first.
    client.send(super::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    let tell = told(&mut client, 1).await;
    tell.send(Part::Data(Bytes::from_static(b"piece"))).unwrap();
    tokio::time::sleep(STALL / 2).await;
    client.credit(1, 1000).await;
    assert_eq!(client.find(DATA).await.payload, b"piece");
    tokio::time::sleep(STALL * 3).await;
    drop(tell);
    assert_eq!(client.find(DATA).await.flags, END_STREAM);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_the_node_is_not_the_peer_s_whatever_came_before() {
    let mut client = Client::connect().await;
    client.ask(1, "/").await;
    client.find(DATA).await;
    client.ask(3, "/w").await;
    tokio::time::sleep(IDLE * 2).await;
    client.go.add_permits(1);
    assert_eq!(client.find(DATA).await.stream, 3);
}

#[tokio::test(start_paused = true)]
async fn only_what_the_peer_throws_away_counts_as_thrown_away() {
    let mut client = Client::connect().await;
    client.ask(1, "/").await;
    client.find(DATA).await;
    client.ask(3, "/n").await;
    client.find(HEADERS).await;
    let ends = [
        ("trailers", Some(Part::Trailers)),
        ("broken off by the node", Some(Part::BreaksOff)),
        ("without a last piece", None),
    ];
    for (stream, (_name, end)) in (5..).step_by(2).zip(ends) {
        let tell = told(&mut client, stream).await;
        tell.send(Part::Data(Bytes::from_static(b"piece"))).unwrap();
        client.find(DATA).await;
        if let Some(end) = end {
            tell.send(end).unwrap();
        }
    }
    // Until nothing is left to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.ask(11, "/w").await;
    client.send(RST_STREAM, 0, 11, &8_u32.to_be_bytes()).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.leave().await.thrown_away(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_given_up_while_the_node_pauses_is_given_up_at_the_node() {
    let mut client = Client::connect().await;
    let tell = told(&mut client, 1).await;
    tell.send(Part::Data(Bytes::from_static(b"piece"))).unwrap();
    client.find(DATA).await;
    client.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
    let closed = tokio::time::timeout(Duration::from_secs(1), tell.closed()).await;
    closed.expect("the answer is dropped");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let mut client = Client::connect().await;
    let tell = told(&mut client, 1).await;
    tell.send(Part::Data(Bytes::from_static(b"piece"))).unwrap();
    assert_eq!(client.find(DATA).await.flags, 0);
    tell.send(Part::BreaksOff).unwrap();
    let reset = client.next().await.unwrap();
    assert_eq!((reset.kind, reset.number(0)), (RST_STREAM, 2), "INTERNAL_ERROR");
}

#[tokio::test(start_paused = true)]
async fn what_others_have_ready_joins_what_the_connection_answers_itself() {
    let mut client = Client::connect().await;
    let requests: Vec<u8> = (0..8).flat_map(|n| request(2 * n + 1, "/w")).collect();
    client.io.write_all(&requests).await.unwrap();
    // All of them wait: time moves only when nothing else can.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The connection's turn comes before theirs.
    client.io.write_all(&request(17, "/")).await.unwrap();
    client.go.add_permits(8);
    for _ in 0..9 {
        client.find(DATA).await;
    }
    assert_eq!(client.writes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_says_how_long_its_answer_is_where_that_is_known() {
    // RFC 7541 s6.2.2: a literal that is not indexed, by the name's place in the static table, which is 28.
    const CONTENT_LENGTH: [u8; 2] = [0x0f, 28 - 15];
    let tells = |fields: &[u8]| fields.windows(2).any(|bytes| bytes == CONTENT_LENGTH);
    let mut client = Client::connect().await;
    client.ask(1, "/").await;
    assert!(tells(&client.find(HEADERS).await.payload));
    client.ask(3, "/t").await;
    assert!(!tells(&client.find(HEADERS).await.payload));
}
