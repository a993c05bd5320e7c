//! The charm's one binary.

fn main() {}
