//! A small world around the state machines: one resource, two or three nodes, one proxy that may be killed and restarted, requests that
//! are lost on the way there, on the way back, or applied late, a primary that dies or is deposed, and nodes that come back.
//!
//! Every step is one [`Action`]; whoever plays it (every order in [`super::walk`], chance in [`super::random`]) chooses among
//! [`World::actions`]. What is durable at once here (intents, the view, the lists) is what the shell may only act on once it is.

use super::super::compare::{self, Compare, Shown};
use super::super::doubt::{Begun, Doubt};
use super::super::missed::{Missed, Next};
use super::super::turns::{Ticket, Turn, Turns};
use super::super::write::{self, Write};
use super::super::{Epoch, Standing};
use crate::core::reason::WriteOutcome;
use crate::core::time::{MonoTime, Span};
use std::collections::{BTreeMap, BTreeSet};

const TARGET: &str = "/r";

fn recalled() -> Missed {
    let mut missed = Missed::default();
    missed.recalled();
    missed
}

/// A rule that is not kept: the model's mutations, and those of a node's return.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flaw {
    None,
    AckBeforeTheSetShrinks,
    SetNeverShrinks,
    ReadsAskThePrimaryAloneAfterAnUnknown,
    IntentsAreForgottenAtARestart,
    ReadsDoNotWaitForWrites,
    WritesOfOneResourceInParallel,
    PromoteANodeOutsideTheSet,
    RepairAnswersBeforeTheCopiesAreConfirmed,
    SettleAtOnce,
    NoComparisonAfterSettling,
    ARestartClearsTheIntentsItFound,
    WritesDoNotWaitForReads,
    ViewIsNotLookedAtAgain,
    AnIntentEndsUnlisted,
    ANodeReturnsWithoutWhatItMissed,
    ANodeReturnsBeforeItIsQuiet,
    NodesWithUnansweredCopiesStayAtARestart,
    AnAnswerInDoubtIsNotListed,
}

/// What the model turns off, and the return's own.
pub(super) const FLAWS: [Flaw; 18] = [
    Flaw::AckBeforeTheSetShrinks,
    Flaw::SetNeverShrinks,
    Flaw::ReadsAskThePrimaryAloneAfterAnUnknown,
    Flaw::IntentsAreForgottenAtARestart,
    Flaw::ReadsDoNotWaitForWrites,
    Flaw::WritesOfOneResourceInParallel,
    Flaw::PromoteANodeOutsideTheSet,
    Flaw::RepairAnswersBeforeTheCopiesAreConfirmed,
    Flaw::SettleAtOnce,
    Flaw::NoComparisonAfterSettling,
    Flaw::ARestartClearsTheIntentsItFound,
    Flaw::WritesDoNotWaitForReads,
    Flaw::ViewIsNotLookedAtAgain,
    Flaw::AnIntentEndsUnlisted,
    Flaw::ANodeReturnsWithoutWhatItMissed,
    Flaw::ANodeReturnsBeforeItIsQuiet,
    Flaw::NodesWithUnansweredCopiesStayAtARestart,
    Flaw::AnAnswerInDoubtIsNotListed,
];

/// What a client does. A write's value is its own; 0 is what there was before.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Write(u8),
    Read,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Told {
    /// The write was acked; the read was answered with this.
    Value(u8),
    /// Nothing was changed; nothing was answered.
    Nothing,
    /// The write's outcome is unknown.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    Queued(Ticket),
    /// A read that found it has to compare.
    QueuedAlone(Ticket),
    Writing(Ticket, Write),
    Reading(Ticket, usize, Epoch),
    Comparing(Ticket, Begun, Compare<u8>),
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Op {
    pub(super) client: usize,
    pub(super) kind: Kind,
    state: State,
    pub(super) told: Option<Told>,
    /// Who had been told when this one began.
    pub(super) before: u32,
}

/// A node that comes back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Mending {
    No,
    Queued(Ticket, usize),
    Getting(Ticket, usize, usize),
    Putting(Ticket, usize),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Send(u8),
    Copy(u8),
    Get,
    Ask,
    /// Of the node that comes back.
    Fetch,
    Mend(u8),
}

impl What {
    const fn puts(self) -> Option<u8> {
        match self {
            Self::Send(value) | Self::Copy(value) | Self::Mend(value) => Some(value),
            Self::Get | Self::Ask | Self::Fetch => None,
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    op: usize,
    node: usize,
    what: What,
    /// On the way back, with what the node had then.
    back: Option<u8>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    value: u8,
    alive: bool,
}

/// What may still happen of what happens seldom.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) losses: u8,
    pub(super) crashes: u8,
    pub(super) deaths: u8,
    pub(super) promotions: u8,
    pub(super) returns: u8,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start(usize),
    Go(usize),
    /// The node does what it was asked.
    Arrive(usize),
    /// The answer comes.
    Answer(usize),
    /// Nothing comes: of what was on its way there, nothing ever does.
    Lose(usize),
    /// Nothing comes, and what was on its way there may be done later.
    Delay(usize),
    Late(usize),
    /// Everything late is done or never will be.
    Settle,
    Crash,
    Die(usize),
    Revive(usize),
    Promote(usize),
    Mend(usize),
    MendGo,
    Admit(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) flaw: Flaw,
    settle: u64,
    now: u64,
    nodes: Vec<Node>,
    primary: Option<usize>,
    set: BTreeSet<usize>,
    epoch: u64,
    intents: BTreeSet<u8>,
    missed: Missed,
    turns: Turns,
    doubt: Doubt<u8>,
    pub(super) ops: Vec<Op>,
    mending: Mending,
    wire: Vec<Message>,
    late: Vec<(u64, usize, u8)>,
    pub(super) left: Left,
    ended: u32,
    /// Of a flaw: the view as each write saw it first.
    seen: BTreeMap<usize, Standing>,
    /// Of a flaw: who is believed to have left the set.
    pretended: BTreeSet<usize>,
}

const MENDER: usize = usize::MAX;

impl World {
    /// `clients`: what each does, in order.
    pub(super) fn new(flaw: Flaw, nodes: usize, clients: &[Vec<Kind>], settle: u64, left: Left) -> Self {
        let op = |client: usize, kind: &Kind| Op {
            client,
            kind: *kind,
            state: State::Idle,
            told: None,
            before: 0,
        };
        let clients = clients.iter().enumerate();
        Self {
            flaw,
            settle,
            now: 0,
            nodes: vec![Node { value: 0, alive: true }; nodes],
            primary: Some(0),
            set: (0..nodes).collect(),
            epoch: 1,
            intents: BTreeSet::new(),
            missed: recalled(),
            turns: Turns::default(),
            doubt: Doubt::default(),
            ops: clients.flat_map(|(c, ops)| ops.iter().map(move |k| op(c, k))).collect(),
            mending: Mending::No,
            wire: Vec::new(),
            late: Vec::new(),
            left,
            ended: 0,
            seen: BTreeMap::new(),
            pretended: BTreeSet::new(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ops.iter().all(|op| op.told.is_some())
    }

    /// What the primary has, if it can be asked.
    pub(super) fn at_primary(&self) -> Option<u8> {
        let node = &self.nodes[self.primary?];
        node.alive.then_some(node.value)
    }

    /// Time passes between two steps (by chance alone).
    pub(super) fn tick(&mut self) {
        self.now += 1;
        self.late.retain(|(until, ..)| *until > self.now);
    }

    fn on(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn view(&self) -> Standing {
        Standing {
            epoch: Epoch(self.epoch),
            primary: self.primary,
            in_sync: self.set.iter().copied().collect(),
        }
    }

    fn settled_at(&self) -> MonoTime {
        MonoTime::default().after(Span::from_millis(self.now + self.settle))
    }

    fn time(&self) -> MonoTime {
        MonoTime::default().after(Span::from_millis(self.now))
    }

    fn is_up(&self, op: &Op, ticket: Ticket) -> bool {
        let writes = matches!(op.kind, Kind::Write(_));
        let alone = matches!(op.state, State::QueuedAlone(_));
        (writes && self.on(Flaw::WritesOfOneResourceInParallel))
            || (!writes && !alone && self.on(Flaw::ReadsDoNotWaitForWrites))
            || (writes && self.on(Flaw::WritesDoNotWaitForReads) && self.only_reads_ahead(ticket))
            || self.turns.is_up(ticket)
    }

    fn only_reads_ahead(&self, ticket: Ticket) -> bool {
        self.ops.iter().all(|op| match op.state {
            State::Writing(other, _) | State::Comparing(other, ..) | State::QueuedAlone(other) => other > ticket,
            State::Queued(other) => other >= ticket || op.kind == Kind::Read,
            State::Idle | State::Reading(..) | State::Over => true,
        })
    }

    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut begun = BTreeMap::new();
        for (n, op) in self.ops.iter().enumerate() {
            let free = begun.get(&op.client).is_none_or(|before: &bool| *before);
            match op.state {
                State::Idle if free => actions.push(Action::Start(n)),
                State::Queued(ticket) | State::QueuedAlone(ticket) if self.is_up(op, ticket) => {
                    actions.push(Action::Go(n));
                }
                _ => {}
            }
            begun.insert(op.client, free && op.told.is_some());
        }
        for (n, message) in self.wire.iter().enumerate() {
            let alive = self.nodes[message.node].alive;
            match message.back {
                Some(_) if alive => actions.push(Action::Answer(n)),
                None if alive => actions.push(Action::Arrive(n)),
                _ => {}
            }
            if !alive || self.left.losses > 0 {
                actions.push(Action::Lose(n));
                if alive && message.back.is_none() && message.what.puts().is_some() {
                    actions.push(Action::Delay(n));
                }
            }
        }
        actions.extend((0..self.late.len()).map(Action::Late));
        if !self.late.is_empty() || self.doubt.settled_at() > self.time() {
            actions.push(Action::Settle);
        }
        if self.left.crashes > 0 {
            actions.push(Action::Crash);
        }
        for (n, node) in self.nodes.iter().enumerate() {
            if node.alive && self.left.deaths > 0 && self.primary == Some(n) {
                actions.push(Action::Die(n));
            }
            if !node.alive && self.left.returns > 0 {
                actions.push(Action::Revive(n));
            }
            let may_lead = self.set.contains(&n) || self.on(Flaw::PromoteANodeOutsideTheSet);
            if node.alive && may_lead && self.left.promotions > 0 && self.primary != Some(n) {
                actions.push(Action::Promote(n));
            }
            if node.alive && !self.set.contains(&n) && self.primary.is_some() && self.left.returns > 0 {
                match self.missed.next(n, self.mending_time(), self.is_held()) {
                    _ if self.on(Flaw::ANodeReturnsWithoutWhatItMissed) => actions.push(Action::Admit(n)),
                    Next::Copy(_) if self.mending == Mending::No => actions.push(Action::Mend(n)),
                    Next::Admit => actions.push(Action::Admit(n)),
                    Next::Wait(_) => actions.push(Action::Settle),
                    Next::Copy(_) | Next::Hold | Next::Operator | Next::Recall => {}
                }
            }
        }
        if let Mending::Queued(ticket, _) = self.mending
            && self.turns.is_up(ticket)
        {
            actions.push(Action::MendGo);
        }
        actions
    }

    fn mending_time(&self) -> MonoTime {
        if self.on(Flaw::ANodeReturnsBeforeItIsQuiet) {
            return MonoTime::from_micros(u64::MAX);
        }
        self.time()
    }

    fn is_held(&self) -> bool {
        let busy = |op: &Op| matches!(op.state, State::Writing(..) | State::Comparing(..));
        !self.ops.iter().any(busy) && self.mending == Mending::No
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Start(n) => self.start(n),
            Action::Go(n) => self.go(n),
            Action::Arrive(n) => {
                let message = &mut self.wire[n];
                let node = &mut self.nodes[message.node];
                if let Some(value) = message.what.puts() {
                    node.value = value;
                }
                message.back = Some(node.value);
            }
            Action::Answer(n) => {
                let message = self.wire.remove(n);
                self.came(message, message.back);
            }
            Action::Lose(n) | Action::Delay(n) => {
                let message = self.wire.remove(n);
                if self.nodes[message.node].alive {
                    self.left.losses -= 1;
                }
                if let (Action::Delay(_), Some(value)) = (action, message.what.puts()) {
                    self.late.push((self.now + self.settle, message.node, value));
                }
                self.came(message, None);
            }
            Action::Late(n) => {
                let (_, node, value) = self.late.remove(n);
                if self.nodes[node].alive {
                    self.nodes[node].value = value;
                }
            }
            Action::Settle => {
                self.now += self.settle;
                self.late.retain(|(until, ..)| *until > self.now);
            }
            Action::Crash => self.crash(),
            Action::Die(n) => {
                self.left.deaths -= 1;
                self.nodes[n].alive = false;
            }
            Action::Revive(n) => self.nodes[n].alive = true,
            Action::Promote(n) => {
                // The view is changed in one step: whoever was primary leaves the set with it.
                self.left.promotions -= 1;
                if let Some(old) = self.primary {
                    self.set.remove(&old);
                }
                self.set.insert(n);
                self.primary = Some(n);
                self.epoch += 1;
            }
            Action::Mend(n) => {
                let ticket = self.turns.enter(Turn::Alone);
                self.mending = Mending::Queued(ticket, n);
            }
            Action::MendGo => {
                if let (&Mending::Queued(ticket, n), Some(primary)) = (&self.mending, self.primary) {
                    self.mending = Mending::Getting(ticket, n, primary);
                    self.send(MENDER, primary, What::Fetch);
                }
            }
            Action::Admit(n) => {
                self.left.returns -= 1;
                self.missed.forget(n);
                self.set.insert(n);
            }
        }
    }

    fn start(&mut self, n: usize) {
        let op = &mut self.ops[n];
        op.before = self.ended;
        let turn = match op.kind {
            Kind::Write(_) => Turn::Alone,
            Kind::Read => Turn::Read,
        };
        op.state = State::Queued(self.turns.enter(turn));
    }

    fn go(&mut self, n: usize) {
        match (self.ops[n].kind, self.ops[n].state.clone()) {
            (Kind::Write(_), State::Queued(ticket)) => {
                self.ops[n].state = State::Writing(ticket, Write::new(1));
                self.write(n, write::Event::Turn);
            }
            (Kind::Read, State::Queued(ticket)) => {
                let alone = self.on(Flaw::ReadsAskThePrimaryAloneAfterAnUnknown)
                    || (self.on(Flaw::NoComparisonAfterSettling) && self.time() >= self.doubt.settled_at());
                if self.doubt.is_open() && !alone {
                    self.turns.becomes_alone(ticket);
                    self.ops[n].state = State::QueuedAlone(ticket);
                } else if let Some(primary) = self.primary {
                    self.ops[n].state = State::Reading(ticket, primary, Epoch(self.epoch));
                    self.send(n, primary, What::Get);
                } else {
                    self.end(n, ticket, Told::Nothing);
                }
            }
            (Kind::Read, State::QueuedAlone(ticket)) => {
                let begun = self.doubt.begin(self.time());
                self.ops[n].state = State::Comparing(ticket, begun, Compare::default());
                self.compare(n, compare::Event::Turn);
            }
            _ => {}
        }
    }

    fn send(&mut self, op: usize, node: usize, what: What) {
        let message = Message {
            op,
            node,
            what,
            back: None,
        };
        if self.nodes[node].alive {
            self.wire.push(message);
        } else {
            self.refused(message);
        }
    }

    /// A connect that fails: nothing was sent.
    fn refused(&mut self, message: Message) {
        match message.what {
            What::Send(_) => self.write(message.op, write::Event::Answered(WriteOutcome::NotApplied)),
            What::Copy(_) | What::Get | What::Ask | What::Fetch | What::Mend(_) => self.came(message, None),
        }
    }

    /// What came of a request; none: nothing in time.
    fn came(&mut self, message: Message, answer: Option<u8>) {
        let Message { op, node, what, .. } = message;
        if answer.is_none() && what.puts().is_some() {
            let at = self.settled_at();
            self.missed.unanswered(node, at);
        }
        let confirmed = answer.is_some();
        match what {
            What::Send(_) => {
                let outcome = if confirmed {
                    WriteOutcome::Applied
                } else {
                    WriteOutcome::Unknown
                };
                self.write(op, write::Event::Answered(outcome));
            }
            What::Copy(_) => match self.ops[op].state {
                State::Writing(..) => self.write(op, write::Event::Copied { node, confirmed }),
                State::Comparing(..) => self.compare(op, compare::Event::Copied { node, confirmed }),
                _ => {}
            },
            What::Get => {
                if let State::Reading(ticket, primary, epoch) = self.ops[op].state {
                    let still = self.primary == Some(primary) && Epoch(self.epoch) == epoch;
                    let still = still || self.on(Flaw::ViewIsNotLookedAtAgain);
                    let told = answer.filter(|_| still).map_or(Told::Nothing, Told::Value);
                    self.end(op, ticket, told);
                }
            }
            What::Ask => {
                let shown = match answer {
                    None => Shown::Silent,
                    Some(0) => Shown::Gone,
                    Some(value) => Shown::State(value),
                };
                self.compare(op, compare::Event::Showed { node, shown });
            }
            What::Fetch => {
                if let Mending::Getting(ticket, to, from) = self.mending {
                    match answer.filter(|_| self.primary == Some(from)) {
                        Some(value) if !self.set.contains(&to) => {
                            self.mending = Mending::Putting(ticket, to);
                            self.send(MENDER, to, What::Mend(value));
                        }
                        Some(_) | None => self.mended(ticket),
                    }
                }
            }
            What::Mend(_) => {
                if let Mending::Putting(ticket, to) = self.mending {
                    if confirmed {
                        self.missed.copied(to, &TARGET.into());
                    }
                    self.mended(ticket);
                }
            }
        }
    }

    fn mended(&mut self, ticket: Ticket) {
        self.mending = Mending::No;
        self.turns.leave(ticket);
    }

    fn write(&mut self, n: usize, event: write::Event) {
        let Kind::Write(value) = self.ops[n].kind else { return };
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let view = self.shown(n);
            let State::Writing(ticket, machine) = &mut self.ops[n].state else {
                return;
            };
            let ticket = *ticket;
            let effects = machine.step(&view, event);
            for effect in effects {
                match effect {
                    write::Effect::Intend => {
                        self.intents.insert(value);
                        events.push(write::Event::Intended(true));
                    }
                    write::Effect::Send { node } => self.send(n, node, What::Send(value)),
                    write::Effect::Copy { node } => {
                        if self.on(Flaw::AckBeforeTheSetShrinks) && self.ops[n].told.is_none() {
                            self.tell(n, Told::Value(value));
                        }
                        self.send(n, node, What::Copy(value));
                    }
                    write::Effect::Remove { node } => {
                        self.remove(node);
                        events.push(write::Event::Removed { node });
                    }
                    write::Effect::End(end) => self.wrote(n, ticket, value, end),
                }
            }
        }
    }

    /// The view as a write is shown it.
    fn shown(&mut self, n: usize) -> Standing {
        let mut view = self.view();
        if self.on(Flaw::ViewIsNotLookedAtAgain) {
            view = self.seen.entry(n).or_insert(view).clone();
        }
        view.in_sync.retain(|node| !self.pretended.contains(node));
        view
    }

    fn remove(&mut self, node: usize) {
        for seen in self.seen.values_mut() {
            seen.in_sync.retain(|other| *other != node);
        }
        if self.on(Flaw::SetNeverShrinks) {
            self.pretended.insert(node);
        } else {
            self.set.remove(&node);
        }
    }

    fn wrote(&mut self, n: usize, ticket: Ticket, value: u8, end: write::End) {
        let told = match end {
            write::End::Acked => Told::Value(value),
            write::End::NotApplied(_) | write::End::Rejected => Told::Nothing,
            write::End::Unknown => Told::Unknown,
        };
        match end {
            write::End::Acked => self.end_intent(value, true),
            write::End::NotApplied(_) | write::End::Rejected => self.end_intent(value, false),
            write::End::Unknown => self.unsettle(value),
        }
        self.end(n, ticket, told);
    }

    fn unsettle(&mut self, value: u8) {
        let at = if self.on(Flaw::SettleAtOnce) {
            self.time()
        } else {
            self.settled_at()
        };
        self.doubt.raise(&TARGET.into(), value, at);
    }

    /// Whoever ends an intent lists its target for every node that is out.
    fn end_intent(&mut self, value: u8, applied: bool) {
        if applied && !self.on(Flaw::AnIntentEndsUnlisted) {
            self.list();
        }
        self.intents.remove(&value);
    }

    fn list(&mut self) {
        for node in (0..self.nodes.len()).filter(|node| !self.set.contains(node)) {
            let _ = self.missed.note(node, &TARGET.into());
        }
    }

    fn compare(&mut self, n: usize, event: compare::Event<u8>) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let view = self.view();
            let State::Comparing(ticket, begun, machine) = &mut self.ops[n].state else {
                return;
            };
            let (ticket, begun) = (*ticket, *begun);
            let effects = machine.step(&view, event);
            let value = match machine.of_primary() {
                Some(Shown::State(value)) => *value,
                Some(Shown::Gone | Shown::Strange(_) | Shown::TooLarge | Shown::Silent) | None => 0,
            };
            for effect in effects {
                match effect {
                    compare::Effect::Ask { node } => self.send(n, node, What::Ask),
                    compare::Effect::Copy { .. } if self.on(Flaw::RepairAnswersBeforeTheCopiesAreConfirmed) => {
                        self.end(n, ticket, Told::Value(value));
                        return;
                    }
                    compare::Effect::Copy { node } => self.send(n, node, What::Copy(value)),
                    compare::Effect::Remove { node } => {
                        self.remove(node);
                        events.push(compare::Event::Removed { node });
                    }
                    compare::Effect::End(compare::End::Same { .. }) => {
                        if !self.on(Flaw::AnAnswerInDoubtIsNotListed) {
                            self.list(); // it may be what only the set of now has
                        }
                        for (intent, _) in self.doubt.succeeded(begun) {
                            self.end_intent(intent, true);
                        }
                        self.end(n, ticket, Told::Value(value));
                    }
                    compare::Effect::End(
                        compare::End::Unreachable | compare::End::Unrepairable | compare::End::Overtaken,
                    ) => self.end(n, ticket, Told::Nothing),
                }
            }
        }
    }

    fn end(&mut self, n: usize, ticket: Ticket, told: Told) {
        self.turns.leave(ticket);
        self.ops[n].state = State::Over;
        self.tell(n, told);
    }

    fn tell(&mut self, n: usize, told: Told) {
        if self.ops[n].told.is_none() {
            self.ops[n].told = Some(told);
            self.ended |= 1 << n;
        }
    }

    /// The process is killed, and another one starts from what is durable.
    fn crash(&mut self) {
        self.left.crashes -= 1;
        for n in 0..self.ops.len() {
            match (&self.ops[n].state, self.ops[n].kind) {
                (State::Idle | State::Over, _) => continue,
                (_, Kind::Write(_)) => self.tell(n, Told::Unknown),
                (_, Kind::Read) => self.tell(n, Told::Nothing),
            }
            self.ops[n].state = State::Over;
        }
        for message in std::mem::take(&mut self.wire) {
            if let (None, Some(value)) = (message.back, message.what.puts()) {
                self.late.push((self.now + self.settle, message.node, value));
            }
        }
        self.mending = Mending::No;
        (self.turns, self.doubt) = (Turns::default(), Doubt::default());
        let at = self.settled_at();
        for node in 0..self.nodes.len() {
            self.missed.unanswered(node, at);
        }
        // Copies that the killed process sent may be applied late: who has an unanswered copy leaves the set. The model knows nothing of
        // this, and where it is done, it alone makes up for forgotten intents.
        let stay = self.on(Flaw::NodesWithUnansweredCopiesStayAtARestart)
            || self.on(Flaw::IntentsAreForgottenAtARestart)
            || self.on(Flaw::ARestartClearsTheIntentsItFound);
        if !self.intents.is_empty() && !stay {
            for node in self.set.clone() {
                if Some(node) != self.primary {
                    let _ = self.missed.note(node, &TARGET.into());
                    self.set.remove(&node);
                }
            }
        }
        if !self.on(Flaw::IntentsAreForgottenAtARestart) {
            for intent in self.intents.clone() {
                self.unsettle(intent);
            }
        }
        if self.on(Flaw::IntentsAreForgottenAtARestart) || self.on(Flaw::ARestartClearsTheIntentsItFound) {
            self.intents.clear();
        }
    }
}
