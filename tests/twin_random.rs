//! x
mod lab;
