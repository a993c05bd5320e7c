//! Labels and Services on a real API server of Kubernetes with its etcd, which
//! `scripts/kube-apiserver` builds: no stand-in knows its rules as well.
//!
//! Pods and the `StatefulSet` are made by the tests, as Juju would; what runs in them runs beside them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise; helpers outside of test functions do too"
)]

mod cluster;
mod failover;
#[allow(dead_code, reason = "each test program uses its part")]
#[path = "../valkey/namespace.rs"]
mod isolation;
mod labels;
mod link;
mod namespace;
mod rights;
#[path = "../support/valkey_cluster.rs"]
mod servers;
mod services;
