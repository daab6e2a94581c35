//! What Latchkey does on AWS, one module per capability, in the words of `access_core`.

pub mod account;
pub mod assumable;
pub mod catalogue;
pub mod clients;
pub mod database;
pub mod error;
pub mod execution;
pub mod message;
pub mod policy;
pub mod rds_roots;
pub mod schedule;
pub mod seal;
pub mod secret;
pub mod table;
pub mod task;
pub mod trail;
pub mod window_secret;

pub use error::Error;
