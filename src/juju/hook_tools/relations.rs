//! Relations and their databags.

use super::{HookTools, ToolError};
use crate::juju::databag::Databag;
use crate::juju::names::UnitName;

impl HookTools {
    /// Lists the ids of an endpoint's relations, as in `valkey-peers:0`.
    ///
    /// # Errors
    ///
    /// [`ToolError`]; an unknown endpoint has no relations and is no error.
    pub async fn relation_ids(&self, endpoint: &str) -> Result<Vec<String>, ToolError> {
        self.json("relation-ids", &["--format=json", endpoint])
            .await
    }

    /// Lists the other units of a relation that have joined, without this one.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if the relation is gone.
    pub async fn relation_list(&self, relation: &str) -> Result<Vec<UnitName>, ToolError> {
        self.json("relation-list", &["--format=json", "-r", relation])
            .await
    }

    /// Returns the name of the application on the other side; among peers the own one.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if the relation is gone.
    pub async fn relation_list_app(&self, relation: &str) -> Result<String, ToolError> {
        self.json("relation-list", &["--format=json", "-r", relation, "--app"])
            .await
    }

    /// Reads `unit`'s databag on a relation, also that of a unit that has left it.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if the relation is gone or `unit` never was in it.
    pub async fn relation_get(
        &self,
        relation: &str,
        unit: &UnitName,
    ) -> Result<Databag, ToolError> {
        let unit = unit.to_string();
        let found: Option<Databag> = self
            .json(
                "relation-get",
                &["--format=json", "-r", relation, "-", &unit],
            )
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Reads an application's databag on a relation.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if the relation is gone, or a unit that is not the leader reads its
    /// own application's databag on a relation other than to its peers.
    pub async fn relation_get_app(
        &self,
        relation: &str,
        application: &str,
    ) -> Result<Databag, ToolError> {
        let found: Option<Databag> = self
            .json(
                "relation-get",
                &["--format=json", "-r", relation, "--app", "-", application],
            )
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Writes into this unit's databag on a relation; an empty value deletes its key.
    ///
    /// Keys that are not named stay. Nothing to write: no tool is run.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if the relation is gone.
    pub async fn relation_set(&self, relation: &str, changes: &Databag) -> Result<(), ToolError> {
        self.write_databag(&["-r", relation, "--file", "-"], changes)
            .await
    }

    /// Writes into the own application's databag on a relation; an empty value deletes its key.
    ///
    /// Keys that are not named stay. Nothing to write: no tool is run.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if the relation is gone, or this unit is not the leader
    /// ([`ToolError::leadership_lost`]). The lease is checked again when the hook ends.
    pub async fn relation_set_app(
        &self,
        relation: &str,
        changes: &Databag,
    ) -> Result<(), ToolError> {
        self.write_databag(&["-r", relation, "--app", "--file", "-"], changes)
            .await
    }

    async fn write_databag(&self, args: &[&str], changes: &Databag) -> Result<(), ToolError> {
        const TOOL: &str = "relation-set";
        if changes.is_empty() {
            return Ok(());
        }
        // By stdin: values can be longer than an argument may be, and others can read arguments.
        let values = serde_json::to_vec(changes).map_err(|error| ToolError::shape(TOOL, &error))?;
        self.run(TOOL, args, Some(&values)).await.map(drop)
    }
}
