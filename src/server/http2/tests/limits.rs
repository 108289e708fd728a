//! What a peer is told that it may do, and what becomes of one that does more.

use super::{
    ACK, Client, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, HTTP2, Http2, PING, Phase, RST_STREAM,
    SETTINGS, STALL, WINDOW, WINDOW_UPDATE, frame, request,
};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What a SETTINGS frame says of this (RFC 9113 s6.5.2).
fn setting(settings: &Frame, id: u16) -> Option<u32> {
    let mut all = settings.payload.chunks(6);
    all.find_map(|entry| (entry[..2] == id.to_be_bytes()).then(|| u32::from_be_bytes(entry[2..].try_into().unwrap())))
}

/// A client that has been told everything there is to say first.
async fn settled() -> Client {
    let mut client = Client::connect().await;
    client.find(WINDOW_UPDATE).await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_told_every_limit_before_it_can_break_one() {
    let http2 = Http2 {
        window: 100_000,
        max_streams: 7,
    };
    let mut client = Client::limited(Phase::Serving, http2);
    client.io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    client.send(SETTINGS, 0, 0, &[]).await;
    let settings = client.find(SETTINGS).await;
    assert_eq!(
        setting(&settings, 3),
        Some(7),
        "MAX_CONCURRENT_STREAMS: http2.max_streams"
    );
    assert_eq!(
        setting(&settings, 4),
        Some(100_000),
        "INITIAL_WINDOW_SIZE: http2.window"
    );
    assert_eq!(
        setting(&settings, 6),
        Some(4096),
        "MAX_HEADER_LIST_SIZE: max_header_bytes"
    );
    let window = client.find(WINDOW_UPDATE).await;
    let window = (window.stream, window.number(0) as usize + WINDOW);
    assert_eq!(window, (0, 400_000), "the connection's is four streams'");
}

#[tokio::test(start_paused = true)]
async fn a_request_beyond_max_streams_is_refused_and_the_others_go_on() {
    let http2 = Http2 {
        max_streams: 2,
        ..HTTP2
    };
    let mut client = Client::limited(Phase::Serving, http2);
    client.begin().await;
    for stream in [1, 3, 5] {
        client.ask(stream, "/w").await;
    }
    let reset = client.find(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number(0)), (5, REFUSED_STREAM), "RFC 9113 s5.1.2");
    client.go.add_permits(2);
    assert_eq!(client.find(DATA).await.stream, 1);
    assert_eq!(client.find(DATA).await.stream, 3);
}

#[tokio::test(start_paused = true)]
async fn resets_of_requests_that_nobody_has_looked_at_end_the_connection_at_twenty() {
    for (resets, is_flood) in [(20, false), (21, true)] {
        let mut client = settled().await;
        let mut bytes = Vec::new();
        for n in 0..resets {
            bytes.extend(request(2 * n + 1, "/w"));
            bytes.extend(frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()));
        }
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
        client.io.write_all(&bytes).await.unwrap();
        let told = client.next().await.unwrap();
        if is_flood {
            assert_eq!(
                (told.kind, told.number(4)),
                (GOAWAY, ENHANCE_YOUR_CALM),
                "CVE-2023-44487"
            );
        } else {
            assert_eq!(told.kind, PING, "{resets} are none");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn resets_that_we_are_made_to_send_end_the_connection_at_256() {
    let mut client = settled().await;
    let mut resets = 0;
    loop {
        let stream = 2 * resets + 1;
        client.ask(stream, "/w").await;
        // Beyond the largest window (RFC 9113 s6.9.1).
        client
            .send(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())
            .await;
        let frame = client.next().await.unwrap();
        if frame.kind == GOAWAY {
            assert_eq!(frame.number(4), ENHANCE_YOUR_CALM, "CVE-2025-8671");
            break;
        }
        assert_eq!((frame.kind, frame.stream), (RST_STREAM, stream));
        resets += 1;
        assert!(resets <= 256, "no end");
    }
    assert_eq!(resets, 256);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_what_it_makes_us_say_is_not_read_from() {
    // Both directions hold 1 MiB on their way here, and a SETTINGS frame is answered with as much.
    const MOST: usize = 4 * 1024 * 1024;
    for (name, asking) in [
        ("PING (CVE-2019-9512)", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS (CVE-2019-9515)", frame(SETTINGS, 0, 0, &[])),
    ] {
        let mut client = Client::connect().await;
        let many = asking.repeat(1000);
        let mut sent = 0;
        // Time moves only when nothing else can.
        while tokio::time::timeout(Duration::from_secs(1), client.io.write_all(&many))
            .await
            .is_ok()
        {
            sent += many.len();
            assert!(sent < MOST, "{name}: what is to be said to it is kept in memory");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_asked_for_no_further_than_the_send_buffer() {
    // What the way to the client holds here, what waits to be written, the send buffer, and a piece.
    const MOST: usize = (1024 + 64 + 256 + 64) * 1024;
    let mut client = Client::connect().await;
    // INITIAL_WINDOW_SIZE and the connection's: as large as they may be (RFC 9113 s6.9.1).
    let most = (1_u32 << 31) - 1;
    client
        .send(SETTINGS, 0, 0, &[&[0, 4][..], &most.to_be_bytes()].concat())
        .await;
    client.send(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes()).await;
    client.ask(1, "/e").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let given = client.given.load(Ordering::Relaxed);
    assert!(given <= MOST, "{given}");
    assert!(given > 1024 * 1024, "{given}: it is what was asked for");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_long_to_be_handed_over_waits_for_room() {
    let mut client = Client::connect().await;
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    client.ask(1, "/w").await;
    client.ask(3, "/m").await;
    let reset = client.find(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number(0)), (3, 8), "CANCEL");
    assert!(client.start.elapsed() <= STALL * 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_told_to_go_when_nothing_more_is_accepted() {
    let mut client = Client::connect().await;
    client.ask(1, "/").await;
    client.find(DATA).await;
    client.drain.advance(Phase::Closing);
    assert_eq!(client.find(GOAWAY).await.number(0), 0x7fff_ffff);
    let ping = client.find(PING).await;
    client.send(PING, ACK, 0, &ping.payload).await;
    let (frames, when) = client.rest().await;
    assert_eq!(frames[0].number(0), 1, "the last that was taken");
    assert_eq!(when, Duration::ZERO, "at once");
}

#[tokio::test(start_paused = true)]
async fn who_has_asked_for_nothing_is_told_to_go_when_the_time_is_over() {
    let mut client = settled().await;
    for phase in [Phase::LameDuck, Phase::Closing] {
        client.drain.advance(phase);
        // Until nothing is left to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.send(PING, 0, 0, &[0; 8]).await;
        assert_eq!(client.next().await.unwrap().flags, ACK, "{phase:?}: and nothing else");
    }
    let before = client.start.elapsed();
    client.drain.advance(Phase::Cutting);
    assert_eq!(client.next().await.unwrap().kind, GOAWAY);
    assert_eq!(client.start.elapsed(), before, "at once");
}

#[tokio::test(start_paused = true)]
async fn who_is_still_shaking_hands_when_the_time_is_over_is_told_when_it_has() {
    let mut client = Client::silent(Phase::Serving);
    client.drain.advance(Phase::Cutting);
    // Until nothing is left to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    client.send(SETTINGS, 0, 0, &[]).await;
    assert_eq!(client.find(GOAWAY).await.number(0), 0x7fff_ffff);
    assert!(client.start.elapsed() < Duration::from_secs(1), "no limit has run out");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_reads_is_credited_for_no_more_than_its_window() {
    // RFC 7541 appendix A: `:method POST`, `:scheme http`, `:authority a`, `:path /w`.
    const HEAD: &[u8] = b"\x83\x86\x01\x01a\x04\x02/w";
    let mut client = settled().await;
    client.send(HEADERS, END_HEADERS, 1, HEAD).await;
    for _ in 0..4 {
        client.send(DATA, 0, 1, &[0; 16_000]).await;
    }
    // Until nothing is left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send(PING, 0, 0, &[0; 8]).await;
    assert_eq!(client.next().await.unwrap().kind, PING, "and no WINDOW_UPDATE");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_before_the_request_s_end_is_whole_and_the_rest_is_not_wanted() {
    const HEAD: &[u8] = b"\x83\x86\x01\x01a\x04\x01/";
    let mut client = settled().await;
    client.send(HEADERS, END_HEADERS, 1, HEAD).await;
    let answer = client.find(DATA).await;
    assert_eq!((answer.payload.len(), answer.flags & END_STREAM), (1000, END_STREAM));
    let reset = client.find(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number(0)), (1, 0), "NO_ERROR (RFC 9113 s8.1)");
}
