//! How the API server is reached from inside a pod, and as whom.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ApiError;
use crate::limits::API_ACCOUNT_FILE_BYTES_MAX;

/// Where the API server is and where the pod's service account lies. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    host: String,
    port: u16,
    account: PathBuf,
}

impl Access {
    /// Where Kubernetes mounts the service account of a pod.
    const ACCOUNT: &'static str = "/var/run/secrets/kubernetes.io/serviceaccount";

    /// Names an API server and the directory of a service account.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16, account: impl Into<PathBuf>) -> Self {
        Self {
            host: host.into(),
            port,
            account: account.into(),
        }
    }

    /// Reads what Kubernetes tells every container by variables; none where it told nothing.
    #[must_use]
    pub fn from_variables<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?.parse().ok()?;
        Some(Self::new(host, port, Self::ACCOUNT))
    }

    /// Returns the host of the API server.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port of the API server.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Reads the token: every time anew, since Kubernetes replaces it long before it expires.
    ///
    /// # Errors
    ///
    /// [`ApiError::Account`] when there is none.
    pub async fn token(&self) -> Result<String, ApiError> {
        self.read("token").await
    }

    /// Reads the certificates of the cluster's authorities, in PEM.
    ///
    /// # Errors
    ///
    /// [`ApiError::Account`] when there are none.
    pub async fn authorities(&self) -> Result<String, ApiError> {
        self.read("ca.crt").await
    }

    /// Reads the namespace in which the pod lives.
    ///
    /// # Errors
    ///
    /// [`ApiError::Account`] when it is not told.
    pub async fn namespace(&self) -> Result<String, ApiError> {
        self.read("namespace").await
    }

    async fn read(&self, name: &str) -> Result<String, ApiError> {
        let path = self.account.join(name);
        let text = read_bounded(&path).await;
        let text = text.map_err(|source| ApiError::Account { path, source })?;
        Ok(text.trim().to_owned())
    }
}

async fn read_bounded(path: &Path) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt as _;
    let mut text = String::new();
    tokio::fs::File::open(path)
        .await?
        .take(API_ACCOUNT_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pod_has_an_api_server() {
        for (variables, expected) in [
            (&[][..], None),
            (&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")], None),
            (&[("KUBERNETES_SERVICE_PORT", "443")], None),
            (
                &[
                    ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
                    ("KUBERNETES_SERVICE_PORT", "tcp"),
                ],
                None,
            ),
            (
                &[
                    ("KUBERNETES_SERVICE_HOST", "fd00::1"),
                    ("KUBERNETES_SERVICE_PORT", "6443"),
                ],
                Some(("fd00::1", 6443)),
            ),
        ] {
            let access = Access::from_variables(|name| {
                let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
                Some(value)
            });
            let found = access.as_ref().map(|it| (it.host(), it.port()));
            assert_eq!(found, expected, "{variables:?}");
        }
    }
}
