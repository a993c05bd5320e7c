//! The unit and its application: leadership, options, statuses, addresses, ports, goal.

use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::debug;

use super::model::{GoalState, LogLevel, NetworkInfo, PortRange, Status, StatusInfo};
use super::{HookTools, ToolError, message};

/// The shape in which Juju tells an application's status.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ApplicationStatus {
    application_status: StatusInfo,
}

impl HookTools {
    /// Says whether this unit is the leader, and will be for at least half a minute.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if the agent cannot tell.
    pub async fn is_leader(&self) -> Result<bool, ToolError> {
        self.json("is-leader", &["--format=json"]).await
    }

    /// Returns all options that have a value.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn config_get(&self) -> Result<Map<String, Value>, ToolError> {
        let found: Option<Map<String, Value>> = self.json("config-get", &["--format=json"]).await?;
        Ok(found.unwrap_or_default())
    }

    /// Sets this unit's status, at once, even if the hook fails later.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn status_set(&self, status: &Status) -> Result<(), ToolError> {
        self.tell(
            "status-set",
            &[
                "--application=false",
                "--",
                status.kind.as_str(),
                &message(&status.message),
            ],
        )
        .await
    }

    /// Sets the application's status, at once, even if the hook fails later.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if this unit is not the leader ([`ToolError::leadership_lost`]).
    pub async fn status_set_app(&self, status: &Status) -> Result<(), ToolError> {
        self.tell(
            "status-set",
            &[
                "--application=true",
                "--",
                status.kind.as_str(),
                &message(&status.message),
            ],
        )
        .await
    }

    /// Returns this unit's status.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn status_get(&self) -> Result<StatusInfo, ToolError> {
        self.json(
            "status-get",
            &["--format=json", "--include-data", "--application=false"],
        )
        .await
    }

    /// Returns the application's status.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if this unit is not the leader ([`ToolError::leadership_lost`]).
    pub async fn status_get_app(&self) -> Result<StatusInfo, ToolError> {
        let args = ["--format=json", "--include-data", "--application=true"];
        let found: ApplicationStatus = self.json("status-get", &args).await?;
        Ok(found.application_status)
    }

    /// Writes a line into Juju's log. Costs a process: ordinary lines go to stderr instead.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn juju_log(&self, level: LogLevel, message: &str) -> Result<(), ToolError> {
        let text = self::message(message);
        self.tell("juju-log", &["--log-level", level.as_str(), "--", &text])
            .await
    }

    /// Tells Juju the version of the workload, at once.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn application_version_set(&self, version: &str) -> Result<(), ToolError> {
        self.tell("application-version-set", &["--", version]).await
    }

    /// Returns the addresses of a binding, for one of its relations if `relation` is given.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] for an unknown binding, or while there is no address yet.
    pub async fn network_get(
        &self,
        binding: &str,
        relation: Option<&str>,
    ) -> Result<NetworkInfo, ToolError> {
        let mut args = vec!["--format=json", binding];
        if let Some(relation) = relation {
            args.extend(["-r", relation]);
        }
        self.json("network-get", &args).await
    }

    /// Opens ports in the cloud's firewall, once the hook succeeds.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if another unit on the machine has them, or for a range on Kubernetes.
    pub async fn open_port(&self, ports: PortRange) -> Result<(), ToolError> {
        self.tell("open-port", &[&ports.to_string()]).await
    }

    /// Closes ports in the cloud's firewall, once the hook succeeds.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn close_port(&self, ports: PortRange) -> Result<(), ToolError> {
        self.tell("close-port", &[&ports.to_string()]).await
    }

    /// Lists the ports that this unit has opened.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn opened_ports(&self) -> Result<Vec<PortRange>, ToolError> {
        let found: Option<Vec<PortRange>> = self.json("opened-ports", &["--format=json"]).await?;
        Ok(found.unwrap_or_default())
    }

    /// Asks the controller which units there are and which of them are being removed.
    ///
    /// Juju 4.0 can fail with "not found" when a unit vanishes meanwhile; then it is asked once more.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn goal_state(&self) -> Result<GoalState, ToolError> {
        const ARGS: [&str; 1] = ["--format=json"];
        match self.json("goal-state", &ARGS).await {
            Err(error) if error.not_found() => {
                debug!(
                    error = format!("{error:#}"),
                    "Asking for the goal state again"
                );
                self.json("goal-state", &ARGS).await
            }
            answer => answer,
        }
    }

    /// Reboots the machine: at once (the hook is killed and run again), or after the hook.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] in an action.
    pub async fn juju_reboot(&self, now: bool) -> Result<(), ToolError> {
        self.tell("juju-reboot", if now { &["--now"] } else { &[] })
            .await
    }
}
