//! The boxes of the walk, one file each, in the order of the Netfilter packet-flow diagram.
//! Layer 3. A stage knows packets, tables and `now`; it answers with a [`Step`](crate::packet::Step).

pub mod rx;
