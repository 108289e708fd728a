//! A client or a node that speaks HTTP/2 frame by frame, and may speak it wrongly.

use super::within;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as written, each a literal with a literal name that goes into no table (RFC 7541 s6.2.2).
pub fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in list {
        bytes.push(0);
        for text in [name, value] {
            // A length of 127 and more goes on in the next byte (s5.1).
            match u8::try_from(text.len()) {
                Ok(short @ 0..127) => bytes.push(short),
                _ => {
                    bytes.push(127);
                    let mut rest = text.len() - 127;
                    while rest >= 128 {
                        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
                        rest /= 128;
                    }
                    bytes.push(u8::try_from(rest).unwrap());
                }
            }
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// What the peer has sent.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered; whether the head was all of it.
    Answered {
        status: u16,
        ended: bool,
    },
    /// Its stream was reset with this code.
    Reset(u32),
    /// The connection was closed with this code.
    GoneAway(u32),
    Closed,
}

/// One connection.
pub struct Frames {
    pub io: TcpStream,
}

impl Frames {
    /// Shakes hands with these settings.
    pub async fn connect(to: SocketAddr, settings: &[u8]) -> Self {
        let mut io = TcpStream::connect(to).await.unwrap();
        io.set_nodelay(true).unwrap();
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, settings));
        io.write_all(&bytes).await.unwrap();
        Self { io }
    }

    /// As a node: the next connection, its preface read and settings sent.
    pub async fn accept(listener: &TcpListener) -> Self {
        Self::accept_with(listener, &[]).await
    }

    /// The same with these settings.
    pub async fn accept_with(listener: &TcpListener, settings: &[u8]) -> Self {
        let (mut io, _) = within("a connection", listener.accept()).await.unwrap();
        io.set_nodelay(true).unwrap();
        let mut preface = [0; PREFACE.len()];
        within("a preface", io.read_exact(&mut preface)).await.unwrap();
        let mut node = Self { io };
        node.send(SETTINGS, 0, 0, settings).await;
        node
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.io.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    /// The next frame; none when the connection is closed.
    pub async fn next(&mut self) -> Option<Frame> {
        within("a frame", async {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.io.read_exact(&mut payload).await.ok()?;
            Some(Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes(head[5..].try_into().unwrap()),
                payload,
            })
        })
        .await
    }

    /// The next frame of this kind.
    pub async fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection is open");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// `:status 200` and nothing else, the end of the stream (RFC 7541 appendix A).
    pub async fn ok(&mut self, stream: u32) {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]).await;
    }

    /// Leaves; nothing behind stream `last` has been looked at.
    pub async fn goaway(&mut self, last: u32) {
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// What becomes of a stream.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some(frame) = self.next().await {
            let number = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
            match frame.kind {
                HEADERS if frame.stream == stream => {
                    return Outcome::Answered {
                        status: status(&frame.payload),
                        ended: frame.flags & END_STREAM != 0,
                    };
                }
                RST_STREAM if frame.stream == stream => return Outcome::Reset(number(0)),
                GOAWAY => return Outcome::GoneAway(number(4)),
                _ => {}
            }
        }
        Outcome::Closed
    }
}

/// The status of the first answer on a connection, whose table is empty.
fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let block = &block[block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap()..];
    match block[0] {
        at @ 0x88..=0x8e => STATIC[usize::from(at - 0x88)],
        // A literal with the name of entry 8, Huffman coded: digits 0 to 2 have five bits, the others six.
        0x48 | 0x08 | 0x18 => {
            assert_eq!(block[1] & 0x80, 0x80, "Huffman");
            // At most 18 bits; what may be missing behind them is not looked at.
            let byte = |at: usize| u32::from(block.get(at).copied().unwrap_or(0xff));
            let bits = (2..6).fold(0_u32, |bits, at| bits << 8 | byte(at));
            let (mut at, mut status) = (32, 0);
            for _ in 0..3 {
                let five = bits >> (at - 5) & 0x1f;
                let digit = if five <= 2 {
                    at -= 5;
                    five
                } else {
                    at -= 6;
                    (bits >> at & 0x3f) - 0x19 + 3
                };
                status = status * 10 + digit;
            }
            u16::try_from(status).unwrap()
        }
        other => panic!("{other:#x} does not begin with a status"),
    }
}
