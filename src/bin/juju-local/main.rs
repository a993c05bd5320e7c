//! A small, faithful Juju for one machine.

// Not everything that is agreed on is used by both sides yet.
#![allow(dead_code, unused_imports)]

mod api;
mod charm;
mod report;

fn main() {}
