//! A small, faithful Juju for one machine.

fn main() {}
