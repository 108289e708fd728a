//! Bodies under way: nothing lost, nothing twice, nothing kept that need not be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
// tokio's paused clock is the time of these tests.
#![allow(clippy::disallowed_methods)]

use super::*;
use proptest::prelude::*;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const STALL: Duration = Duration::from_secs(10);
const PLENTY: u64 = 1 << 40;
const TOO_LARGE: Pushed = Pushed::Passing(NotStored::TooLarge);

fn memory(limit: u64) -> Arc<FillMemory> {
    Arc::new(FillMemory::new(limit))
}

fn chunk(number: u64, size: usize) -> Bytes {
    Bytes::from(vec![u8::try_from(number % 251).unwrap(); size])
}

async fn next(reader: &mut FillReader) -> Option<Result<Bytes, FillError>> {
    poll_fn(|cx| Pin::new(&mut *reader).poll_chunk(cx)).await
}

/// Everything a reader sees, and how it ended.
async fn drain(mut reader: FillReader, pace: Duration) -> (Vec<u8>, Result<(), FillError>) {
    let mut seen = Vec::new();
    loop {
        if !pace.is_zero() {
            sleep(pace).await;
        }
        match next(&mut reader).await {
            Some(Ok(bytes)) => seen.extend_from_slice(&bytes),
            Some(Err(e)) => return (seen, Err(e)),
            None => return (seen, Ok(())),
        }
    }
}

fn kept(fill: &Arc<Fill>) -> u64 {
    fill.state.lock().kept()
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll(reader: &mut FillReader, by: &Arc<Count>) -> Poll<Option<Result<Bytes, FillError>>> {
    let waker = Waker::from(Arc::clone(by));
    Pin::new(reader).poll_chunk(&mut Context::from_waker(&waker))
}

#[tokio::test(start_paused = true)]
async fn readers_at_any_pace_see_the_same_bytes_and_a_late_one_sees_all() {
    let memory = memory(PLENTY);
    let (writer, fill) = channel(Arc::clone(&memory), PLENTY, STALL);
    let paces = [0, 1, 50, 700].map(Duration::from_millis);
    let early: Vec<JoinHandle<_>> = paces
        .map(|pace| tokio::spawn(drain(fill.reader().unwrap(), pace)))
        .into();
    let mut sent = Vec::new();
    for n in 0..50 {
        let bytes = chunk(n, 1000);
        sent.extend_from_slice(&bytes);
        assert_eq!(writer.push(bytes).await, Pushed::Kept);
        sleep(Duration::from_millis(10)).await;
    }
    let late = tokio::spawn(drain(fill.reader().unwrap(), Duration::ZERO));
    let whole = writer.finish().unwrap();
    assert!(*whole == *sent);
    let after = tokio::spawn(drain(fill.reader().unwrap(), Duration::ZERO));
    for reader in early.into_iter().chain([late, after]) {
        assert_eq!(reader.await.unwrap(), (sent.clone(), Ok(())));
    }
    assert_eq!(memory.used(), 50_000, "while somebody could still read it");
    drop(fill);
    assert_eq!(memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_whole_body_is_in_memory_of_its_own_size() {
    let (writer, fill) = channel(memory(PLENTY), PLENTY, STALL);
    let large = Bytes::from(vec![1; 100_000]);
    writer.push(large.slice(10..20)).await;
    writer.push(large.slice(30..40)).await;
    let whole = writer.finish().unwrap();
    assert_eq!(whole.len(), 20);
    assert!(large.is_unique(), "nor is one kept");
    drop(fill);
    let vec: Vec<u8> = whole.try_into_mut().unwrap().into();
    assert_eq!(vec.capacity(), 20, "not a slice of a read buffer");
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_byte_ends_well_and_is_whole() {
    let (writer, fill) = channel(memory(PLENTY), PLENTY, STALL);
    let reader = fill.reader().unwrap();
    assert_eq!(writer.push(Bytes::new()).await, Pushed::Kept);
    assert_eq!(writer.finish(), Ok(Bytes::new()));
    assert_eq!(drain(reader, Duration::ZERO).await, (Vec::new(), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_dropped_has_broken_off_for_all() {
    let (writer, fill) = channel(memory(PLENTY), PLENTY, STALL);
    let readers = [fill.reader().unwrap(), fill.reader().unwrap()];
    writer.push(chunk(7, 3)).await;
    let waiting = readers.map(|r| tokio::spawn(drain(r, Duration::ZERO)));
    tokio::task::yield_now().await;
    drop(writer);
    let late = tokio::spawn(drain(fill.reader().unwrap(), Duration::ZERO));
    for reader in waiting.into_iter().chain([late]) {
        assert_eq!(reader.await.unwrap(), (vec![7; 3], Err(FillError::BrokeOff)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_past_its_bound_is_paced_by_its_slowest_reader_in_bounded_memory() {
    const CHUNK: usize = 16 * 1024;
    let bound = 4 * WINDOW;
    let memory = memory(PLENTY);
    let (writer, fill) = channel(Arc::clone(&memory), bound, STALL);
    let slow = tokio::spawn(drain(fill.reader().unwrap(), Duration::from_millis(100)));
    let quick = tokio::spawn(drain(fill.reader().unwrap(), Duration::ZERO));
    let (mut most, mut passing) = (0, false);
    for n in 0..500 {
        let pushed = writer.push(chunk(n, CHUNK)).await;
        passing |= pushed == TOO_LARGE;
        assert_eq!(pushed, if passing { TOO_LARGE } else { Pushed::Kept });
        most = most.max(kept(&fill));
        assert!(memory.used() <= kept(&fill), "what was let go is given back");
        if passing {
            assert!(
                kept(&fill) <= WINDOW + BLOCK as u64,
                "the writer went on before the slow reader was near"
            );
        }
    }
    assert!(passing);
    assert!(most <= bound, "{most} bytes were kept");
    assert!(fill.reader().is_none(), "the first bytes are gone");
    assert_eq!(writer.finish(), Err(NotStored::TooLarge));
    let expected: Vec<u8> = (0..500).flat_map(|n| chunk(n, CHUNK)).collect();
    assert!(quick.await.unwrap() == (expected.clone(), Ok(())));
    assert!(slow.await.unwrap() == (expected, Ok(())));
    drop(fill);
    assert_eq!(memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_is_cut_after_the_stall_time_and_another_goes_on() {
    const CHUNK: usize = 64 * 1024;
    let (writer, fill) = channel(memory(PLENTY), 0, STALL);
    let mut stalled = fill.reader().unwrap();
    let other = tokio::spawn(drain(fill.reader().unwrap(), Duration::ZERO));
    let start = tokio::time::Instant::now();
    for n in 0..20 {
        assert_eq!(writer.push(chunk(n, CHUNK)).await, TOO_LARGE);
        let waited = start.elapsed();
        if n < 4 {
            assert!(waited < STALL, "within the window nobody is cut");
        } else {
            assert!(waited >= STALL, "cut only after the stall time");
        }
    }
    assert!(start.elapsed() < 2 * STALL, "it was waited for once");
    assert_eq!(next(&mut stalled).await, Some(Err(FillError::TooSlow)));
    assert_eq!(next(&mut stalled).await, Some(Err(FillError::TooSlow)), "for good");
    assert_eq!(writer.finish(), Err(NotStored::TooLarge));
    let (seen, end) = other.await.unwrap();
    assert_eq!((seen.len(), end), (20 * CHUNK, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_moves_however_slowly_is_never_cut() {
    const CHUNK: usize = 16 * 1024;
    let bound = 8 * WINDOW;
    let (writer, fill) = channel(memory(PLENTY), bound, STALL);
    // When the body runs past its bound this reader has seven windows to catch up, at less than two chunks per stall time.
    let slow = tokio::spawn(drain(fill.reader().unwrap(), STALL * 3 / 5));
    let chunks = 10 * WINDOW / 16 / 1024;
    for n in 0..chunks {
        writer.push(chunk(n, CHUNK)).await;
    }
    assert_eq!(writer.finish(), Err(NotStored::TooLarge));
    let (seen, end) = slow.await.unwrap();
    assert_eq!((seen.len() as u64, end), (10 * WINDOW, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_for_the_origin_is_not_cut_with_the_one_that_stalls() {
    const CHUNK: usize = 64 * 1024;
    let (writer, fill) = channel(memory(PLENTY), 0, STALL);
    let mut stalled = fill.reader().unwrap();
    let mut within = fill.reader().unwrap();
    for n in 0..4 {
        writer.push(chunk(n, CHUNK)).await;
        next(&mut within).await.unwrap().unwrap();
    }
    // `within` is at the end and takes nothing while the writer waits for `stalled`.
    writer.push(chunk(4, CHUNK)).await;
    assert_eq!(next(&mut stalled).await, Some(Err(FillError::TooSlow)));
    assert_eq!(next(&mut within).await.unwrap().unwrap(), chunk(4, CHUNK));
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_nobody_reads_is_abandoned_and_a_body_that_can_be_stored_is_not() {
    let (writer, fill) = channel(memory(PLENTY), 100, STALL);
    let reader = fill.reader().unwrap();
    drop(reader);
    assert_eq!(writer.push(chunk(0, 100)).await, Pushed::Kept, "it may still be stored");
    assert_eq!(writer.push(chunk(1, 1)).await, Pushed::Abandoned(NotStored::TooLarge));
    assert_eq!(kept(&fill), 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_learns_that_the_last_reader_left() {
    let (writer, fill) = channel(memory(PLENTY), 0, STALL);
    let reader = fill.reader().unwrap();
    let size = usize::try_from(WINDOW).unwrap() + 1;
    let push = tokio::spawn(async move { writer.push(chunk(0, size)).await });
    tokio::task::yield_now().await;
    let start = tokio::time::Instant::now();
    drop(reader);
    assert_eq!(push.await.unwrap(), Pushed::Abandoned(NotStored::TooLarge));
    assert!(start.elapsed() < STALL, "it was told, not timed out");
}

#[tokio::test(start_paused = true)]
async fn fills_that_find_no_memory_pass_and_all_memory_comes_back() {
    let memory = memory(1000);
    let (first, fill_1) = channel(Arc::clone(&memory), PLENTY, STALL);
    let (second, fill_2) = channel(Arc::clone(&memory), PLENTY, STALL);
    let reader_1 = fill_1.reader().unwrap();
    let reader_2 = fill_2.reader().unwrap();
    assert_eq!(first.push(chunk(0, 600)).await, Pushed::Kept);
    assert_eq!(second.push(chunk(0, 300)).await, Pushed::Kept);
    assert_eq!(memory.used(), 900);
    assert_eq!(second.push(chunk(1, 300)).await, Pushed::Passing(NotStored::NoMemory));
    assert_eq!(memory.used(), 900, "what was refused is not counted");
    assert_eq!(first.push(chunk(1, 100)).await, Pushed::Kept);
    assert_eq!(
        second.finish(),
        Err(NotStored::NoMemory),
        "a body that passed cannot be stored"
    );
    assert_eq!(first.finish().unwrap().len(), 700);
    assert_eq!(
        drain(reader_2, Duration::ZERO).await.0.len(),
        600,
        "its reader got all of it"
    );
    drop(fill_2);
    assert_eq!(memory.used(), 700);
    drop(fill_1);
    assert_eq!(memory.used(), 700, "a reader is still there");
    drop(reader_1);
    assert_eq!(memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_pass_gives_its_memory_back_as_it_goes() {
    let memory = memory(100_000);
    let (writer, fill) = channel(Arc::clone(&memory), 100_000, STALL);
    let mut reader = fill.reader().unwrap();
    for n in 0..10 {
        writer.push(chunk(n, 10_000)).await;
    }
    assert_eq!(memory.used(), 100_000);
    for n in 10..20 {
        assert_eq!(writer.push(chunk(n, 10)).await, TOO_LARGE);
        while poll(&mut reader, &Arc::default()).is_ready() {}
    }
    assert!(
        memory.used() <= BLOCK as u64,
        "{} bytes are held by a fill that only passes",
        memory.used()
    );
}

/// The memory behind a body of small chunks, which are all in full blocks.
fn really_used(fill: &Fill) -> usize {
    let state = fill.state.lock();
    assert!(state.blocks.iter().all(|(_, block)| block.len() == BLOCK));
    let handles = state.blocks.capacity() * size_of::<(u64, Bytes)>();
    state.blocks.len() * BLOCK + state.tail.capacity() + handles
}

#[tokio::test(start_paused = true)]
async fn a_body_of_one_byte_chunks_takes_no_more_memory_than_is_accounted_for() {
    const CHUNKS: usize = 200_000;
    let memory = memory(PLENTY);
    let (writer, fill) = channel(Arc::clone(&memory), PLENTY, STALL);
    let mut quick = fill.reader().unwrap();
    let slow = fill.reader().unwrap();
    let (mut seen, mut pieces) = (Vec::new(), 0);
    for n in 0..CHUNKS {
        // As hyper does it: slices of a read buffer, which each of them would keep alive.
        let buffer = Bytes::from(vec![u8::try_from(n % 251).unwrap(); 8]);
        assert_eq!(writer.push(buffer.slice(3..4)).await, Pushed::Kept);
        assert!(buffer.is_unique(), "the read buffer is kept alive");
        if n % 3 == 0 {
            // A reader that keeps up gets every byte at once, and costs nothing.
            while let Poll::Ready(Some(Ok(bytes))) = poll(&mut quick, &Arc::default()) {
                seen.extend_from_slice(&bytes);
                pieces += 1;
            }
            assert_eq!(seen.len(), n + 1, "a byte that is there was held back");
        }
    }
    assert!(pieces > CHUNKS / 4, "the quick reader was not quick");
    assert_eq!(memory.used(), CHUNKS as u64);
    let real = really_used(&fill);
    assert!(real < CHUNKS + CHUNKS / 4, "{real} bytes are used for {CHUNKS}");
    let whole = writer.finish().unwrap();
    assert!(drain(quick, Duration::ZERO).await.0 == whole[seen.len()..]);
    assert!(drain(slow, Duration::ZERO).await.0 == whole);
}

#[tokio::test(start_paused = true)]
async fn chunks_of_any_size_are_read_from_any_offset() {
    let sizes = [1, BLOCK - 1, BLOCK, 1, 7, BLOCK + 1, BLOCK - 1, BLOCK - 1, 3, 5 * BLOCK];
    for passes in [false, true] {
        let (writer, fill) = channel(memory(PLENTY), if passes { 0 } else { PLENTY }, STALL);
        // Each reader takes what is there after so many chunks.
        let mut readers: Vec<(FillReader, Vec<u8>)> = (0..4).map(|_| (fill.reader().unwrap(), Vec::new())).collect();
        let mut sent = Vec::new();
        for (n, size) in sizes.into_iter().enumerate() {
            let bytes = chunk(n as u64, size);
            sent.extend_from_slice(&bytes);
            writer.push(bytes).await;
            for (every, (reader, seen)) in readers.iter_mut().enumerate() {
                while n % (every + 1) == 0
                    && let Poll::Ready(Some(Ok(bytes))) = poll(reader, &Arc::default())
                {
                    seen.extend_from_slice(&bytes);
                }
            }
        }
        drop(writer.finish());
        for (reader, mut seen) in readers {
            seen.extend(drain(reader, Duration::ZERO).await.0);
            assert!(seen == sent, "passes: {passes}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_complete_body_is_held_once_and_accounted_for_until_it_is_listed_or_gone() {
    const LEN: usize = 10 * BLOCK;
    for listed in [true, false] {
        let memory = memory(PLENTY);
        let (writer, fill) = channel(Arc::clone(&memory), PLENTY, STALL);
        let mut slow = fill.reader().unwrap();
        for n in 0..10 {
            writer.push(chunk(n, BLOCK)).await;
        }
        assert_eq!(next(&mut slow).await.unwrap().unwrap(), chunk(0, BLOCK));
        let whole = writer.finish().unwrap();
        assert_eq!(memory.used(), LEN as u64, "nobody else accounts for it yet");
        if listed {
            memory.settle(&whole);
            memory.settle(&whole); // once is enough
            assert_eq!(memory.used(), 0, "however slowly it is read");
        }
        let rest = next(&mut slow).await.unwrap().unwrap();
        assert_eq!(
            rest.as_ptr(),
            whole[BLOCK..].as_ptr(),
            "the reader reads what is listed"
        );
        assert!(rest == whole[BLOCK..]);
        assert_eq!(next(&mut slow).await, None);
        drop(fill);
        assert_eq!(
            memory.used(),
            if listed { 0 } else { LEN as u64 },
            "a reader is still there"
        );
        drop(slow);
        assert_eq!(memory.used(), 0);
        // Another body at the same place is another body.
        memory.settle(&whole);
        assert_eq!(memory.used(), 0);
    }
}

#[tokio::test]
async fn the_waker_of_the_last_poll_is_the_one_that_is_woken() {
    let (writer, fill) = channel(memory(PLENTY), PLENTY, STALL);
    let mut reader = fill.reader().unwrap();
    let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
    assert!(poll(&mut reader, &old).is_pending());
    assert!(poll(&mut reader, &new).is_pending(), "the reader went to another task");
    writer.push(chunk(0, 1)).await;
    assert_eq!((old.woken(), new.woken()), (0, 1));
    assert!(poll(&mut reader, &new).is_ready());
    assert!(poll(&mut reader, &new).is_pending());
    drop(writer);
    assert_eq!(new.woken(), 2, "the end wakes too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_no_wake_is_lost() {
    for round in 0..20_u64 {
        let passes = round % 2 == 1;
        let (writer, fill) = channel(
            memory(PLENTY),
            if passes { 0 } else { PLENTY },
            Duration::from_secs(600),
        );
        let size = if passes { 40_000 } else { 10 };
        let readers: Vec<JoinHandle<(usize, u64)>> = (0..6)
            .map(|_| {
                let mut reader = fill.reader().unwrap();
                let half = 250 * size;
                let sum_of = |bytes: &Bytes| bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
                tokio::spawn(async move {
                    let (mut count, mut sum) = (0, 0);
                    // Half-way the reader moves to another task, as a body does that is handed on.
                    while count < half {
                        let bytes = next(&mut reader).await.unwrap().unwrap();
                        (count, sum) = (count + bytes.len(), sum + sum_of(&bytes));
                    }
                    let rest = tokio::spawn(async move {
                        while let Some(bytes) = next(&mut reader).await {
                            let bytes = bytes.unwrap();
                            (count, sum) = (count + bytes.len(), sum + sum_of(&bytes));
                        }
                        (count, sum)
                    });
                    rest.await.unwrap()
                })
            })
            .collect();
        for n in 0..500 {
            writer.push(chunk(n, size)).await;
        }
        assert_eq!(writer.finish().is_err(), passes);
        let expected = (500 * size, (0..500).map(|n| n % 251 * size as u64).sum::<u64>());
        for reader in readers {
            assert_eq!(reader.await.unwrap(), expected);
        }
    }
}

/// How a reader behaves: when it joins (after so many chunks), how long it rests before each chunk, and after how many it leaves.
#[derive(Clone, Debug)]
struct Plan {
    joins: usize,
    rests: Duration,
    leaves: usize,
}

fn plan() -> impl Strategy<Value = Plan> {
    let rests = prop_oneof![4 => 0..200_u64, 1 => Just(9_000), 1 => Just(60_000)];
    (0..12_usize, rests, prop_oneof![3 => Just(usize::MAX), 1 => 0..10_usize]).prop_map(|(joins, rests, leaves)| Plan {
        joins,
        rests: Duration::from_millis(rests),
        leaves,
    })
}

async fn follow(plan: Plan, mut reader: FillReader, sent: Arc<Vec<u8>>) -> Result<(), TestCaseError> {
    let mut at = 0;
    for _ in 0..plan.leaves {
        sleep(plan.rests).await;
        match next(&mut reader).await {
            Some(Ok(bytes)) => {
                prop_assert!(!bytes.is_empty());
                prop_assert_eq!(
                    &sent[at..at + bytes.len()],
                    &bytes[..],
                    "a gap or another order at {}",
                    at
                );
                at += bytes.len();
            }
            Some(Err(FillError::BrokeOff)) => return Ok(()),
            Some(Err(FillError::TooSlow)) => {
                prop_assert!(plan.rests >= STALL, "one that moves was cut: {:?}", plan);
                return Ok(());
            }
            None => {
                prop_assert_eq!(at, sent.len(), "an early end");
                return Ok(());
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn never_a_gap_nor_another_order(
        sizes in proptest::collection::vec(prop_oneof![Just(0), 1..300_usize, 50_000..200_000_usize], 0..24),
        plans in proptest::collection::vec(plan(), 1..5),
        bound in prop_oneof![Just(0), Just(1000), Just(300_000), Just(PLENTY)],
        limit in prop_oneof![Just(50_000), Just(PLENTY)],
        breaks in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let all: Vec<Bytes> = sizes.iter().enumerate().map(|(n, s)| chunk(n as u64, *s)).collect();
            let sent: Arc<Vec<u8>> = Arc::new(all.concat());
            let memory = memory(limit);
            let (writer, fill) = channel(Arc::clone(&memory), bound, STALL);
            let join = |plan: &Plan| fill.reader().map(|r| tokio::spawn(follow(plan.clone(), r, Arc::clone(&sent))));
            let mut readers: Vec<_> = plans.iter().filter(|p| p.joins == 0).filter_map(join).collect();
            let mut abandoned = false;
            for (n, bytes) in all.iter().enumerate() {
                let pushed = writer.push(bytes.clone()).await;
                let most = bound.max(WINDOW + BLOCK as u64);
                prop_assert!(kept(&fill) <= most, "{} bytes kept after {:?}", kept(&fill), pushed);
                prop_assert!(memory.used() <= limit);
                if matches!(pushed, Pushed::Abandoned(_)) {
                    abandoned = true;
                    break;
                }
                for plan in plans.iter().filter(|p| p.joins == n + 1) {
                    let joined = join(plan);
                    prop_assert!(joined.is_some() || matches!(pushed, Pushed::Passing(_)), "a body that is kept whole can be joined");
                    readers.extend(joined);
                }
            }
            if breaks || abandoned {
                drop(writer);
            } else if let Ok(whole) = writer.finish() {
                prop_assert_eq!(&whole[..], &sent[..]);
            }
            for reader in readers {
                reader.await.unwrap()?;
            }
            drop(fill);
            prop_assert_eq!(memory.used(), 0);
            Ok(())
        })?;
    }
}
