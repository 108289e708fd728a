//! A node's health by its probes. Results are counted *consecutively* (R39): a success among failures starts the count afresh, so
//! interleaved results never add up. The first probe alone decides the first state (INTERFACE.md "First seconds").

/// How many results in a row turn a node over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Consecutive successes that make an unhealthy node healthy.
    pub healthy: u32,
    /// Consecutive failures that make a healthy node unhealthy.
    pub unhealthy: u32,
}

/// How a probe ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As expected.
    Passed,
    /// The node answered, but not with a status that counts as healthy.
    Refused,
    /// No answer: the connect failed, the connection broke, what came was not HTTP, or nothing came in time.
    Unreachable,
}

/// Why a node is down, which decides what happens to its connections.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It answers: requests in flight may still end well.
    Status,
    /// It does not: nothing in flight will.
    Unreachable,
}

/// What is known of one node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No probe has ended yet.
    Unprobed,
    /// Healthy; so many failures in a row since the last success.
    Up {
        /// Consecutive failures.
        failures: u32,
    },
    /// Unhealthy; so many successes in a row since the last failure.
    Down {
        /// Consecutive successes.
        successes: u32,
        /// Its last failure.
        why: Why,
    },
}

/// What one probe turned over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    None,
    /// The node became healthy.
    Up,
    /// The node became unhealthy.
    Down(Why),
    /// The node was unhealthy by status and cannot be reached any more either.
    Lost,
}

impl Health {
    /// Whether the node may take traffic.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up { .. })
    }

    /// The health after one more probe, and what that turned over.
    #[must_use]
    pub const fn after(self, outcome: Outcome, thresholds: Thresholds) -> (Self, Turn) {
        let why = match outcome {
            Outcome::Passed => return self.after_success(thresholds),
            Outcome::Refused => Why::Status,
            Outcome::Unreachable => Why::Unreachable,
        };
        let down = Self::Down { successes: 0, why };
        match self {
            Self::Unprobed => (down, Turn::Down(why)),
            Self::Up { failures } => {
                let failures = failures.saturating_add(1);
                if failures >= thresholds.unhealthy {
                    (down, Turn::Down(why))
                } else {
                    (Self::Up { failures }, Turn::None)
                }
            }
            Self::Down { why: before, .. } => match (before, why) {
                (Why::Status, Why::Unreachable) => (down, Turn::Lost),
                (Why::Status | Why::Unreachable, Why::Status) | (Why::Unreachable, Why::Unreachable) => {
                    (down, Turn::None)
                }
            },
        }
    }

    const fn after_success(self, thresholds: Thresholds) -> (Self, Turn) {
        match self {
            Self::Unprobed => (Self::Up { failures: 0 }, Turn::Up),
            Self::Up { .. } => (Self::Up { failures: 0 }, Turn::None),
            Self::Down { successes, why } => {
                let successes = successes.saturating_add(1);
                if successes >= thresholds.healthy {
                    (Self::Up { failures: 0 }, Turn::Up)
                } else {
                    (Self::Down { successes, why }, Turn::None)
                }
            }
        }
    }
}
