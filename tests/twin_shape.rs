//! The twin over traffic control: for the same frames and the same `tc` configuration, the same frames leave with bypath and
//! without, in the same order and at the same rate, and bypath shaped them itself.
//!
//! What a configuration determines is compared exactly: which frames of a burst pass at once, wait, or are dropped. Rates are
//! judged by the time at which frames left, and shares over windows (`shape/judge.rs`).
//!
//! `BYPATH_TWIN=kernel` compares two kernels, to judge the harness (see `lab`).

mod lab;

#[path = "shape/changes.rs"]
mod changes;
#[path = "shape/choice.rs"]
mod choice;
#[path = "shape/counters.rs"]
mod counters;
#[path = "shape/flow.rs"]
mod flow;
#[path = "shape/htb.rs"]
mod htb;
#[path = "shape/judge.rs"]
mod judge;
#[path = "shape/kinds.rs"]
mod kinds;
#[path = "shape/leaves.rs"]
mod leaves;
#[path = "shape/memory.rs"]
mod memory;
#[path = "shape/net.rs"]
mod net;
#[path = "shape/own.rs"]
mod own;
#[path = "shape/random.rs"]
mod random;
#[path = "shape/rates.rs"]
mod rates;
#[allow(dead_code, reason = "shared with the tests of an instance")]
#[path = "instance/net.rs"]
mod router;
#[path = "shape/scale.rs"]
mod scale;
#[path = "shape/sockets.rs"]
mod sockets;
#[path = "shape/tbf.rs"]
mod tbf;
#[path = "shape/workers.rs"]
mod workers;
