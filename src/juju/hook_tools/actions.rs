//! Actions: parameters, progress, results.

use serde_json::{Map, Value};

use super::{HookTools, ToolError, message};

impl HookTools {
    /// Returns the parameters of the running action, defaults filled in.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] outside of an action.
    pub async fn action_get(&self) -> Result<Map<String, Value>, ToolError> {
        let found: Option<Map<String, Value>> = self.json("action-get", &["--format=json"]).await?;
        Ok(found.unwrap_or_default())
    }

    /// Adds results to the running action; dots in a key make nested maps.
    ///
    /// Keys are lower-case letters, digits and hyphens. Nothing to add: no tool is run.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] for a bad key or outside of an action, [`ToolError::ArgumentTooLong`]
    /// for a result that is too large.
    pub async fn action_set(&self, results: &[(&str, &str)]) -> Result<(), ToolError> {
        if results.is_empty() {
            return Ok(());
        }
        let pairs: Vec<String> = results
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut args = vec!["--"];
        args.extend(pairs.iter().map(String::as_str));
        self.tell("action-set", &args).await
    }

    /// Marks the running action as failed. The process goes on, and what it changed is committed if
    /// it exits with 0.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] outside of an action.
    pub async fn action_fail(&self, message: &str) -> Result<(), ToolError> {
        self.tell("action-fail", &["--", &self::message(message)])
            .await
    }

    /// Shows progress to the person who waits for the running action, at once.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] outside of an action.
    pub async fn action_log(&self, message: &str) -> Result<(), ToolError> {
        self.tell("action-log", &["--", &self::message(message)])
            .await
    }
}
