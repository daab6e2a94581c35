//! Contract tests: rules between files that no compiler checks. Offline, in seconds.

mod layers;
mod repository;
mod state_machine;
mod template;
mod texts;
