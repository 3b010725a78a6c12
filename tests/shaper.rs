//! Shaping as the worker sees it: frames go in, and come out when they may. Plain, slow models of the kernel's qdiscs, made by
//! other means, say which frame leaves when, over random configurations and arrivals; other tests hold what is promised of rates,
//! shares, bursts, changes and bad input. Time is simulated; nothing here needs a network.

#[path = "shaper/charges.rs"]
mod charges;
#[path = "shaper/flows.rs"]
mod flows;
#[path = "shaper/fq.rs"]
mod fq;
#[path = "shaper/htb.rs"]
mod htb;
#[path = "shaper/htb_changes.rs"]
mod htb_changes;
#[path = "shaper/htb_model.rs"]
mod htb_model;
#[path = "shaper/lab.rs"]
mod lab;
#[path = "shaper/memory.rs"]
mod memory;
#[path = "shaper/random.rs"]
mod random;
#[path = "shaper/tbf.rs"]
mod tbf;
