//! The twin over hand-written routing scenarios: for the same frames, the far ends must see the same with bypath and without.
//!
//! A scenario is a configuration, frames, and the least share of them that bypath must have forwarded itself, so that
//! punting everything does not pass. Where something stands in the path that bypath does not carry (module `fail_closed`),
//! it must have forwarded nothing.
//!
//! `BYPATH_TWIN=kernel` compares two kernels, to judge the harness (see `lab`).

mod lab;

#[path = "routing/changes.rs"]
mod changes;
#[path = "routing/fail_closed.rs"]
mod fail_closed;
#[path = "routing/harness.rs"]
mod harness;
#[path = "routing/headers.rs"]
mod headers;
#[path = "routing/kernel_answers.rs"]
mod kernel_answers;
#[path = "routing/mtu.rs"]
mod mtu;
#[path = "routing/nft_chains.rs"]
mod nft_chains;
#[path = "routing/routes.rs"]
mod routes;
#[path = "routing/sources.rs"]
mod sources;
#[path = "routing/transit.rs"]
mod transit;
