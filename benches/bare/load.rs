//! Requests at a fixed rate, and how long each took *from when it was due*.
//!
//! A load generator that waits for an answer before it sends the next request does not ask while the server is stuck, and so leaves the
//! worst times out (coordinated omission). Here request n is due n/rate seconds after the start, whatever became of those before it; when
//! no connection is free it waits, and its wait counts. One thread that never sleeps, so that no timer of ours is in the figures: it wants a
//! core to itself. HTTP/1.1 over plain sockets, GET only.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What to ask for, and how often.
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) path: String,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    pub(crate) connections: usize,
}

/// One keep-alive connection; it has one request under way at most.
struct Connection {
    stream: TcpStream,
    /// What has come of the answer.
    read: Vec<u8>,
    /// When the request under way was due.
    due: Option<Instant>,
}

/// How long to wait for the last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

impl Load {
    /// Times in microseconds, sorted. An error when an answer is anything but a whole 200.
    pub(crate) fn run(&self) -> Result<Vec<f64>, String> {
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path, self.to);
        let told = |error: std::io::Error| format!("{}: {error}", self.to);
        let mut connections = (0..self.connections)
            .map(|_| Connection::open(self.to))
            .collect::<Result<Vec<_>, _>>()
            .map_err(told)?;
        let mut free: VecDeque<usize> = (0..connections.len()).collect();
        let mut under_way: Vec<usize> = Vec::with_capacity(connections.len());
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of requests"
        )]
        let total = (self.rate * self.seconds) as u32;
        let (start, every) = (Instant::now(), Duration::from_secs_f64(1.0 / self.rate));
        let (mut sent, mut times) = (0, Vec::with_capacity(total as usize));
        let give_up = start + Duration::from_secs_f64(self.seconds) + LAST_ANSWERS;
        while times.len() < total as usize {
            let now = Instant::now();
            let due = start + every * sent;
            if sent < total
                && due <= now
                && let Some(at) = free.pop_front()
                && let Some(connection) = connections.get_mut(at)
            {
                connection.stream.write_all(request.as_bytes()).map_err(told)?;
                connection.due = Some(due);
                under_way.push(at);
                sent += 1;
            }
            let mut place = 0;
            while let Some(&at) = under_way.get(place) {
                match connections.get_mut(at).map(Connection::poll) {
                    Some(Ok(None)) | None => place += 1,
                    Some(Ok(Some(took))) => {
                        times.push(took.as_secs_f64() * 1e6);
                        under_way.swap_remove(place);
                        // The one that rested longest comes next.
                        free.push_back(at);
                    }
                    Some(Err(complaint)) => return Err(format!("{}: {complaint}", self.to)),
                }
            }
            if now > give_up {
                return Err(format!(
                    "{}: {} of {total} requests were answered",
                    self.to,
                    times.len()
                ));
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}

impl Connection {
    fn open(to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(65_536),
            due: None,
        })
    }

    /// What has come; once the answer is whole, how long it took.
    fn poll(&mut self) -> Result<Option<Duration>, String> {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err("the connection was closed".to_owned()),
            Ok(length) => self.read.extend(chunk.iter().take(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
        if !whole(&self.read)? {
            return Ok(None);
        }
        self.read.clear();
        Ok(self.due.take().map(|due| due.elapsed()))
    }
}

/// Is this one answer, all of it? Only what the contenders send is understood: a 200 with its length.
fn whole(answer: &[u8]) -> Result<bool, String> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200") {
        return Err(format!("not a 200: {text}"));
    }
    let length = text.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| format!("no length: {text}"))?;
    match answer.len().cmp(&(head + 4 + length)) {
        std::cmp::Ordering::Less => Ok(false),
        std::cmp::Ordering::Equal => Ok(true),
        std::cmp::Ordering::Greater => Err(format!("more than an answer: {text}")),
    }
}

/// The time that this share of the requests did not exceed.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list"
    )]
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
