//! Latchkey as it is deployed: the template, the binaries and the state machine on the local AWS, with a real
//! PostgreSQL server. Every test asks from outside: can this role log in now?

// Everything here is a test, the helpers too; clippy sees that of the test functions only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod stack {
    mod asking;
    mod assume_role;
    mod attacks;
    mod break_glass;
    mod chat;
    mod crashes;
    mod damaged_rows;
    mod deciding;
    mod dry_runs;
    mod eligibility;
    mod endings;
    mod extensions;
    mod fixture;
    mod listing;
    mod matrix;
    mod membership;
    mod notices;
    mod observations;
    mod operators;
    mod overlapping;
    mod passwords;
    mod policies;
    mod reasons;
    mod record;
    mod refusals;
    mod rights;
    mod signed_decisions;
    mod subscriptions;
    mod windows;
}
