//! A small, faithful Juju for one machine.

// Not everything that is agreed on is used by both sides yet.
#![allow(dead_code)]

mod api;
mod report;

fn main() {}
