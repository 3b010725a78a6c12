//! The twin over tracked connections: for the same packets, the far ends must see the same with bypath and without, and the
//! connection tables must say the same after every step.
//!
//! The hand-written scenarios follow the themes of the kernel's own tests (tools/testing/selftests/net/netfilter); each says
//! how much of it bypath must have forwarded itself. Then come seeded random connections (module `random`), and real sockets
//! through a box whose bypath starts, stops and is killed (module `restart`).
//!
//! `BYPATH_TWIN=kernel` compares two kernels, to judge the harness (see `lab`).

mod lab;

#[path = "conntrack/before_tracking.rs"]
mod before_tracking;
#[path = "conntrack/changes.rs"]
mod changes;
#[path = "conntrack/clash.rs"]
mod clash;
#[path = "conntrack/containers.rs"]
mod containers;
#[path = "conntrack/ct_marks.rs"]
mod ct_marks;
#[path = "conntrack/datagrams.rs"]
mod datagrams;
#[path = "conntrack/fib_rules.rs"]
mod fib_rules;
#[path = "conntrack/firewalls.rs"]
mod firewalls;
#[path = "conntrack/flow.rs"]
mod flow;
#[path = "conntrack/forward_random.rs"]
mod forward_random;
#[path = "conntrack/forward_rules.rs"]
mod forward_rules;
#[path = "conntrack/fragments.rs"]
mod fragments;
#[path = "conntrack/generator.rs"]
mod generator;
#[path = "conntrack/header_rules.rs"]
mod header_rules;
#[path = "conntrack/icmp_errors.rs"]
mod icmp_errors;
#[path = "conntrack/kernel_answers.rs"]
mod kernel_answers;
#[path = "conntrack/kubernetes.rs"]
mod kubernetes;
#[path = "conntrack/lines.rs"]
mod lines;
#[path = "rulesets/load.rs"]
mod load;
#[path = "conntrack/nat.rs"]
mod nat;
#[path = "conntrack/nat_changes.rs"]
mod nat_changes;
#[path = "conntrack/nat_extensions.rs"]
mod nat_extensions;
#[path = "conntrack/nat_marks.rs"]
mod nat_marks;
#[path = "conntrack/nat_more.rs"]
mod nat_more;
#[path = "conntrack/nat_random.rs"]
mod nat_random;
#[path = "conntrack/nat_rules.rs"]
mod nat_rules;
#[allow(dead_code, reason = "shared with the tests of an instance")]
#[path = "instance/net.rs"]
mod net;
#[path = "conntrack/protocols.rs"]
mod protocols;
#[path = "conntrack/punted.rs"]
mod punted;
#[path = "conntrack/punting_rules.rs"]
mod punting_rules;
#[path = "conntrack/random.rs"]
mod random;
#[path = "conntrack/restart.rs"]
mod restart;
#[path = "conntrack/rules.rs"]
mod rules;
#[path = "conntrack/rulesets.rs"]
mod rulesets;
#[path = "conntrack/script.rs"]
mod script;
#[path = "conntrack/sctp.rs"]
mod sctp;
#[path = "conntrack/stream.rs"]
mod stream;
#[path = "conntrack/tcp_close.rs"]
mod tcp_close;
#[path = "conntrack/tcp_open.rs"]
mod tcp_open;
#[path = "conntrack/tcp_reset.rs"]
mod tcp_reset;
#[path = "conntrack/tcp_sysctls.rs"]
mod tcp_sysctls;
#[path = "conntrack/tcp_window.rs"]
mod tcp_window;
#[path = "conntrack/unreplied.rs"]
mod unreplied;
#[path = "conntrack/view.rs"]
mod view;
#[path = "conntrack/xt_nat.rs"]
mod xt_nat;
#[path = "conntrack/xt_random.rs"]
mod xt_random;
#[path = "conntrack/xt_rules.rs"]
mod xt_rules;
#[path = "conntrack/zones.rs"]
mod zones;
