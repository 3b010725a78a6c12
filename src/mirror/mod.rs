//! (being written)

pub mod guard;
mod nlattr;
mod nlsock;
pub mod oracle;
