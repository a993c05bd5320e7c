//! Storage, the unit's state in the controller, resources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::model::StorageInfo;
use super::{HookTools, ToolError};

impl HookTools {
    /// Lists the ids of the attached storage instances, of one storage name if given.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn storage_list(&self, name: Option<&str>) -> Result<Vec<String>, ToolError> {
        let mut args = vec!["--format=json"];
        args.extend(name);
        let found: Option<Vec<String>> = self.json("storage-list", &args).await?;
        Ok(found.unwrap_or_default())
    }

    /// Returns where a storage instance (as in `data/0`) is.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if there is no such instance.
    pub async fn storage_get(&self, id: &str) -> Result<StorageInfo, ToolError> {
        self.json("storage-get", &["--format=json", "-s", id]).await
    }

    /// Returns all that this unit keeps in the controller.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn state_get(&self) -> Result<BTreeMap<String, String>, ToolError> {
        let found: Option<BTreeMap<String, String>> =
            self.json("state-get", &["--format=json"]).await?;
        Ok(found.unwrap_or_default())
    }

    /// Keeps values in the controller, once the hook succeeds. A value has at most 64 KiB.
    ///
    /// Keys that are not named stay. Nothing to keep: no tool is run.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] for a key or value that is too long.
    pub async fn state_set(&self, values: &BTreeMap<String, String>) -> Result<(), ToolError> {
        const TOOL: &str = "state-set";
        if values.is_empty() {
            return Ok(());
        }
        let values = serde_json::to_vec(values).map_err(|error| ToolError::shape(TOOL, &error))?;
        self.run(TOOL, &["--file", "-"], Some(&values))
            .await
            .map(drop)
    }

    /// Forgets a value, once the hook succeeds; one that is not there is no error.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn state_delete(&self, key: &str) -> Result<(), ToolError> {
        self.tell("state-delete", &["--", key]).await
    }

    /// Returns where a resource's file is; Juju downloads it first if need be.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if there is none or it cannot be downloaded.
    pub async fn resource_get(&self, name: &str) -> Result<PathBuf, ToolError> {
        self.text("resource-get", &[name]).await.map(PathBuf::from)
    }
}
