//! What the process tells about itself: counters for Prometheus and log lines. It decides nothing and keeps no request.

pub mod log;
pub mod metrics;
