//! The same over real sockets and threads: that no wake is lost between reactor, links and tasks, and what the kernel does to a
//! connection.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_types)]

use super::support::{Rig, text};
use crate::core::retry::Sent;
use crate::upstream::{CallErrorKind, Step};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The next request head's length and the bytes in `buffer`; none when the connection was closed.
async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..at + 4).collect();
            return Some(String::from_utf8(head).unwrap());
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// Answers `/N` with N bytes, N below 1000 in one write with a length, else in pieces and chunked.
async fn serve(listener: TcpListener, connections: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            stream.set_nodelay(true).unwrap();
            let mut buffer = Vec::new();
            while let Some(head) = head(&mut stream, &mut buffer).await {
                let path = head.split(' ').nth(1).unwrap();
                let n: usize = path[1..].parse().unwrap();
                if n < 1000 {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {n}\r\n\r\n{}", "x".repeat(n));
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    continue;
                }
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await
                    .unwrap();
                let mut left = n;
                while left > 0 {
                    let piece = left.min(3000);
                    left -= piece;
                    stream
                        .write_all(format!("{piece:x}\r\n{}\r\n", "x".repeat(piece)).as_bytes())
                        .await
                        .unwrap();
                    tokio::task::yield_now().await;
                }
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn many_tasks_on_few_connections_all_get_their_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn(serve(listener, Arc::clone(&connections)));
    let rig = Arc::new(Rig::real(port, 1, "max_connections = 4\nretry = { attempts = 1 }"));
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                for i in 0..60 {
                    let n = if (task + i) % 5 == 0 { 20_000 + i } else { i * 7 };
                    let answered = rig.pool().call(rig.read(&format!("/{n}"))).await.unwrap();
                    assert_eq!(text(answered.body).await.unwrap().len(), n);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(
        connections.load(Ordering::SeqCst) <= 4,
        "the cap holds, and connections are kept"
    );
    let (open, in_flight, idle, waiting) = rig.counts(0);
    assert_eq!((open, in_flight, waiting), (idle, 0, 0));
}

#[tokio::test]
async fn a_reset_by_the_kernel_is_a_reset_and_says_that_bytes_were_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rig = Rig::real(port, 1, "");
    let call = rig.start(rig.write("/", "body"));
    let (mut stream, _) = listener.accept().await.unwrap();
    head(&mut stream, &mut Vec::new()).await.unwrap();
    // Closing a socket with zero linger sends RST.
    socket2::SockRef::from(&stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(stream);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::Reset, Sent::Maybe));
}

#[tokio::test]
async fn a_refused_connect_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let rig = Rig::real(port, 1, "");
    let error = rig.pool().call(rig.write("/", "body")).await.unwrap_err();
    assert_eq!(
        (error.kind, error.sent),
        (CallErrorKind::ConnectFailed(Step::Connection), Sent::Nothing)
    );
}
