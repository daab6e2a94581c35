//! Faults on the deployed stack while windows are open: each must end closed, and the table says by which defence.

// Everything here is a test, the helpers too; clippy sees that of the test functions only.
#![allow(clippy::unwrap_used)]

mod stack {
    mod faults;
    // Shared with the other tests of the stack, which use all of it.
    #[allow(dead_code)]
    mod fixture;
}
