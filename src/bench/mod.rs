//! `bypath bench`: frames with a number and a time in them are sent into one end of a path and judged at the other.
//!
//! ```text
//!   work ── frames, order, tag ──> pace ──> source ──> NIC ··· what is measured ··· NIC ──> sink ──> record
//!                                                                                                      │
//!   lab, rfc2544: which trials, of whom, in which order <── statistics <── outcome of a trial <────────┘
//!                                                               └──> report: table, JSON, CSV, .hgrm, HTML, Markdown
//! ```
//!
//! What is sent is a [`work::Work`]; one sending of it is a trial, and what came of it an [`outcome::Outcome`]; a
//! [`report::Report`] is all that a run found, and all that is written in whatever form is written from it.

pub mod clock;
pub mod cpu;
pub mod ends;
pub mod frames;
mod job_thread;
pub mod lab;
pub mod latency;
pub mod loopback;
pub mod order;
pub mod outcome;
pub mod pace;
pub mod place;
pub mod provenance;
pub mod record;
pub mod report;
pub mod rfc2544;
pub mod sink;
pub mod source;
pub mod statistics;
pub mod tag;
pub mod trial;
pub mod work;
