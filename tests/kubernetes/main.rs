//! Labels and Services on a real API server of Kubernetes with its etcd, which
//! `scripts/kube-apiserver` builds: no stand-in knows its rules as well.
//!
//! Pods and the `StatefulSet` are made by the tests, as Juju would; nothing runs in them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise; helpers outside of test functions do too"
)]

mod cluster;
mod labels;
mod link;
mod namespace;
mod rights;
mod services;
