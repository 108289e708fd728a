//! A body on its way from the origin to everybody who waits for it. One writer, any number of readers, each at its own pace.
//!
//! While the body may still be stored it is kept whole, so a slow reader slows nobody; its memory is bounded by `max_object` and
//! accounted to [`FillMemory`]. Once it cannot be stored any more (it ran past the bound) it becomes a *paced pass*: only a window
//! is kept, the writer waits for the slowest reader, and a reader that makes no progress for the stall time is cut (HTTP.md 15).
//! Invariant: a reader sees every byte in order or an error, never a gap.

use super::budget::FillMemory;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How much of a paced pass is kept for readers that are a little behind.
const WINDOW: u64 = 256 * 1024;

/// Why a body ended early.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The origin's body broke off, or its writer was dropped.
    #[error("the body broke off")]
    BrokeOff,
    /// This reader made no progress for too long while others waited.
    #[error("the reader was too slow")]
    TooSlow,
}

/// What pushing a chunk led to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Kept whole; the body can still be stored.
    Kept,
    /// It ran past its bound: from here on it only passes.
    Passing,
    /// It only passes, and nobody reads any more: the writer may stop.
    Abandoned,
}

#[derive(Debug)]
struct Reader {
    /// The next chunk it wants, by number.
    next: u64,
    /// Where it was when the writer began to wait.
    marked: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Bytes>,
    /// The number of the first chunk kept.
    first: u64,
    /// Bytes kept.
    kept: u64,
    /// Bytes accounted to the fill memory.
    taken: u64,
    passing: bool,
    end: Option<Result<(), FillError>>,
    readers: BTreeMap<u64, Reader>,
    next_reader: u64,
    writer: Option<Waker>,
}

/// The shared body. Made by [`channel`], read through [`Fill::reader`].
#[derive(Debug)]
pub struct Fill {
    state: Mutex<State>,
    memory: Arc<FillMemory>,
    max_object: u64,
    stall: Duration,
}

/// A new body: its writer, and the handle readers come from. `stall`: how long a reader of a paced pass may make no progress.
#[must_use]
pub fn channel(memory: Arc<FillMemory>, max_object: u64, stall: Duration) -> (FillWriter, Arc<Fill>) {
    let fill = Arc::new(Fill {
        state: Mutex::new(State {
            chunks: VecDeque::new(),
            first: 0,
            kept: 0,
            taken: 0,
            passing: false,
            end: None,
            readers: BTreeMap::new(),
            next_reader: 0,
            writer: None,
        }),
        memory,
        max_object,
        stall,
    });
    (
        FillWriter {
            fill: Arc::clone(&fill),
        },
        fill,
    )
}

impl Fill {
    /// A reader from the first byte; none when the first bytes are gone already.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Option<FillReader> {
        let mut state = self.state.lock();
        if state.first > 0 {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(
            id,
            Reader {
                next: 0,
                marked: 0,
                waker: None,
            },
        );
        drop(state);
        Some(FillReader {
            fill: Arc::clone(self),
            id,
        })
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.memory.give_back(self.state.get_mut().taken);
    }
}

impl State {
    /// Forgets what every reader has seen; only on a paced pass. Memory accounted for goes back with it: a pass may last for hours.
    fn trim(&mut self, memory: &FillMemory) {
        let slowest = self.readers.values().map(|r| r.next).min().unwrap_or(u64::MAX);
        while self.first < slowest {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.kept -= chunk.len() as u64;
            self.first += 1;
        }
        memory.give_back(self.taken.saturating_sub(self.kept));
        self.taken = self.taken.min(self.kept);
    }

    /// The first chunk of the window: a reader before it holds the writer up.
    fn window_start(&self) -> u64 {
        let mut size = 0;
        let inside = self.chunks.iter().rev().take_while(|chunk| {
            size += chunk.len() as u64;
            size <= WINDOW
        });
        let inside = inside.count();
        self.first + (self.chunks.len() - inside) as u64
    }

    fn wakers(&mut self) -> Vec<Waker> {
        self.readers.values_mut().filter_map(|r| r.waker.take()).collect()
    }
}

/// The writing end. Dropped before [`FillWriter::finish`], the body has broken off.
#[derive(Debug)]
pub struct FillWriter {
    fill: Arc<Fill>,
}

impl FillWriter {
    /// Adds a chunk. On a paced pass, waits until the slowest reader is within the window, or cuts it when it stalls.
    pub async fn push(&self, chunk: Bytes) -> Pushed {
        if chunk.is_empty() {
            return if self.fill.state.lock().passing {
                Pushed::Passing
            } else {
                Pushed::Kept
            };
        }
        if self.add(chunk) == Pushed::Kept {
            return Pushed::Kept;
        }
        loop {
            self.mark();
            match tokio::time::timeout(self.fill.stall, std::future::poll_fn(|cx| self.poll_room(cx))).await {
                Ok(pushed) => return pushed,
                Err(_) => self.cut_stalled(),
            }
        }
    }

    /// The body is complete. Returns it in one piece when it was kept whole, in memory of exactly its size.
    #[must_use]
    pub fn finish(self) -> Option<Bytes> {
        let mut state = self.fill.state.lock();
        state.end = Some(Ok(()));
        let wakers = state.wakers();
        let whole = if state.passing { None } else { Some(join(&state.chunks)) };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        whole
    }

    fn add(&self, chunk: Bytes) -> Pushed {
        let size = chunk.len() as u64;
        let mut state = self.fill.state.lock();
        if !state.passing {
            let fits = state.kept + size <= self.fill.max_object && self.fill.memory.take(size);
            if fits {
                state.taken += size;
            } else {
                state.passing = true;
            }
        }
        state.kept += size;
        state.chunks.push_back(chunk);
        if state.passing {
            state.trim(&self.fill.memory);
        }
        let pushed = if state.passing { Pushed::Passing } else { Pushed::Kept };
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        pushed
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Pushed> {
        let mut state = self.fill.state.lock();
        state.trim(&self.fill.memory);
        if state.readers.is_empty() {
            return Poll::Ready(Pushed::Abandoned);
        }
        if state.kept <= WINDOW {
            return Poll::Ready(Pushed::Passing);
        }
        let old = state.writer.replace(cx.waker().clone());
        drop(state);
        drop(old); // what a waker drops is not ours to know: never under the lock
        Poll::Pending
    }

    /// Notes where every reader is.
    fn mark(&self) {
        self.fill
            .state
            .lock()
            .readers
            .values_mut()
            .for_each(|r| r.marked = r.next);
    }

    /// Cuts the readers that hold the writer up and have not taken a chunk since they were marked, a stall time ago. One that is
    /// slow but moves is waited for.
    fn cut_stalled(&self) {
        let mut state = self.fill.state.lock();
        let window = state.window_start();
        let stalled = |r: &Reader| r.next < window && r.next == r.marked;
        let cut: Vec<u64> = state
            .readers
            .iter()
            .filter(|(_, r)| stalled(r))
            .map(|(id, _)| *id)
            .collect();
        let wakers: Vec<Waker> = cut.iter().filter_map(|id| state.readers.remove(id)?.waker).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        if state.end.is_none() {
            state.end = Some(Err(FillError::BrokeOff));
        }
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// One reader, from the first byte to the last.
#[derive(Debug)]
pub struct FillReader {
    fill: Arc<Fill>,
    id: u64,
}

impl FillReader {
    /// The next chunk; none at the end.
    pub fn poll_chunk(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FillError>>> {
        let mut state = self.fill.state.lock();
        let first = state.first;
        let Some(reader) = state.readers.get(&self.id) else {
            return Poll::Ready(Some(Err(FillError::TooSlow)));
        };
        let at = usize::try_from(reader.next - first).unwrap_or(usize::MAX);
        if let Some(chunk) = state.chunks.get(at).cloned() {
            if let Some(reader) = state.readers.get_mut(&self.id) {
                reader.next += 1;
            }
            let writer = state.writer.take();
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(e)) => Poll::Ready(Some(Err(e))),
            None => {
                let old = state
                    .readers
                    .get_mut(&self.id)
                    .and_then(|reader| reader.waker.replace(cx.waker().clone()));
                drop(state);
                drop(old);
                Poll::Pending
            }
        }
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        let gone = state.readers.remove(&self.id);
        let writer = state.writer.take();
        drop(state);
        drop(gone);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

/// One contiguous piece of exactly its size: a slice would keep a whole read buffer alive.
fn join(chunks: &VecDeque<Bytes>) -> Bytes {
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
    whole.freeze()
}

#[cfg(test)]
mod tests;
