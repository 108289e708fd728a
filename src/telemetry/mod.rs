//! What the process tells about itself: counters for Prometheus, log lines, and a record of every request. It decides
//! nothing.

pub mod access_log;
pub mod log;
pub mod metrics;
