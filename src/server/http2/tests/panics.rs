//! What panics ends its own stream, and is no doing of the peer.

use super::{Client, DATA, HEADERS, Part, RST_STREAM};
use bytes::Bytes;
use std::time::Duration;

const INTERNAL_ERROR: u32 = 2;

/// Until nothing is left to do.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Stream 3 is reset for what is wrong with us; streams before and behind it are answered all the same, and none counts as thrown away.
async fn ends_alone(mut client: Client, case: &str) {
    let reset = client.find(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number(0)), (3, INTERNAL_ERROR), "{case}");
    client.go.add_permits(1);
    assert_eq!(client.find(DATA).await.stream, 5, "{case}");
    client.ask(7, "/").await;
    assert_eq!(client.find(DATA).await.stream, 7, "{case}");
    let tally = client.leave().await;
    assert_eq!(tally.thrown_away(), 0, "{case}: it was no doing of the peer");
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_stream_and_no_other() {
    for (case, path, waits) in [
        ("of the service", "/p", 0),
        ("of the service, when it has waited", "/p/later", 1),
        ("of the body", "/b", 0),
        ("of the body of an answer that was waited for", "/b/later", 1),
        ("of the body, asked for its end", "/b/of-its-end", 0),
        (
            "of the body of an answer that was waited for, asked for its end",
            "/b/later/of-its-end",
            1,
        ),
    ] {
        let mut client = Client::connect().await;
        // Who waits first goes first.
        client.ask(3, path).await;
        client.ask(5, "/w").await;
        settle().await;
        client.go.add_permits(waits);
        ends_alone(client, case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_midst_of_an_answer_ends_its_stream_and_no_other() {
    for pieces in [0, 1, 3] {
        let mut client = Client::connect().await;
        client.ask(3, "/t").await;
        client.find(HEADERS).await;
        let tell = client.told.recv().await.unwrap();
        for _ in 0..pieces {
            tell.send(Part::Data(Bytes::from_static(b"piece"))).unwrap();
            client.find(DATA).await;
        }
        client.ask(5, "/w").await;
        tell.send(Part::Panics).unwrap();
        ends_alone(client, &format!("after {pieces} pieces")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_panic_are_no_flood() {
    let mut client = Client::connect().await;
    for n in 0..600 {
        client.ask(2 * n + 1, "/b/later").await;
        settle().await;
        client.go.add_permits(1);
        assert_eq!(client.find(RST_STREAM).await.stream, 2 * n + 1);
    }
    client.ask(1201, "/").await;
    client.find(DATA).await;
}
