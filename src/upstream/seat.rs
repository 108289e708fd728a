//! Places for nodes: an upstream's nodes are named by their place everywhere, and what sits in a place may change while the process runs,
//! when the nodes are discovered. It does not decide who sits where ([`crate::core::discovery`] does).
//!
//! Invariant: a place is given to another node only when the last request of its former one is over and every connection closed.

use super::refusal::Refusal;
use crate::config::runtime::Node;
use crate::core::discovery::{Member, authority, socket, url};
use arc_swap::ArcSwapOption;
use http::HeaderValue;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::sync::Notify;

/// A place for a node.
pub(super) struct Target {
    seat: ArcSwapOption<Seat>,
    /// The node takes no new request: it has left, and those it has are not over.
    leaving: AtomicBool,
    /// Its first probe is waited for before the process says that it is ready.
    pub(super) awaited: AtomicBool,
    /// A node that was found has come or left, and the owner of the views may not know of it yet.
    pub(super) untold: AtomicBool,
    /// Wakes the node's probe before its time (R39).
    pub(super) probe_now: Notify,
    /// Requests that failed in a row, on all cores; counted only where nodes are ejected.
    streak: AtomicU32,
    /// Why it could not be connected to, the last time.
    pub(super) refusal: Refusal,
}

/// A node in its place, ready to be connected to.
pub(super) struct Seat {
    pub(super) member: Member,
    /// As configured.
    pub(super) url: String,
    pub(super) at: Place,
    /// `host:port`, or `localhost` behind a unix socket, for `host = "node"` and for probes.
    pub(super) authority: HeaderValue,
}

/// Where a node is.
pub(super) enum Place {
    Address(SocketAddr),
    Name {
        host: String,
        port: u16,
    },
    /// A unix socket.
    Socket(PathBuf),
}

impl Target {
    /// The place of a node that stays.
    pub(super) fn of(node: &Node) -> Self {
        let target = Self::empty();
        target.reseat(node);
        target.awaited.store(true, Ordering::Relaxed);
        target
    }

    /// The node sits there, with the weight and the limit that it has now.
    pub(super) fn reseat(&self, node: &Node) {
        let member = Member {
            name: node.name.clone(),
            host: node.host.clone(),
            port: node.port,
            tier: 0,
            weight: node.weight,
            max_in_flight: node.max_in_flight,
        };
        if self.seat().is_none_or(|seat| seat.member != member) {
            self.seat.store(Some(Arc::new(Seat::new(member, node.url.clone()))));
        }
    }

    /// A place for a node to be found.
    pub(super) fn empty() -> Self {
        Self {
            seat: ArcSwapOption::empty(),
            leaving: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            untold: AtomicBool::new(false),
            probe_now: Notify::new(),
            streak: AtomicU32::new(0),
            refusal: Refusal::default(),
        }
    }

    /// A request to the node failed; so many in a row now.
    pub(super) fn failed(&self) -> u32 {
        self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// A request to the node did not fail. Shared by all cores: nothing is written unless it changes something.
    pub(super) fn worked(&self) {
        if self.streak() != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// Requests that failed in a row.
    pub(super) fn streak(&self) -> u32 {
        self.streak.load(Ordering::Relaxed)
    }

    /// Who sits there.
    pub(super) fn seat(&self) -> Option<Arc<Seat>> {
        self.seat.load_full()
    }

    /// Who sits there and stays.
    pub(super) fn staying(&self) -> Option<Arc<Seat>> {
        self.seat().filter(|_| !self.is_leaving())
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::SeqCst)
    }

    pub(super) fn is_untold(&self) -> bool {
        self.untold.load(Ordering::SeqCst)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// A node sits down; the one that sat there before is it itself, or gone.
    pub(super) fn sit(&self, member: Member) {
        let url = url(&member.host, member.port);
        self.seat.store(Some(Arc::new(Seat::new(member, url))));
        self.leaving.store(false, Ordering::SeqCst);
    }

    /// The node gets no new request.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    /// Nobody sits there any more.
    pub(super) fn clear(&self) {
        self.seat.store(None);
        self.refusal.forget();
        self.worked();
        self.leaving.store(false, Ordering::SeqCst);
    }
}

impl Seat {
    fn new(member: Member, url: String) -> Self {
        let authority = authority(&member.host, member.port);
        let bare = member.host.trim_start_matches('[').trim_end_matches(']');
        let at = match (socket(&member.host), bare.parse::<IpAddr>()) {
            (Some(path), _) => Place::Socket(path.to_owned()),
            (None, Ok(ip)) => Place::Address(SocketAddr::new(ip, member.port)),
            (None, Err(_)) => Place::Name {
                host: member.host.clone(),
                port: member.port,
            },
        };
        Self {
            at,
            authority: HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static("")),
            member,
            url,
        }
    }
}
