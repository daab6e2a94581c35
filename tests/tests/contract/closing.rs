//! A closing may act on what it read for so long and no longer: the limits of template, database session and code agree.

use access_core::converge::carry_out::{LONGEST_CLOSING, LONGEST_STATEMENT};

use crate::repository::{read, template};

/// Functions that announce closings and could act on them until Lambda ends them.
#[test]
fn no_function_outlives_the_closing_that_it_announced() {
    let template = template();
    for function in ["DisableLoginFunction", "EnableLoginFunction"] {
        let limit = &template["Resources"][function]["Properties"]["Timeout"];
        assert!(
            limit.as_i64().unwrap() <= LONGEST_CLOSING.num_seconds(),
            "{function}: {limit} seconds are more than an announced closing may take"
        );
    }
    // reconcile runs longer, but no closing in it does: the compiler compares.
    let reconcile = read("crates/reconcile/src/handler.rs");
    assert!(reconcile.contains("assert!(PER_DATABASE.as_secs() <= LONGEST_CLOSING"));
}

/// What a killed function left to the server ends there.
#[test]
fn no_statement_outlives_the_announcement() {
    let session = read("crates/access-postgres/src/connection.rs");
    let limit = format!(
        "-c statement_timeout={} ",
        LONGEST_STATEMENT.num_milliseconds()
    );
    assert!(session.contains(&limit), "{limit}");
}
