//! The passwords of the internal users: the application's secret, and the one that a person gave.

use anyhow::Context as _;
use tracing::warn;

use crate::{
    charm::{Charm, WatchFile},
    juju::{
        SecretId,
        hook_tools::{SecretRead, SecretRef},
    },
    planner::{observation::Users, rotation::Phase},
    valkey::{Credentials, InternalUser, Password, UsersSecret},
    workload::Backend as _,
};

/// Why the secret of option `system-users` cannot be used: a person has to act.
#[derive(Debug, thiserror::Error)]
#[error("cannot use option `system-users`: {0}")]
pub struct SystemUsersProblem(String);

/// Reads the passwords of the internal users, if the leader has made them.
pub(super) async fn read(charm: &mut Charm) {
    let named = charm.juju.app.users_secret.clone();
    if let Some(id) = &named {
        match of_secret(charm, id).await {
            Ok(secret) => ready(charm, secret),
            Err(error) => charm.juju.users = Users::Unreadable(format!("{error:#}")),
        }
    }
    if charm.credentials.is_none() && charm.juju.leader && charm.juju.app.deployment_id.is_some() {
        recover(charm, named.as_deref()).await;
    }
    want(charm).await;
}

fn ready(charm: &mut Charm, secret: UsersSecret) {
    charm.credentials = Some(secret.current.clone());
    charm.users_secret = Some(secret);
    charm.juju.users = Users::Ready;
}

async fn of_secret(charm: &Charm, id: &str) -> anyhow::Result<UsersSecret> {
    let id: SecretId = id.parse().context("the databag names no secret")?;
    let content = charm
        .tools
        .secret_get(SecretRef::Id(&id), SecretRead::Refresh)
        .await
        .context("cannot read the secret")?;
    UsersSecret::from_content(&content.0).context("the secret is incomplete")
}

/// Finds the passwords again, as the leader, when the databag no longer names their secret, or it is gone.
async fn recover(charm: &mut Charm, named: Option<&str>) {
    let label = Charm::users_label(&charm.juju.application);
    match charm.tools.secret_info_get(SecretRef::Label(&label)).await {
        Ok(info) => {
            let Some(id) = info.id.filter(|id| Some(id.as_str()) != named) else {
                return;
            };
            if let Ok(secret) = of_secret(charm, id.as_str()).await {
                warn!(
                    "The databag did not name the secret of the passwords; it was found by its label"
                );
                charm.juju.app.users_secret = Some(id.as_str().to_owned());
                charm.juju.app_wanted.users_secret = Some(id.as_str().to_owned());
                charm.juju.app_damaged = true;
                ready(charm, secret);
            }
        }
        Err(error) if error.not_found() => {
            // The processes go on with the passwords that they know; new ones would lock them out.
            if let Some(credentials) = of_watcher(charm).await {
                warn!("The secret of the passwords is gone; it is made again from what is in use");
                charm.juju.app_wanted.users_secret = None;
                charm.credentials = Some(credentials);
                charm.juju.users = Users::Ready;
            }
        }
        Err(error) => warn!(error = %error, "Cannot look for the secret of the passwords"),
    }
}

/// Returns the passwords that the watcher was given.
async fn of_watcher(charm: &Charm) -> Option<Credentials> {
    let workload = charm.workload.as_ref()?;
    let bytes = workload
        .read(&workload.layout().watch_file())
        .await
        .ok()
        .flatten()?;
    let file: WatchFile = serde_json::from_slice(&bytes).ok()?;
    Credentials::from_secret(&file.credentials).ok()
}

/// Returns option `system-users`, if it is set.
pub(crate) fn system_users(charm: &Charm) -> Option<&str> {
    charm
        .juju
        .config
        .get("system-users")
        .and_then(serde_json::Value::as_str)
        .filter(|uri| !uri.is_empty())
}

/// Finds out, as the leader, whether a person wants other passwords than those in use.
async fn want(charm: &mut Charm) {
    let settled = charm
        .users_secret
        .as_ref()
        .filter(|secret| Phase::of(secret.number) == Phase::Settled);
    let Some(current) = settled.map(|secret| secret.current.clone()) else {
        return;
    };
    if !charm.juju.leader {
        return;
    }
    match with_system_users(charm, current.clone()).await {
        Ok(wanted) => charm.users_wanted = Some(wanted).filter(|wanted| *wanted != current),
        // What runs goes on with the passwords that it has.
        Err(error) if error.is::<SystemUsersProblem>() => {
            charm.unheeded = Some(format!("{error:#}"));
        }
        Err(error) => {
            warn!(
                error = format!("{error:#}"),
                "Cannot look for other passwords"
            );
        }
    }
}

/// Reads the passwords that a person gave with option `system-users`, over those of `base`.
///
/// # Errors
///
/// [`SystemUsersProblem`] when the secret is not there, was not granted or cannot be used.
pub(crate) async fn with_system_users(
    charm: &Charm,
    base: Credentials,
) -> anyhow::Result<Credentials> {
    let Some(uri) = system_users(charm) else {
        return Ok(base);
    };
    let problem = |text: String| anyhow::Error::new(SystemUsersProblem(text));
    let id: SecretId = uri
        .parse()
        .map_err(|_| problem("it is not the URI of a secret".to_owned()))?;
    let content = charm
        .tools
        .secret_get(SecretRef::Id(&id), SecretRead::Refresh)
        .await;
    let content = match content {
        Ok(content) => content,
        Err(error) if error.permission_denied() => {
            return Err(problem(format!(
                "the secret was not granted: run `juju grant-secret {uri} {}`",
                charm.juju.application
            )));
        }
        Err(error) if error.not_found() => {
            return Err(problem(
                "there is no such secret: run `juju add-secret` and set the option to its URI"
                    .to_owned(),
            ));
        }
        Err(error) => {
            return Err(anyhow::Error::new(error)
                .context("cannot read the secret of option `system-users`"));
        }
    };
    let mut credentials = base;
    for (key, value) in &content.0 {
        let user = InternalUser::ALL
            .into_iter()
            .find(|user| user.name() == key || format!("{}-password", user.name()) == *key);
        let Some(user) = user else {
            return Err(problem(format!(
                "the secret names the unknown user `{key}`: remove it with `juju update-secret`"
            )));
        };
        let password = Password::new(value.clone())
            .map_err(|error| problem(format!("the password of `{key}` is no good: {error}")))?;
        credentials.set_password(user, password);
    }
    Ok(credentials)
}
