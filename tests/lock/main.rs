//! The lock, model-checked: the turn in the databags and the lease in Valkey.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]
#![allow(
    clippy::struct_excessive_bools,
    clippy::trivially_copy_pass_by_ref,
    reason = "the states of a model are made of many small facts"
)]

mod cuts;
mod founding;
mod hook;
mod memo;
mod model;
mod observe;
mod planted;
mod progress;
mod scenarios;
mod world;
