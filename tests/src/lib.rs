//! Tests across crates.

#[cfg(feature = "browser")]
pub mod browser;
