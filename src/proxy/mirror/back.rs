//! What happens at mirrored upstreams without a request: what earlier processes left open is in doubt before the first request (R35), nodes
//! that are out are given what they have missed and join the set again (R33b), and doubts of resources that nobody reads are ended.
//!
//! Bounded: one thing at a time per upstream, and so many per round.

use super::Mirror;
use super::ask::{How, plain};
use super::write::copy;
use crate::coord::NotDone;
use crate::core::failover::event::Event;
use crate::core::failover::mirror::missed::Next;
use crate::core::failover::mirror::target::Target;
use crate::core::failover::mirror::turns::Turn;
use crate::core::reason::NodeState;
use crate::core::rules::Rule;
use crate::core::time::Span;
use crate::proxy::Shared;
use crate::upstream::{Pool, Upstreams};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// So much is done of one kind in a round.
const PER_ROUND: usize = 64;

/// So much of what a primary has missed is passed on to the others while writes are held; more is for the operator.
const MAX_PASSED_ON: usize = 1000;

/// How long a doubt rests whose comparison came to nothing.
const REST: Span = Span::from_secs(5);

/// From a failure of the disk to the next attempt.
const AGAIN: Duration = Duration::from_secs(1);

impl Shared {
    /// Takes up what earlier processes left. Before the first request.
    pub async fn recall_mirrors(&self) {
        for mirror in self.mirrors.get().into_iter().flatten().flatten() {
            mirror.recall(&self.upstreams).await;
        }
    }

    /// The same for upstreams that a reload has brought.
    pub async fn recall_mirrors_of(&self, upstreams: &[usize]) {
        for mirror in upstreams.iter().filter_map(|upstream| self.mirror_of(*upstream)) {
            mirror.recall(&self.upstreams).await;
        }
    }

    /// One round of tending the mirrored upstreams.
    pub async fn tend_mirrors(&self) {
        let mut mirrors = self.mirrors.get().into_iter().flatten().flatten().peekable();
        if mirrors.peek().is_none() {
            return;
        }
        let pool = self.upstreams.background_pool();
        for mirror in mirrors {
            mirror.end_doubts(&pool).await;
            mirror.bring_back(&pool).await;
        }
    }
}

impl Mirror {
    async fn recall(&self, upstreams: &Upstreams) {
        let recalled = self.journal.recalled();
        let place = |name: &str| self.config.nodes.iter().position(|node| node.name == name);
        for list in recalled.missed.iter().filter(|list| list.upstream == self.config.name) {
            let Some(node) = place(&list.node) else { continue };
            let mut missed = self.missed.lock();
            for target in &list.targets {
                let _new = missed.note(node, target);
            }
            if list.overflown {
                missed.lost(node);
            }
        }
        let in_sync = self.view.load().in_sync.clone();
        // What the process before had sent, a copy back of what was missed too, may be applied late, over what is copied from now on.
        let settled_at = self.settled_at();
        for (node, _) in in_sync.iter().enumerate().filter(|(_, in_sync)| !**in_sync) {
            self.missed.lock().unanswered(node, settled_at);
            let listed = self.missed.lock().count(node).is_some();
            if listed && self.config.mirror.initially_all {
                tracing::info!(
                    upstream = self.config.name,
                    node = self.node(node),
                    after = ?settled_at.duration_since(self.now()),
                    "a node is out of the set: it is brought up to date when nothing that it was sent before can be applied late"
                );
            }
        }
        if !self.config.mirror.initially_all {
            // Who was never in the set has missed nobody knows what.
            let mut missed = self.missed.lock();
            for (node, _) in in_sync.iter().enumerate().filter(|(_, in_sync)| !**in_sync) {
                if missed.count(node) == Some(0) {
                    missed.lost(node);
                }
            }
        }
        let intents = recalled.intents.iter();
        let open: Vec<_> = intents
            .filter(|(_, intent)| intent.upstream == self.config.name && Rule::R35.holds())
            .collect();
        if open.is_empty() {
            self.missed.lock().recalled();
            return;
        }
        tracing::warn!(
            upstream = self.config.name,
            writes = open.len(),
            "writes of the process before may be applied late: their resources are compared, and all nodes but the primary left the set"
        );
        for (id, intent) in &open {
            let resource = self.resource_of(&intent.target);
            self.lines
                .doubt(resource, |doubt| doubt.raise(&intent.target, *id, settled_at));
        }
        // R35: what the process before had sent to them may be applied late, over what is acked from now on.
        // Who takes over from a primary that has died meanwhile is the primary then: what is applied late there is a write of unknown end.
        if self.standing().primary.is_none() {
            upstreams.await_primary(self.config.id).await;
        }
        let primary = self.standing().primary;
        let in_sync = self.view.load().in_sync.clone();
        for (node, in_sync) in in_sync.into_iter().enumerate() {
            if Some(node) == primary {
                continue;
            }
            self.missed.lock().unanswered(node, settled_at);
            for (_, intent) in &open {
                while !self.list(node, &intent.target).await {
                    sleep(AGAIN).await;
                }
            }
            // The primary itself stays: the owner knows who that is.
            while in_sync
                && let Err(NotDone::NotDurable(_)) = self.coord.tell(self.config.id, Event::Missed { node }).await
            {
                sleep(AGAIN).await;
            }
        }
        self.missed.lock().recalled();
    }

    /// R34: a comparison after settling, for resources that nobody reads.
    async fn end_doubts(self: &Arc<Self>, pool: &Pool) {
        for _ in 0..PER_ROUND {
            let now = self.now();
            let Some(resource) = self.lines.overdue(now, now.after(REST)) else {
                return;
            };
            let place = self.lines.enter(resource, Turn::Alone);
            let turn = async {
                place.up().await;
                Arc::clone(&self.under_way).read_owned().await
            };
            if let Ok(_under_way) = timeout(self.hold(), turn).await
                && let Err(end) = self.settle(pool, resource, None).await
            {
                tracing::debug!(upstream = self.config.name, ?end, "a resource stays in doubt");
            }
        }
    }

    /// R33b: nodes that are out, and alive.
    async fn bring_back(self: &Arc<Self>, pool: &Pool) {
        if !self.pass_on_a_list().await {
            return;
        }
        let view = Arc::clone(&self.view.load());
        for (node, in_sync) in view.in_sync.iter().enumerate() {
            if *in_sync {
                self.forget(node).await;
                continue;
            }
            let alive = matches!(
                view.state(node),
                NodeState::Quarantined | NodeState::Standby | NodeState::Active | NodeState::Ejected
            );
            if alive && view.active().is_some() {
                self.bring(pool, node).await;
            }
        }
    }

    /// A primary that has missed something is one by the operator's word, or by `unclean`. What it has missed every other node has, and it is
    /// lost: they are given what the primary has instead, before they are in the set again. Whether nothing of the kind is left to do.
    async fn pass_on_a_list(&self) -> bool {
        let has_list = |primary: &usize| self.missed.lock().count(*primary) != Some(0);
        if self.standing().primary.filter(has_list).is_none() {
            return true;
        }
        let Ok(_held) = timeout(self.brief(), self.under_way.write()).await else {
            return false;
        };
        let view = Arc::clone(&self.view.load());
        let Some(primary) = view.active().filter(has_list) else {
            return true;
        };
        let targets = self
            .missed
            .lock()
            .targets(primary)
            .filter(|all| all.len() <= MAX_PASSED_ON);
        let others = view.in_sync.iter().enumerate();
        for (node, _) in others.filter(|(node, in_sync)| *node != primary && !**in_sync) {
            let Some(targets) = &targets else {
                if self.journal.lose(&self.config.name, self.node(node)).await.is_err() {
                    return false;
                }
                self.missed.lock().lost(node);
                continue;
            };
            for target in targets {
                if !self.list(node, target).await {
                    return false;
                }
            }
        }
        let emptied = self.journal.emptied(&self.config.name, self.node(primary)).await;
        if emptied.is_ok() {
            self.missed.lock().forget(primary);
        }
        emptied.is_ok()
    }

    /// The operator has said that a node holds everything.
    async fn forget(&self, node: usize) {
        if self.missed.lock().count(node) == Some(0) {
            return;
        }
        // A write or comparison under way lists first, and has the node leave then: in between it looks the same.
        let Ok(_held) = timeout(self.brief(), self.under_way.write()).await else {
            return;
        };
        let in_sync = self.view.load().in_sync.get(node) == Some(&true);
        if in_sync && self.journal.emptied(&self.config.name, self.node(node)).await.is_ok() {
            self.missed.lock().forget(node);
        }
    }

    async fn bring(self: &Arc<Self>, pool: &Pool, node: usize) {
        for _ in 0..PER_ROUND {
            let next = self.missed.lock().next(node, self.now(), false);
            match next {
                Next::Copy(target) => {
                    let place = self.lines.enter(self.resource_of(&target), Turn::Alone);
                    if timeout(self.hold(), place.up()).await.is_err() || !self.give(pool, node, &target).await {
                        return;
                    }
                }
                Next::Wait(_) | Next::Operator | Next::Admit | Next::Recall => return,
                Next::Hold => return self.admit(pool, node).await,
            }
        }
    }

    /// The last few, and then the set, while no write or comparison is under way.
    async fn admit(self: &Arc<Self>, pool: &Pool, node: usize) {
        let Ok(_held) = timeout(self.brief(), Arc::clone(&self.under_way).write_owned()).await else {
            return;
        };
        let epoch = self.standing().epoch;
        let primary = self.standing().primary;
        if primary.is_none_or(|primary| self.missed.lock().count(primary) != Some(0)) {
            return;
        }
        loop {
            let next = self.missed.lock().next(node, self.now(), true);
            match next {
                Next::Copy(target) => {
                    if !self.give(pool, node, &target).await {
                        return;
                    }
                }
                Next::Admit => break,
                Next::Wait(_) | Next::Operator | Next::Hold | Next::Recall => return,
            }
        }
        if self.journal.emptied(&self.config.name, self.node(node)).await.is_err() {
            return;
        }
        let told = self.coord.tell(self.config.id, Event::CaughtUp { node, epoch }).await;
        let joined = self.view.load().in_sync.get(node) == Some(&true);
        if told.is_ok() && joined {
            self.missed.lock().forget(node);
            tracing::info!(
                upstream = self.config.name,
                node = self.node(node),
                "a node has caught up and is in the set again"
            );
        }
    }

    /// Gives a node what the primary shows of a target; whether it has confirmed.
    async fn give(self: &Arc<Self>, pool: &Pool, node: usize, target: &Target) -> bool {
        let before = self.standing();
        let Some(primary) = before.primary else { return false };
        let Some(head) = plain(target, self.fields_of(target), How::Stored) else {
            return false;
        };
        let (shown, answered) = self.show(pool, primary, head.clone()).await;
        let Some(call) = self.repair(node, &head, &shown, answered.as_ref()) else {
            return false;
        };
        if !copy(pool.clone(), call, self.config.mirror.timeout, None).await {
            self.missed.lock().unanswered(node, self.settled_at());
            return false;
        }
        let after = self.standing();
        if (before.epoch, before.primary) != (after.epoch, after.primary) {
            return false; // copied from who is not the primary any more
        }
        self.missed.lock().copied(node, target);
        self.journal.caught_up(&self.config.name, self.node(node), target);
        true
    }
}
