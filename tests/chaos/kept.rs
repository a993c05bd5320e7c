//! Looks for writes in the data sets that units kept aside, by loading each into a server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    support::{
        model::Model,
        rescue::{self, Rescue},
    },
    writers::{self, Acknowledged},
};

/// Returns the data sets that all units keep aside.
pub fn sets(model: &Model) -> Vec<PathBuf> {
    let storages = fs::read_dir(model.state().join("storage"));
    let mut sets: Vec<PathBuf> = storages
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|unit| rescue::kept(&unit.path()))
        .collect();
    sets.sort();
    sets
}

/// Returns those of `writes` that no kept set holds.
pub fn not_kept(model: &Model, writes: &[Acknowledged]) -> Vec<Acknowledged> {
    let mut left = writes.to_vec();
    for set in sets(model) {
        if left.is_empty() {
            break;
        }
        let rescue = Rescue::of(&set, Path::new("valkey-server"));
        left = writers::missing(&mut rescue.loaded(model), &left);
    }
    left
}
