//! A body on its way from the origin to everybody who waits for it. One writer, any number of readers, each at its own pace.
//!
//! While the body may still be stored it is kept whole, so a slow reader slows nobody; its memory is bounded by `max_object` and
//! accounted to [`FillMemory`]. Complete, it is one piece: what is listed and what the slow still read are the same bytes, and
//! once listed they are the entry's to account for. When it cannot be stored any more (it ran past its bound, or there was no memory) it
//! becomes a *paced pass*: only a window is kept, the writer waits for the slowest reader, and a reader that makes no progress for the
//! stall time is cut (HTTP.md 15). Invariant: a reader sees every byte in order or an error, never a gap.
//!
//! Chunks arrive as slices of the connection's read buffer: a small one costs far more than its length, in its handle and in what it
//! keeps alive. Small ones are copied into blocks, from which readers take copies while they fill up; so nobody waits, and what is
//! accounted for is what is used, give or take a factor of two.

use super::budget::FillMemory;
use crate::core::reason::NotStored;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How much of a paced pass is kept for readers that are a little behind.
const WINDOW: u64 = 256 * 1024;

/// Smaller chunks are copied into blocks of this size; larger ones stay as they came. Beside it a handle's 40 bytes are nothing.
const BLOCK: usize = 16 * 1024;

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
    /// It cannot be stored, for this reason: from here on it only passes.
    Passing(NotStored),
    /// It only passes, and nobody reads any more: the writer may stop.
    Abandoned(NotStored),
}

#[derive(Debug)]
struct Reader {
    /// The offset of the next byte it wants.
    at: u64,
    /// Where it was when the writer began to wait.
    marked: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    /// What is kept, without the tail: each piece with the offset of its first byte.
    blocks: VecDeque<(u64, Bytes)>,
    /// The block that is filling up.
    tail: Vec<u8>,
    /// The offset of the first byte kept.
    first: u64,
    /// Bytes pushed.
    end_at: u64,
    /// Bytes accounted to the fill memory.
    taken: u64,
    /// Why the body cannot be stored.
    passing: Option<NotStored>,
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
            blocks: VecDeque::new(),
            tail: Vec::new(),
            first: 0,
            end_at: 0,
            taken: 0,
            passing: None,
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
                at: 0,
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
        let state = self.state.get_mut();
        self.memory.give_back(state.taken);
        if let Some((_, whole)) = state.blocks.front() {
            self.memory.settle(whole); // not listed, or settled then
        }
    }
}

impl State {
    /// Bytes kept.
    fn kept(&self) -> u64 {
        self.end_at - self.first
    }

    fn append(&mut self, chunk: Bytes) {
        let start = self.end_at;
        self.end_at += chunk.len() as u64;
        if chunk.len() >= BLOCK {
            self.seal(start);
            self.blocks.push_back((start, chunk));
            return;
        }
        let (fits, rest) = chunk.split_at(chunk.len().min(BLOCK - self.tail.len()));
        self.fill_up(fits);
        if !rest.is_empty() {
            self.seal(start + fits.len() as u64);
            self.fill_up(rest);
        }
    }

    /// Into the tail, which holds it. Twice as much room each time, but never more than a block.
    fn fill_up(&mut self, part: &[u8]) {
        let wanted = self.tail.len() + part.len();
        if wanted > self.tail.capacity() {
            let room = (2 * self.tail.capacity()).clamp(wanted, BLOCK);
            self.tail.reserve_exact(room - self.tail.len());
        }
        self.tail.extend_from_slice(part);
    }

    /// The tail, which ends before `end`, becomes a block.
    fn seal(&mut self, end: u64) {
        if !self.tail.is_empty() {
            let block = Bytes::from(std::mem::take(&mut self.tail));
            self.blocks.push_back((end - block.len() as u64, block));
        }
    }

    /// What is there from an offset on, as far as it is in one piece.
    fn from(&self, at: u64) -> Option<Bytes> {
        let inside = |start: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
        let after = self.blocks.partition_point(|(start, _)| *start <= at);
        if let Some((start, block)) = after.checked_sub(1).and_then(|n| self.blocks.get(n))
            && inside(*start) < block.len()
        {
            return Some(block.slice(inside(*start)..));
        }
        let tail = self.tail.get(inside(self.end_at - self.tail.len() as u64)..)?;
        (!tail.is_empty()).then(|| Bytes::copy_from_slice(tail))
    }

    /// Forgets what every reader has seen; only on a paced pass. Memory accounted for goes back with it: a pass may last for hours.
    fn trim(&mut self, memory: &FillMemory) {
        let slowest = self.readers.values().map(|r| r.at).min().unwrap_or(self.end_at);
        while let Some((start, block)) = self.blocks.front()
            && start + block.len() as u64 <= slowest
        {
            self.first = start + block.len() as u64;
            self.blocks.pop_front();
        }
        if slowest == self.end_at {
            self.first = self.end_at;
            self.tail.clear();
        }
        memory.give_back(self.taken.saturating_sub(self.kept()));
        self.taken = self.taken.min(self.kept());
    }

    /// A reader before this offset holds the writer up.
    fn window_start(&self) -> u64 {
        self.end_at.saturating_sub(WINDOW)
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
        let Some(why) = self.add(chunk) else {
            return Pushed::Kept;
        };
        loop {
            self.mark();
            let room = std::future::poll_fn(|cx| self.poll_room(why, cx));
            match tokio::time::timeout(self.fill.stall, room).await {
                Ok(pushed) => return pushed,
                Err(_) => self.cut_stalled(),
            }
        }
    }

    /// The body is complete. Returns it in one piece, in memory of exactly its size.
    ///
    /// # Errors
    ///
    /// Why it was not kept whole.
    pub fn finish(self) -> Result<Bytes, NotStored> {
        let mut state = self.fill.state.lock();
        let end_at = state.end_at;
        state.seal(end_at);
        state.end = Some(Ok(()));
        let wakers = state.wakers();
        let whole = match state.passing {
            Some(why) => Err(why),
            None => Ok(state.blocks.clone()),
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        let whole = join(&whole?); // not under the lock: it may take a millisecond
        let mut state = self.fill.state.lock();
        let pieces = std::mem::take(&mut state.blocks);
        if !whole.is_empty() {
            state.blocks.push_back((0, whole.clone()));
        }
        self.fill.memory.complete(&whole, std::mem::take(&mut state.taken));
        drop(state);
        drop(pieces);
        Ok(whole)
    }

    /// Returns why the body only passes, if it does.
    fn add(&self, chunk: Bytes) -> Option<NotStored> {
        let size = chunk.len() as u64;
        let mut state = self.fill.state.lock();
        if size == 0 {
            return state.passing;
        }
        if state.passing.is_none() {
            if state.kept() + size > self.fill.max_object {
                state.passing = Some(NotStored::TooLarge);
            } else if self.fill.memory.take(size) {
                state.taken += size;
            } else {
                state.passing = Some(NotStored::NoMemory);
            }
        }
        state.append(chunk);
        if state.passing.is_some() {
            state.trim(&self.fill.memory);
        }
        let passing = state.passing;
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        passing
    }

    fn poll_room(&self, why: NotStored, cx: &mut Context<'_>) -> Poll<Pushed> {
        let mut state = self.fill.state.lock();
        state.trim(&self.fill.memory);
        if state.readers.is_empty() {
            return Poll::Ready(Pushed::Abandoned(why));
        }
        let window = state.window_start();
        if state.readers.values().all(|r| r.at >= window) {
            return Poll::Ready(Pushed::Passing(why));
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
            .for_each(|r| r.marked = r.at);
    }

    /// Cuts the readers that hold the writer up and have not taken anything since they were marked, a stall time ago. One that is
    /// slow but moves is waited for.
    fn cut_stalled(&self) {
        let mut state = self.fill.state.lock();
        let window = state.window_start();
        let stalled = |r: &Reader| r.at < window && r.at == r.marked;
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
    /// What comes next, as far as it is there; none at the end.
    pub fn poll_chunk(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FillError>>> {
        let mut state = self.fill.state.lock();
        let Some(at) = state.readers.get(&self.id).map(|reader| reader.at) else {
            return Poll::Ready(Some(Err(FillError::TooSlow)));
        };
        if let Some(chunk) = state.from(at) {
            if let Some(reader) = state.readers.get_mut(&self.id) {
                reader.at += chunk.len() as u64;
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
fn join(blocks: &VecDeque<(u64, Bytes)>) -> Bytes {
    let mut whole = BytesMut::with_capacity(blocks.iter().map(|(_, block)| block.len()).sum());
    blocks.iter().for_each(|(_, block)| whole.extend_from_slice(block));
    whole.freeze()
}

#[cfg(test)]
mod tests;
