//! The journal over a disk that fails and crashes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::coord::tests::disk::{FakeDisk, Faults};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "/state";

fn log_path() -> std::path::PathBuf {
    file::path(Path::new(FOLDER))
}

fn open(disk: &FakeDisk) -> (Arc<Journal>, Writer) {
    let journal = Journal::on_disk();
    let writer = journal.open(&disk.as_disk(), Path::new(FOLDER), &[]).unwrap().unwrap();
    (journal, writer)
}

/// What a process would find that starts now; the disk stays as it is.
fn recalled(disk: &FakeDisk) -> Recalled {
    let copy = disk.crashed(&log_path(), disk.unsynced(&log_path()));
    open(&copy).0.recalled().as_ref().clone()
}

/// The targets of the open intents and of the listed resources.
fn known(disk: &FakeDisk) -> (Vec<String>, Vec<String>) {
    let recalled = recalled(disk);
    let intents = recalled
        .intents
        .into_iter()
        .map(|(_, intent)| intent.target.uri)
        .collect();
    (
        intents,
        recalled
            .missed
            .into_iter()
            .flat_map(|m| m.targets)
            .map(|t| t.uri)
            .collect(),
    )
}

fn intent(target: &str) -> Intent {
    Intent {
        upstream: "orders".to_owned(),
        target: target.into(),
    }
}

type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, NotDurable>> + 'a>>;

fn poll<T>(asked: &mut Asked<'_, T>) -> Option<Result<T, NotDurable>> {
    match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Asks, and lets the writer write.
fn told<'a, T>(writer: &mut Writer, asked: impl Future<Output = Result<T, NotDurable>> + 'a) -> Result<T, NotDurable> {
    let mut asked: Asked<'a, T> = Box::pin(asked);
    assert!(poll(&mut asked).is_none(), "answered before anything was written");
    writer.turn();
    poll(&mut asked).expect("an answer once it was written")
}

#[test]
fn r35_what_was_open_and_missed_is_recalled_by_every_start_until_its_end_was_told() {
    let disk = FakeDisk::default();
    let (journal, mut writer) = open(&disk);
    let first = told(&mut writer, journal.intend(intent("/a"))).unwrap();
    let second = told(&mut writer, journal.intend(intent("/b?x=1"))).unwrap();
    told(&mut writer, journal.miss("orders", "two", &"/c".into())).unwrap();
    told(&mut writer, journal.miss("orders", "two", &"/d".into())).unwrap();
    journal.end(first);
    journal.caught_up("orders", "two", &"/c".into());
    writer.turn();
    drop(writer);
    // A second and a third process that die at once forget nothing.
    for _ in 0..3 {
        let recalled = recalled(&disk);
        assert_eq!(recalled.intents, [(second, intent("/b?x=1"))]);
        let missed = Missed {
            upstream: "orders".to_owned(),
            node: "two".to_owned(),
            targets: vec!["/d".into()],
            overflown: false,
        };
        assert_eq!(recalled.missed, [missed]);
    }
    let (journal, mut writer) = open(&disk);
    let third = told(&mut writer, journal.intend(intent("/e"))).unwrap();
    assert!(third > second, "a number of an open intent is given again");
    journal.end(second);
    told(&mut writer, journal.emptied("orders", "two")).unwrap();
    assert_eq!(known(&disk), (vec!["/e".to_owned()], vec![]));
}

#[test]
fn r35_a_crash_at_any_byte_takes_nothing_that_was_promised_and_stops_no_start() {
    let disk = FakeDisk::default();
    let (journal, mut writer) = open(&disk);
    let promised = told(&mut writer, journal.intend(intent("/promised"))).unwrap();
    told(&mut writer, journal.miss("orders", "two", &"/missed".into())).unwrap();
    // A batch is appended and its sync never returns.
    disk.set_faults(Faults {
        sync: true,
        ..Faults::default()
    });
    journal.end(promised);
    assert!(told(&mut writer, journal.intend(intent("/torn"))).is_err());
    let unsynced = disk.unsynced(&log_path());
    assert!(unsynced > 40, "{unsynced}");
    for kept in 0..=unsynced {
        let (intents, missed) = known(&disk.crashed(&log_path(), kept));
        let whole = kept == unsynced;
        let expected = if whole { "/torn" } else { "/promised" };
        assert_eq!(intents, [expected], "{kept} of {unsynced}");
        assert_eq!(missed, ["/missed"], "{kept} of {unsynced}");
    }
}

#[test]
fn one_fsync_answers_all_who_wait_and_lazy_records_cost_none() {
    let disk = FakeDisk::default();
    let (journal, mut writer) = open(&disk);
    let before = disk.syncs();
    let mut asked: Vec<Asked<'_, IntentId>> = (0..100)
        .map(|n| Box::pin(journal.intend(intent(&format!("/{n}")))) as Asked<'_, IntentId>)
        .collect();
    assert!(asked.iter_mut().all(|one| poll(one).is_none()));
    writer.turn();
    let ids: Vec<_> = asked.iter_mut().map(|one| poll(one).unwrap().unwrap()).collect();
    assert_eq!(disk.syncs(), before + 1);
    for id in ids {
        journal.end(id);
    }
    told(&mut writer, journal.intend(intent("/last"))).unwrap();
    assert_eq!(disk.syncs(), before + 2);
    assert_eq!(known(&disk.crashed(&log_path(), 0)).0, ["/last"]);
}

#[test]
fn what_cannot_be_written_is_refused_until_the_file_can_be_replaced() {
    let faults = [
        (
            "sync",
            Faults {
                sync: true,
                ..Faults::default()
            },
        ),
        (
            "append",
            Faults {
                append_after: Some(7),
                ..Faults::default()
            },
        ),
    ];
    for (name, faults) in faults {
        let disk = FakeDisk::default();
        let (journal, mut writer) = open(&disk);
        told(&mut writer, journal.intend(intent("/before"))).unwrap();
        disk.set_faults(faults);
        assert!(told(&mut writer, journal.intend(intent("/refused"))).is_err(), "{name}");
        // A sync that succeeds after one that failed proves nothing, and the file ends in half a line: neither is built upon.
        disk.set_faults(Faults {
            replace: true,
            ..Faults::default()
        });
        assert!(
            told(&mut writer, journal.miss("orders", "two", &"/x".into())).is_err(),
            "{name}"
        );
        disk.set_faults(Faults::default());
        let replaced = disk.replaced();
        told(&mut writer, journal.intend(intent("/after"))).unwrap();
        assert_eq!(disk.replaced(), replaced + 1, "{name}");
        let (intents, missed) = known(&disk.crashed(&log_path(), 0));
        assert_eq!(intents, ["/before", "/after"], "{name}: a refused intent is over");
        assert_eq!(missed, ["/x"], "{name}: who was refused this may think what it likes");
    }
}

#[test]
fn damage_to_what_was_durable_is_told_and_not_guessed_around() {
    let disk = FakeDisk::default();
    let (journal, mut writer) = open(&disk);
    for target in ["/a", "/b", "/c"] {
        told(&mut writer, journal.intend(intent(target))).unwrap();
    }
    let bytes = disk.as_disk().read(&log_path()).unwrap();
    let starts: Vec<_> = bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    let last = starts[starts.len() - 2];
    // Without the end of the line before it the last line looks torn with it: the one byte whose loss goes unnoticed.
    for at in (0..bytes.len()).filter(|at| *at != last - 1) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        disk.put(&log_path(), &bad);
        let opened = Journal::on_disk().open(&disk.as_disk(), Path::new(FOLDER), &[]);
        match opened {
            Ok(_) => assert!(at >= last, "byte {at}: durable records are gone and nobody is told"),
            Err(OpenError::Foreign { .. }) => assert!(at < starts[0], "byte {at}"),
            Err(OpenError::Damaged { .. }) => assert!((starts[0]..last).contains(&at), "byte {at}"),
            Err(OpenError::Io { .. }) => panic!("byte {at}"),
        }
    }
}

#[test]
fn r33b_a_list_that_is_full_is_dropped_for_the_operator() {
    for durable in [false, true] {
        let disk = FakeDisk::default();
        let mut opened = durable.then(|| open(&disk));
        let journal = opened
            .as_ref()
            .map_or_else(Journal::in_memory, |(journal, _)| Arc::clone(journal));
        let all = (0..=MAX_MISSED).map(|n| format!("/{n}"));
        let mut asked: Vec<Asked<'_, ()>> = Vec::new();
        for target in all {
            let journal = &journal;
            asked.push(Box::pin(async move {
                journal.miss("orders", "two", &target.as_str().into()).await
            }));
            let answered = poll(asked.last_mut().unwrap()).is_some();
            assert_eq!(answered, !durable);
            if asked.len() == 1000 {
                if let Some((_, writer)) = &mut opened {
                    writer.turn();
                    asked.drain(..).for_each(|mut one| poll(&mut one).unwrap().unwrap());
                }
                asked.clear();
                assert!(!journal.is_overflown("orders", "two"));
            }
        }
        if let Some((_, writer)) = &mut opened {
            writer.turn();
            poll(asked.last_mut().unwrap()).unwrap().unwrap();
            let missed = recalled(&disk).missed;
            assert_eq!(
                (missed.len(), missed[0].overflown, missed[0].targets.len()),
                (1, true, 0)
            );
        }
        drop(asked);
        assert!(journal.is_overflown("orders", "two"));
        journal.caught_up("orders", "two", &"/1".into());
        let mut emptied: Asked<'_, ()> = Box::pin(journal.emptied("orders", "two"));
        let answer = poll(&mut emptied);
        if let Some((_, writer)) = &mut opened {
            writer.turn();
            poll(&mut emptied).unwrap().unwrap();
            assert_eq!(recalled(&disk).missed, []);
        } else {
            answer.unwrap().unwrap();
        }
        assert!(!journal.is_overflown("orders", "two"));
    }
}

#[test]
fn the_file_is_written_anew_when_it_has_grown() {
    let disk = FakeDisk::default();
    let (journal, writer) = open(&disk);
    let mut writer = writer.with_growth(1000);
    let kept = told(&mut writer, journal.intend(intent("/kept"))).unwrap();
    let before = disk.replaced();
    for n in 0..100 {
        let id = told(&mut writer, journal.intend(intent(&format!("/{n}")))).unwrap();
        journal.end(id);
        assert!(disk.as_disk().read(&log_path()).unwrap().len() < 2500);
    }
    writer.turn();
    assert!(disk.replaced() > before + 3);
    assert_eq!(recalled(&disk).intents, [(kept, intent("/kept"))]);
}

#[test]
fn an_intent_whose_caller_is_gone_ends() {
    let disk = FakeDisk::default();
    let (journal, mut writer) = open(&disk);
    let mut asked: Asked<'_, IntentId> = Box::pin(journal.intend(intent("/gone")));
    assert!(poll(&mut asked).is_none());
    drop(asked);
    // Also when it leaves after the answer and before it has looked.
    let mut asked: Asked<'_, IntentId> = Box::pin(journal.intend(intent("/gone-too")));
    assert!(poll(&mut asked).is_none());
    writer.turn();
    drop(asked);
    writer.turn();
    assert_eq!(recalled(&disk).intents, []);
}

#[test]
fn too_many_who_wait_are_refused_at_once() {
    let disk = FakeDisk::default();
    let (journal, mut writer) = open(&disk);
    let a = Target::from("/a");
    let mut asked: Vec<Asked<'_, ()>> = Vec::new();
    for _ in 0..MAX_WAITING {
        asked.push(Box::pin(journal.miss("orders", "two", &a)));
        assert!(poll(asked.last_mut().unwrap()).is_none());
    }
    let mut refused: Asked<'_, ()> = Box::pin(journal.miss("orders", "two", &a));
    assert!(poll(&mut refused).unwrap().is_err());
    writer.turn();
    assert!(asked.iter_mut().all(|one| poll(one).unwrap().is_ok()));
    told(&mut writer, journal.miss("orders", "two", &"/a".into())).unwrap();
}

#[tokio::test(start_paused = true)]
async fn lazy_records_are_written_soon_and_the_rest_at_the_end() {
    let disk = FakeDisk::default();
    let (journal, writer) = open(&disk);
    let stop = CancellationToken::new();
    let running = tokio::spawn(writer.run(stop.clone()));
    let one = journal.intend(intent("/one")).await.unwrap();
    let two = journal.intend(intent("/two")).await.unwrap();
    journal.end(one);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(known(&disk.crashed(&log_path(), 0)).0, ["/two"]);
    journal.end(two);
    stop.cancel();
    running.await.unwrap();
    assert_eq!(known(&disk).0, Vec::<String>::new());
    assert!(journal.intend(intent("/late")).await.is_err(), "nobody writes any more");
}

#[tokio::test]
async fn who_waits_for_a_writer_that_is_dropped_is_refused() {
    let disk = FakeDisk::default();
    let (journal, writer) = open(&disk);
    let a = Target::from("/a");
    let asked = journal.miss("orders", "two", &a);
    let mut asked: Asked<'_, ()> = Box::pin(asked);
    assert!(poll(&mut asked).is_none());
    drop(writer);
    assert!(asked.await.is_err());
}

#[test]
fn r33b_r35_what_a_target_was_asked_for_with_outlives_the_process_and_old_lines_still_count() {
    let disk = FakeDisk::default();
    let (journal, mut writer) = open(&disk);
    let target = Target {
        host: Some("a.example:81".to_owned()),
        route: Some("tenant".to_owned()),
        ..Target::from("/x?y")
    };
    let asked = Intent {
        upstream: "orders".to_owned(),
        target: target.clone(),
    };
    let id = told(&mut writer, journal.intend(asked.clone())).unwrap();
    told(&mut writer, journal.miss("orders", "two", &target)).unwrap();
    let plain = Target::from("/x?y");
    told(&mut writer, journal.miss("orders", "two", &plain)).unwrap();
    assert_eq!(recalled(&disk).intents, [(id, asked)]);
    assert_eq!(recalled(&disk).missed[0].targets, [plain, target.clone()]);
    journal.caught_up("orders", "two", &target);
    writer.turn();
    assert_eq!(
        recalled(&disk).missed[0].targets,
        ["/x?y".into()],
        "the other host's stays"
    );
    // As earlier versions wrote them.
    let old = r#"[{"intent":{"id":7,"upstream":"orders","target":"/old"}},{"missed":{"upstream":"orders","node":"two","target":"/m"}}]"#;
    let records: Vec<Record> = serde_json::from_str(old).unwrap();
    let mut state = State::default();
    for record in records {
        assert!(state.apply(record));
    }
    assert_eq!(state.recalled().intents[0].1, intent("/old"));
    assert_eq!(state.recalled().missed[0].targets, ["/m".into()]);
    let again = serde_json::to_string(&state.records().collect::<Vec<_>>()).unwrap();
    assert_eq!(again, old, "and as they are still written where that says all");
}

#[test]
fn r33b_a_crash_between_the_operators_word_and_the_end_of_a_list_leaves_more_to_be_copied() {
    let disk = FakeDisk::default();
    let (journal, mut writer) = open(&disk);
    told(&mut writer, journal.miss("orders", "two", &"/before".into())).unwrap();
    // The view has added the node, and the process is killed before it drops the list. The next one lists what the node misses then.
    let (journal, mut writer) = open(&disk.crashed(&log_path(), 0));
    assert_eq!(journal.recalled().missed.len(), 1);
    told(&mut writer, journal.miss("orders", "two", &"/after".into())).unwrap();
    drop(writer);
    // A list that nobody can name is one until the operator's word has been made durable by the view.
    let (journal, mut writer) = open(&disk);
    told(&mut writer, journal.lose("orders", "two")).unwrap();
    assert!(journal.is_overflown("orders", "two"));
    assert!(recalled(&disk).missed[0].overflown);
    told(&mut writer, journal.emptied("orders", "two")).unwrap();
    assert_eq!(recalled(&disk).missed, []);
}
