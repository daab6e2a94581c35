//! The developer commands of Latchkey, and the local stack that they and the tests use: PostgreSQL, the local
//! AWS, the deployed template. Nothing here is part of what runs in production.

pub mod assuming;
pub mod axe;
pub mod callback;
pub mod console;
pub mod cost;
pub mod deploy;
pub mod error;
pub mod inbox;
pub mod login_probe;
pub mod ministack;
pub mod people;
pub mod postgres;
pub mod process;
pub mod records;
pub mod stack;
pub mod tools;
pub mod window_password;
pub mod workspace;

pub use error::{Error, Result};
