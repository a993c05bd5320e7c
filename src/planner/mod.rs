//! Decides what to do next: no I/O, no clock, no randomness, no `async`.
