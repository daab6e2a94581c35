//! Contract tests: rules between files that no compiler checks. Offline, in seconds.

#![allow(clippy::unwrap_used, reason = "tests, helpers included")]

mod closing;
mod layers;
mod repository;
mod state_machine;
mod template;
mod texts;
