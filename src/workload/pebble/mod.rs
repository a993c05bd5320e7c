//! Services that Pebble runs in a container of the same pod.

mod answers;
mod backend;
mod client;
mod error;
mod exec;
mod files;
mod grace;
mod layer;
mod plan;
mod transport;
mod words;

pub use answers::{
    Change, CheckInfo, Current, FileInfo, LogLine, Notice, ServiceInfo, SystemInfo, Task,
};
pub use backend::{CONTAINER, IMAGE_USER, PebbleWorkload};
pub use client::{Changes, NoticesQuery, ServicesAction};
pub use error::PebbleError;
pub use exec::{Exec, ExecOutput};
pub use files::NewFile;
pub use layer::{CheckSpec, Layer, Level, OnExit, Override, Probe, ServiceSpec, Startup};
pub use transport::Client;
