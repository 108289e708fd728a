//! What can go wrong, by name. The client's script chooses the fault of each request from its seed and sends it along in a field; the
//! origin obeys. So one seed always asks for the same faults, whatever the schedule makes of them.

use super::chance::Chance;
use std::str::FromStr;
use std::time::Duration;

/// The field that carries an origin's fault.
pub const FIELD: &str = "X-Fault";

/// How long an abandoned write is given: `settle_after` of every strong route here.
pub const SETTLE_AFTER: Duration = Duration::from_millis(300);
/// The proxy's patience with a node.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_millis(250);
/// Nothing is applied later than this after the connection was last seen open. Below [`SETTLE_AFTER`] by what a loaded machine may
/// take between asking the clock and changing the store.
pub const LATEST: Duration = Duration::from_millis(200);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    // -- at the origin
    /// The request waits before the store is asked.
    SlowBefore,
    /// The answer waits after the store was asked.
    SlowAfter,
    /// Both: a write is pending for long before it is applied, and for long after.
    SlowAround,
    /// Half of the body waits for the other.
    SlowBody,
    /// Never applied, never answered, until the proxy gives up.
    Hang,
    /// A reset before the store is asked.
    ResetBefore,
    /// Applied, then a reset.
    ResetAfter,
    /// Applied, then closed without a byte.
    LoseReply,
    /// Half of the body, then a reset.
    CutBody,
    /// Applied after the proxy gave up and closed.
    Late,
    /// 500, applied.
    Error500,
    /// 500, and applied later.
    Late500,
    /// 202, and applied later.
    Late202,
    // -- at the client
    /// The client leaves without waiting for the answer.
    ClientLeaves,
    /// The client leaves in the middle of its upload.
    HalfUpload,
    // -- of machines
    /// A node dies and comes back.
    NodeDown,
    /// The proxy is killed and started again.
    Kill,
    /// The proxy is stopped and started again.
    CleanStop,
}

impl Fault {
    pub const ALL: [Self; 18] = [
        Self::SlowBefore,
        Self::SlowAfter,
        Self::SlowAround,
        Self::SlowBody,
        Self::Hang,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::LoseReply,
        Self::CutBody,
        Self::Late,
        Self::Error500,
        Self::Late500,
        Self::Late202,
        Self::ClientLeaves,
        Self::HalfUpload,
        Self::NodeDown,
        Self::Kill,
        Self::CleanStop,
    ];

    pub fn is_of_a_machine(self) -> bool {
        matches!(self, Self::NodeDown | Self::Kill | Self::CleanStop)
    }

    /// It leaves no write unknown.
    pub fn is_gentle(self) -> bool {
        matches!(
            self,
            Self::SlowBefore | Self::SlowAfter | Self::SlowAround | Self::SlowBody | Self::CutBody
        )
    }

    /// It makes a difference to a read.
    pub fn concerns_reads(self) -> bool {
        !matches!(self, Self::Late | Self::Late500 | Self::Late202 | Self::HalfUpload)
    }

    pub fn is_of_the_client(self) -> bool {
        matches!(self, Self::ClientLeaves | Self::HalfUpload)
    }

    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The faults of these names, separated by commas.
    pub fn named(names: &str) -> Vec<Self> {
        names
            .split(',')
            .filter(|n| !n.is_empty())
            .map(|n| {
                n.parse()
                    .unwrap_or_else(|()| panic!("no fault is named {n}: {:?}", Self::ALL))
            })
            .collect()
    }
}

impl FromStr for Fault {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|f| f.name() == name).ok_or(())
    }
}

/// One request's fault at the origin, with its delay: `Late 120`.
#[derive(Copy, Clone, Debug)]
pub struct Order {
    pub fault: Fault,
    pub delay: Duration,
}

impl Order {
    pub fn choose(chance: &mut Chance, fault: Fault) -> Self {
        let most = match fault {
            Fault::Late | Fault::Late202 | Fault::Late500 => LATEST.as_millis() as u64 - 20,
            // Long enough for others to read and write in between.
            Fault::SlowAfter
            | Fault::SlowBefore
            | Fault::SlowAround
            | Fault::SlowBody
            | Fault::ResetAfter
            | Fault::LoseReply => 40,
            _ => 1,
        };
        Self {
            fault,
            delay: Duration::from_millis(chance.below(most)),
        }
    }

    pub fn text(self) -> String {
        format!("{} {}", self.fault.name(), self.delay.as_millis())
    }

    pub fn read(text: &str) -> Self {
        let (fault, delay) = text.split_once(' ').expect("a fault and its delay");
        Self {
            fault: fault.parse().expect("a known fault"),
            delay: Duration::from_millis(delay.parse().expect("a delay in milliseconds")),
        }
    }
}
