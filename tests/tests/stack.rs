//! Latchkey as it is deployed: the template, the binaries and the state machine on the local AWS, with a real
//! PostgreSQL server. Every test asks from outside: can this role log in now?

#[path = "stack/deciding.rs"]
mod deciding;
#[path = "stack/fixture.rs"]
mod fixture;
#[path = "stack/refusals.rs"]
mod refusals;
#[path = "stack/rights.rs"]
mod rights;
#[path = "stack/windows.rs"]
mod windows;
