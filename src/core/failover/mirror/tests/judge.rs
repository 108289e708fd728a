//! Two judges of a register's history: by brute force, for a handful of operations, and by zones (Gibbons and Korach 1997), for many.
//! They know nothing of each other; [`tests`] lets them judge the same histories.

/// What an operation did.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Did {
    /// It wrote this, and was told so.
    Wrote(u8),
    /// It may have written this at any time since it began, or never.
    MayHaveWritten(u8),
    /// It wrote nothing, and this was its value.
    Failed(u8),
    /// It read this.
    Read(u8),
}

/// An operation of a history, by the clock of whoever watched.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Done {
    pub(super) did: Did,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Whether some order of all operations, each between its start and its end, is one a single register (0 at first) would have shown.
pub(super) fn by_force(history: &[Done]) -> bool {
    let history: Vec<_> = history.iter().filter(|d| !matches!(d.did, Did::Failed(_))).collect();
    fn go(history: &[&Done], placed: u32, value: u8) -> bool {
        let mut open = (0..history.len()).filter(|n| placed & 1 << n == 0).peekable();
        if open.peek().is_none() {
            return true;
        }
        let limit = open.clone().map(|n| end(history[n])).min().unwrap_or(u64::MAX);
        open.any(|n| {
            let done = history[n];
            if done.start > limit {
                return false; // somebody had ended before it began
            }
            let placed = placed | 1 << n;
            match done.did {
                Did::Wrote(new) => go(history, placed, new),
                Did::MayHaveWritten(new) => go(history, placed, new) || go(history, placed, value),
                Did::Read(read) => read == value && go(history, placed, value),
                Did::Failed(_) => false,
            }
        })
    }
    go(&history, 0, 0)
}

fn end(done: &Done) -> u64 {
    match done.did {
        Did::MayHaveWritten(_) => u64::MAX,
        Did::Wrote(_) | Did::Failed(_) | Did::Read(_) => done.end,
    }
}

/// The same for unique values: a value's zone reaches from the first end to the last start of the operations on it; no two forward zones
/// overlap, and no backward zone lies inside a forward one.
pub(super) fn by_zones(history: &[Done]) -> bool {
    let mut zones = Vec::new();
    let first = Done {
        did: Did::Wrote(0),
        start: 0,
        end: 0,
    };
    for written in history.iter().chain([&first]) {
        let value = match written.did {
            Did::Wrote(value) | Did::MayHaveWritten(value) | Did::Failed(value) => value,
            Did::Read(_) => continue,
        };
        let reads: Vec<_> = history.iter().filter(|d| d.did == Did::Read(value)).collect();
        let ended = reads.iter().map(|d| d.end).min();
        match (written.did, ended) {
            (Did::Failed(_), None) | (Did::MayHaveWritten(_), None) => continue,
            (Did::Failed(_), Some(_)) => return false,
            (_, Some(ended)) if written.start > 0 && ended < written.start => return false,
            _ => {}
        }
        let first_end = ended.unwrap_or(u64::MAX).min(end(written));
        let last_start = reads.iter().map(|d| d.start).max().unwrap_or(0).max(written.start);
        zones.push((first_end, last_start));
    }
    let known = |read: u8| {
        read == 0
            || history
                .iter()
                .any(|d| matches!(d.did, Did::Wrote(v) | Did::MayHaveWritten(v) if v == read))
    };
    if history
        .iter()
        .any(|d| matches!(d.did, Did::Read(value) if !known(value)))
    {
        return false;
    }
    let forward: Vec<_> = zones.iter().filter(|(end, start)| end < start).collect();
    let overlap = |a: &(u64, u64), b: &(u64, u64)| a.0 < b.1 && b.0 < a.1;
    for (n, a) in forward.iter().enumerate() {
        if forward.iter().skip(n + 1).any(|b| overlap(a, b)) {
            return false;
        }
        if zones
            .iter()
            .any(|(end, start)| end >= start && a.0 < *start && *end < a.1)
        {
            return false;
        }
    }
    true
}

#[test]
fn both_judges_agree_on_every_history_that_chance_makes() {
    let mut verdicts = [0, 0];
    for seed in 1..30_000_u64 {
        let mut chance = super::random::Chance::new(seed);
        // Every instant is used once: neither judge is asked about ties.
        let mut instants: Vec<u64> = (1..=12).collect();
        let mut take = |chance: &mut super::random::Chance| instants.remove(chance.below(instants.len()));
        let mut history = Vec::new();
        for n in 0..6_u8 {
            let (a, b) = (take(&mut chance), take(&mut chance));
            let did = match (n, chance.below(6)) {
                (0..3, 0) => Did::Failed(n + 1),
                (0..3, 1 | 2) => Did::MayHaveWritten(n + 1),
                (0..3, _) => Did::Wrote(n + 1),
                _ => Did::Read(u8::try_from(chance.below(4)).unwrap()),
            };
            let (start, end) = (a.min(b), a.max(b));
            history.push(Done { did, start, end });
        }
        let verdict = by_force(&history);
        assert_eq!(verdict, by_zones(&history), "{history:?}");
        verdicts[usize::from(verdict)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 1000), "{verdicts:?}");
}
