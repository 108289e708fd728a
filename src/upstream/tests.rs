//! The pool and its calls against raw servers.
