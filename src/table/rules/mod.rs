//! The kernel's nf_tables ruleset, carried: as data, and as what runs it.
//!
//! ```text
//!  keys      what expressions ask of packets            program    tables, chains, rules, objects
//!  expr      one expression                             set        sets and maps, by which things are looked up
//!  xt        matches and targets of iptables-nft
//!  state     counters, quotas, limits: what packets change
//!  packet    what a packet must answer and do
//!  interpret runs a chain for a packet, expression by expression: the reference
//!  compiled  the form that workers run, which says the same
//!  carried   which expressions are the kernel's whatever the packet, and which look at more than is constant in a flow
//!  live      all that the walk needs: ruleset, memory, and the chains of each hook
//! ```
//!
//! Layer 2: plain data, no system call. It is read from the kernel by `mirror::nft`. The kernel's files are
//! net/netfilter/nf_tables_core.c and nft_*.c; `tests/nft` holds this against the kernel.

pub mod carried;
pub mod compiled;
pub mod expr;
mod exthdr;
pub mod hash;
pub mod interpret;
pub mod keys;
pub mod live;
pub mod packet;
pub mod program;
pub mod set;
pub mod state;
pub mod stateful;
pub mod xt;
