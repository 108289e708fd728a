//! Interim heads (1xx): our own `100 Continue`, and those that the service leaves. Each before its own final head, and never behind it.

use super::{
    ACK, Client, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use http::{HeaderMap, StatusCode};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

// How the first `:status` of a connection that HPACK's table does not have is written (RFC 7541 s6.2.1, appendix B), and one that it has.
const CONTINUE: &[u8] = &[0x48, 0x82, 0x08, 0x01];
const EARLY_HINTS: &[u8] = &[0x48, 0x82, 0x08, 0x19];
const OK: u8 = 0x88;

/// The head of a POST (RFC 7541 appendix A) that waits to be asked for its content.
fn expecting(stream: u32, path: &str, flags: u8, expected: &str) -> Vec<u8> {
    let mut fields = vec![0x83, 0x86, 0x01, 0x01, b'a', 0x04, u8::try_from(path.len()).unwrap()];
    fields.extend(path.as_bytes());
    fields.extend([0x0f, 0x14, u8::try_from(expected.len()).unwrap()]);
    fields.extend(expected.as_bytes());
    frame(HEADERS, END_HEADERS | flags, stream, &fields)
}

/// The next frame that says something of a stream.
async fn next(client: &mut Client) -> Frame {
    loop {
        let frame = client.next().await.expect("the connection is open");
        if !matches!(frame.kind, SETTINGS | WINDOW_UPDATE) {
            return frame;
        }
    }
}

/// The next such frame is the answer to a PING: nothing more was said.
async fn says_nothing_more(client: &mut Client, case: &str) {
    // Until nothing is left to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.send(PING, 0, 0, &[0; 8]).await;
    let frame = next(client).await;
    assert_eq!((frame.kind, frame.flags), (PING, ACK), "{case}: {frame:?}");
}

async fn is_final(client: &mut Client, stream: u32, case: &str) {
    let head = next(client).await;
    assert_eq!(
        (head.kind, head.stream, head.payload[0]),
        (HEADERS, stream, OK),
        "{case}"
    );
}

#[tokio::test(start_paused = true)]
async fn rfc9110_s10_1_1_who_waits_to_be_asked_for_content_is_asked_when_it_is_read() {
    for (path, expected) in [
        ("/u", "100-continue"),
        ("/u", "100-Continue"),
        ("/u/later", "100-continue"),
    ] {
        let case = format!("{path}, {expected}");
        let mut client = Client::connect().await;
        client.io.write_all(&expecting(1, path, 0, expected)).await.unwrap();
        if path == "/u/later" {
            says_nothing_more(&mut client, "nobody reads it yet").await;
            client.go.add_permits(1);
        }
        let asked = next(&mut client).await;
        assert_eq!((asked.kind, asked.stream), (HEADERS, 1), "{case}");
        assert_eq!((asked.flags, &*asked.payload), (END_HEADERS, CONTINUE), "{case}");
        client.send(DATA, 0, 1, b"some").await;
        says_nothing_more(&mut client, "it is asked once").await;
        client.send(DATA, END_STREAM, 1, b"more").await;
        is_final(&mut client, 1, &case).await;
        assert_eq!(client.find(DATA).await.payload, b"None 8 None", "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_s10_1_1_nobody_is_asked_for_what_is_here_or_is_not_wanted() {
    let content = |flags| frame(DATA, flags, 1, b"content");
    let waits = "100-continue";
    for (case, path, bytes) in [
        (
            "the content has come",
            "/u",
            [expecting(1, "/u", 0, waits), content(END_STREAM)].concat(),
        ),
        ("there is no content", "/u", expecting(1, "/u", END_STREAM, waits)),
        ("answered by its head", "/", expecting(1, "/", 0, waits)),
        ("answered later, and not read", "/w", expecting(1, "/w", 0, waits)),
    ] {
        let mut client = Client::connect().await;
        client.io.write_all(&bytes).await.unwrap();
        if path == "/w" {
            says_nothing_more(&mut client, case).await;
        }
        client.go.add_permits(1);
        is_final(&mut client, 1, case).await;
    }
    for (case, bytes) in [
        ("another expectation", expecting(1, "/u", 0, "something")),
        (
            "it has begun to send",
            [expecting(1, "/u", 0, waits), content(0)].concat(),
        ),
    ] {
        let mut client = Client::connect().await;
        client.io.write_all(&bytes).await.unwrap();
        says_nothing_more(&mut client, case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rfc9110_s10_1_1_who_is_asked_is_asked_whoever_reads_and_before_the_answer_only() {
    let mut client = Client::connect().await;
    let expecting = |stream, path| expecting(stream, path, 0, "100-continue");
    client.io.write_all(&expecting(1, "/u/elsewhere")).await.unwrap();
    says_nothing_more(&mut client, "nobody reads it yet").await;
    client.go.add_permits(1);
    let asked = next(&mut client).await;
    assert_eq!((asked.kind, asked.stream, &*asked.payload), (HEADERS, 1, CONTINUE));
    client.send(DATA, END_STREAM, 1, b"content").await;
    is_final(&mut client, 1, "read elsewhere").await;
    assert_eq!(next(&mut client).await.payload, b"content");
    client.io.write_all(&expecting(3, "/u/behind")).await.unwrap();
    is_final(&mut client, 3, "not read yet").await;
    let _answer = client.told.recv().await.unwrap();
    // This one's place is another.
    client.ask(5, "/i").await;
    let _hint = client.hints.recv().await.unwrap();
    client.go.add_permits(1);
    says_nothing_more(&mut client, "it is answered").await;
    assert_eq!(client.go.available_permits(), 0, "it is read");
}

#[tokio::test(start_paused = true)]
async fn heads_go_at_once_and_each_on_its_own_stream() {
    let mut client = Client::connect().await;
    let mut hints = Vec::new();
    for stream in [1, 3, 5] {
        client.ask(stream, "/i").await;
        hints.push(client.hints.recv().await.unwrap());
    }
    // The first of a connection puts its status into HPACK's table.
    for (hint, stream) in [(1, 3), (0, 1), (2, 5), (1, 3)] {
        hints[hint](StatusCode::EARLY_HINTS, &HeaderMap::new());
        let head = next(&mut client).await;
        assert_eq!((head.kind, head.flags, head.stream), (HEADERS, END_HEADERS, stream));
        assert_ne!(head.payload[0], OK);
    }
    client.go.add_permits(3);
    for stream in [1, 3, 5] {
        let head = client.find(HEADERS).await;
        assert_eq!(
            (head.stream, head.payload[0]),
            (stream, OK),
            "in the order they waited in"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_the_last_moment_goes_before_the_final_head_and_one_behind_it_nowhere() {
    let mut client = Client::connect().await;
    client.ask(1, "/i").await;
    let hint = client.hints.recv().await.unwrap();
    client.go.add_permits(1);
    hint(StatusCode::EARLY_HINTS, &HeaderMap::new());
    let head = next(&mut client).await;
    assert_eq!((head.kind, &head.payload[..4]), (HEADERS, EARLY_HINTS));
    is_final(&mut client, 1, "behind it").await;
    hint(StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert_eq!(next(&mut client).await.kind, DATA);
    hint(StatusCode::EARLY_HINTS, &HeaderMap::new());
    says_nothing_more(&mut client, "it was answered").await;
}

#[tokio::test(start_paused = true)]
async fn none_goes_to_a_stream_that_its_client_has_reset() {
    let mut client = Client::connect().await;
    client.ask(1, "/i").await;
    let hint = client.hints.recv().await.unwrap();
    // Until nothing is left to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    // Both are there when the stream's turn comes.
    client.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
    hint(StatusCode::EARLY_HINTS, &HeaderMap::new());
    says_nothing_more(&mut client, "it is closed").await;
    client.ask(3, "/").await;
    assert_eq!(client.find(DATA).await.stream, 3);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_made_for_one_stream_is_no_other_s() {
    let mut client = Client::connect().await;
    // Its head makes a place, and it is answered at once.
    client
        .io
        .write_all(&expecting(1, "/", 0, "100-continue"))
        .await
        .unwrap();
    is_final(&mut client, 1, "answered by its head").await;
    client.find(RST_STREAM).await;
    client.ask(3, "/i").await;
    let hint = client.hints.recv().await.unwrap();
    hint(StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert_eq!(next(&mut client).await.stream, 3);
}
