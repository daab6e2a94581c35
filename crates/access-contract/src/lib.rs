//! What Latchkey's parts say to each other: payloads of the state machine, links, seals and error names.
//!
//! Everything here is versioned, because an old execution must survive a new deployment.

pub mod asking;
pub mod dry_run;
pub mod error_name;
pub mod link;
pub mod payload;
pub mod record;
pub mod seal;
pub mod status;

pub use asking::{Asked, Confirmation};
pub use error_name::ErrorName;
pub use link::{Link, LinkError, Purpose};
pub use payload::TaskToken;
pub use status::Status;

/// The version of the payloads that this code writes. Readers accept this one and every released one before it.
pub const PAYLOAD_VERSION: u32 = 1;
