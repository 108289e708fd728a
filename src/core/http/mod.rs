//! HTTP semantics as pure functions over parsed values: RFC 9110, 9111 and their family. No policy is read here except where a
//! rule is a route's choice.

pub mod directives;
pub mod stored;
