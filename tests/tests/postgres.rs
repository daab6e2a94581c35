//! Latchkey's SQL and its Rust side on real servers: can this role log in now, and is its session gone?
//!
//! `LATCHKEY_PG_VERSIONS=13,15,18` chooses the major versions; without it an installed server is used, or 15 from npm.

// Everything here is a test, the helpers too; clippy sees that of the test functions only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod postgres {
    mod closing;
    mod connecting;
    mod converge;
    mod crowd;
    mod drift;
    mod fighting;
    mod fixture;
    mod looking;
    mod looking_up;
    mod membership;
    mod names;
    mod opening;
    mod passwords;
    mod privileges;
    mod standby;
}
