//! One connection to the API server, and the few calls that the charm makes.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::{
    access::Access,
    difference::{Actual, Change, Wanted},
    error::ApiError,
    objects::{self, APPLICATION_LABEL, MANAGER, Pod, Pods, Role, Service},
};
use crate::limits::{
    API_ANSWER_BYTES_MAX, API_CALL_TIMEOUT, API_CONNECT_TIMEOUT, API_REASON_LETTERS_MAX,
};

/// One connection to the API server.
pub(super) struct Session {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
    host: String,
    token: String,
    namespace: String,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Content type of a merge patch: what it does not name stays as it is.
const MERGE_PATCH: &str = "application/merge-patch+json";

impl Session {
    /// Connects as the pod's service account.
    ///
    /// # Errors
    ///
    /// [`ApiError`] when the account cannot be used or the API server cannot be reached.
    pub(super) async fn open(access: &Access) -> Result<Self, ApiError> {
        let (token, authorities, namespace) =
            tokio::try_join!(access.token(), access.authorities(), access.namespace())?;
        let tls = tls(&authorities)?;
        let (host, port) = (access.host(), access.port());
        let at = || (host.to_owned(), port);
        let late = |_| {
            let (host, port) = at();
            ApiError::ConnectTimeout { host, port }
        };
        let failed = |source| {
            let (host, port) = at();
            ApiError::Connect { host, port, source }
        };
        let stream = within(API_CONNECT_TIMEOUT, connect(host, port, tls))
            .await
            .map_err(late)?
            .map_err(failed)?;
        let handshake = within(API_CONNECT_TIMEOUT, http1::handshake(TokioIo::new(stream)));
        let (sender, connection) = handshake.await.map_err(late)?.map_err(|source| {
            let what = "talk to the API server".to_owned();
            ApiError::Broken { what, source }
        })?;
        let connection = tokio::spawn(async move {
            // Whoever waits for an answer learns of it as well.
            let _ = connection.await;
        });
        let host = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Ok(Self {
            sender,
            connection,
            host,
            token,
            namespace,
        })
    }

    /// Reads everything that `wanted` is about.
    ///
    /// # Errors
    ///
    /// [`ApiError`] when something cannot be read, other than that it is not there.
    pub(super) async fn read(&mut self, wanted: &Wanted) -> Result<Actual, ApiError> {
        let application = segment(&wanted.application)?;
        let selected = format!("pods?labelSelector={APPLICATION_LABEL}%3D{application}");
        let labelled: Pods = self.get("list the pods", &selected).await?;
        let mut pods = labelled.items;
        let named = wanted.roles.keys().map(String::as_str);
        for name in named.chain([wanted.me.as_str()]) {
            if pods.iter().all(|pod| pod.metadata.name != name)
                && let Some(pod) = self.find::<Pod>("pods", name).await?
            {
                pods.push(pod);
            }
        }
        let mut actual = Actual {
            pods,
            ..Actual::default()
        };
        if wanted.services {
            for role in Role::ALL {
                let name = role.service(&wanted.application);
                if let Some(service) = self.find::<Service>("services", &name).await? {
                    actual.services.insert(role, service);
                }
            }
        }
        Ok(actual)
    }

    /// Carries a change out; `actual` is what it was decided on.
    ///
    /// # Errors
    ///
    /// [`ApiError`] when the API server does not do it.
    pub(super) async fn carry_out(
        &mut self,
        wanted: &Wanted,
        actual: &Actual,
        change: &Change,
    ) -> Result<(), ApiError> {
        let application = &wanted.application;
        let me = actual
            .pods
            .iter()
            .find(|pod| pod.metadata.name == wanted.me);
        let owner = me.and_then(Pod::stateful_set);
        match change {
            Change::Label {
                pod,
                resource_version,
                role,
            } => {
                let patch = objects::role_patch(application, *role, resource_version);
                self.patch("pods", pod, &patch).await
            }
            Change::Create(role) => {
                let service = objects::service(application, *role, owner);
                let path = format!("services?fieldManager={MANAGER}");
                let what = format!("create Service {}", role.service(application));
                let body = Some(("application/json", &service));
                self.call(what, Method::POST, &path, body).await.map(drop)
            }
            Change::Mend(role) => {
                let Some(found) = actual.services.get(role) else {
                    return Ok(());
                };
                let patch = objects::service_patch(application, *role, owner, found);
                let name = role.service(application);
                self.patch("services", &name, &patch).await
            }
        }
    }

    async fn get<T: DeserializeOwned>(&mut self, what: &str, path: &str) -> Result<T, ApiError> {
        let body = self.call(what.to_owned(), Method::GET, path, None).await?;
        serde_json::from_slice(&body).map_err(|source| ApiError::Shape {
            what: what.to_owned(),
            source,
        })
    }

    async fn find<T: DeserializeOwned>(
        &mut self,
        kind: &str,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let path = format!("{kind}/{}", segment(name)?);
        match self.get(&format!("read {path}"), &path).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn patch(&mut self, kind: &str, name: &str, fields: &Value) -> Result<(), ApiError> {
        let what = format!("change {kind}/{name}");
        let path = format!("{kind}/{}?fieldManager={MANAGER}", segment(name)?);
        let body = Some((MERGE_PATCH, fields));
        self.call(what, Method::PATCH, &path, body).await.map(drop)
    }

    /// Makes one call on what is in the pod's namespace.
    async fn call(
        &mut self,
        what: String,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Bytes, ApiError> {
        let path = format!("/api/v1/namespaces/{}/{path}", segment(&self.namespace)?);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, MANAGER);
        let mut bytes = Bytes::new();
        if let Some((kind, value)) = body {
            request = request.header(header::CONTENT_TYPE, kind);
            bytes = Bytes::from(value.to_string());
        }
        // Only a token that is no text of one line gets here.
        let request = request
            .body(Full::new(bytes))
            .map_err(|_| ApiError::Unusable("its token is no token".to_owned()))?;
        let Ok(answer) = within(API_CALL_TIMEOUT, self.exchange(what.clone(), request)).await
        else {
            return Err(ApiError::Timeout { what });
        };
        answer
    }

    async fn exchange(
        &mut self,
        what: String,
        request: Request<Full<Bytes>>,
    ) -> Result<Bytes, ApiError> {
        let sent = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answer: Response<Incoming> = match sent.await {
            Ok(answer) => answer,
            Err(source) => return Err(ApiError::Broken { what, source }),
        };
        let status = answer.status();
        let Ok(body) = Limited::new(answer.into_body(), API_ANSWER_BYTES_MAX)
            .collect()
            .await
        else {
            return Err(ApiError::Unread { what });
        };
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(ApiError::Refused {
            what,
            code: status.as_u16(),
            reason: reason(&body),
        })
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    timeout(limit, work).await
}

async fn connect(
    host: &str,
    port: u16,
    tls: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(tls).connect(name, stream).await
}

/// Trusts the cluster's own authorities and nobody else.
fn tls(authorities: &str) -> Result<Arc<ClientConfig>, ApiError> {
    let unusable = |error: &dyn std::fmt::Display| ApiError::Unusable(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"ca.crt holds no certificate"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Returns a name that can be part of a path: what Kubernetes allows for its objects.
fn segment(name: &str) -> Result<&str, ApiError> {
    let allowed = |letter: u8| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, b'-' | b'.')
    };
    let begins = name.bytes().next().is_some_and(|first| first != b'.');
    if begins && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(ApiError::Name(name.to_owned()))
    }
}

/// Returns the reason in a refusal, in one short line.
fn reason(body: &[u8]) -> String {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    let message = status.as_ref().and_then(|it| it["message"].as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(API_REASON_LETTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_objects_become_part_of_a_path() {
        for (name, allowed) in [
            ("valkey-0", true),
            ("a.b", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("a?b", false),
            ("Valkey", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(segment(name).is_ok(), allowed, "{name:?}");
        }
    }

    #[test]
    fn reasons_are_one_short_line() {
        assert_eq!(
            reason(br#"{"kind":"Status","message":"no\n such pod"}"#),
            "no such pod"
        );
        assert_eq!(reason(b"<html>\nbad gateway"), "<html> bad gateway");
        assert_eq!(reason(&[b'x'; 5000]).len(), API_REASON_LETTERS_MAX);
        assert_eq!(reason(&[0xff, b'a']), "\u{fffd}a");
    }

    #[test]
    fn authorities_are_certificates() {
        for text in [
            "",
            "nonsense",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(tls(text).is_err(), "{text}");
        }
    }
}
