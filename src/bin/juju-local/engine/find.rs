//! Finds in the model what a person named.

use super::model::{Application, Model};

/// Finds an application.
///
/// # Errors
///
/// When there is none of that name.
pub fn application<'a>(model: &'a Model, name: &str) -> Result<&'a Application, String> {
    model
        .applications
        .get(name)
        .ok_or_else(|| format!("application {name:?} not found"))
}
