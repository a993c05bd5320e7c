//! A real API server with its etcd on loopback, shared by the tests that run at the same time.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::namespace::Namespace;

/// Longest that both programs may take until they are ready, on a busy machine.
const READY: Duration = Duration::from_secs(180);

/// Longest that the API server may take for an answer, on a busy machine.
const ANSWER: Duration = Duration::from_secs(30);

/// Token of the person who may do everything.
const ADMIN: &str = "the-administrator";

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An API server that answers.
pub struct Cluster {
    pub port: u16,
    authorities: String,
    tls: Arc<ClientConfig>,
    namespaces: AtomicUsize,
    // In this order: the API server first, then what it needs.
    _api: Process,
    _etcd: Process,
    _dir: tempfile::TempDir,
}

/// Builds the programs, or finds them.
fn programs() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kube-apiserver");
    let output = Command::new(script)
        .stdin(Stdio::null())
        .output()
        .expect("cannot run scripts/kube-apiserver");
    assert!(
        output.status.success(),
        "scripts/kube-apiserver failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(program: &Path, dir: &Path, args: &[String]) -> Process {
    let log = fs::File::create(dir.join(format!(
        "{}.log",
        program.file_name().unwrap().to_string_lossy()
    )))
    .unwrap();
    let child = Command::new(program)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    Process(child)
}

impl Cluster {
    /// Returns the cluster of the tests that run now; the last one of them ends it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| {
            SHARED.clear_poison();
            poisoned.into_inner()
        });
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start());
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    fn start() -> Self {
        let programs = programs();
        let dir = tempfile::tempdir().unwrap();
        let (client, peer, port) = (free_port(), free_port(), free_port());
        let client = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let etcd = spawn(
            &programs.join("etcd"),
            dir.path(),
            &[
                "--data-dir=etcd".to_owned(),
                "--unsafe-no-fsync".to_owned(),
                "--name=test".to_owned(),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=test={peer}"),
            ],
        );
        let user = format!("{ADMIN},admin,admin,system:masters\n");
        fs::write(dir.path().join("users.csv"), user).unwrap();
        let key = Command::new("openssl")
            .args(["genrsa", "-out", "account.key", "2048"])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .status();
        assert!(key.is_ok_and(|status| status.success()), "openssl failed");
        let api = spawn(
            &programs.join("kube-apiserver"),
            dir.path(),
            &[
                format!("--etcd-servers={client}"),
                format!("--secure-port={port}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=192.0.2.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                "--cert-dir=certificates".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                "--token-auth-file=users.csv".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                "--service-account-signing-key-file=account.key".to_owned(),
                "--service-account-key-file=account.key".to_owned(),
                "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
            ],
        );
        let certificate = dir.path().join("certificates/apiserver.crt");
        let deadline = Instant::now() + READY;
        let authorities = until(deadline, dir.path(), || {
            let text = fs::read_to_string(&certificate).ok()?;
            text.contains("END CERTIFICATE").then_some(text)
        });
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let logs = dir.path().to_owned();
        let cluster = Self {
            port,
            authorities,
            tls: Arc::new(tls),
            namespaces: AtomicUsize::new(0),
            _api: api,
            _etcd: etcd,
            _dir: dir,
        };
        until(deadline, &logs, || {
            let (code, _) = cluster.exchange("GET", "/readyz", ADMIN, None).ok()?;
            (code == 200).then_some(())
        });
        cluster
    }

    /// Makes a namespace with an application of three units, as Juju does without trust.
    pub fn namespace(self: &Arc<Self>) -> Namespace {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed);
        Namespace::make(Arc::clone(self), format!("model-{number}"))
    }

    /// Returns the certificates of the cluster's authorities.
    pub fn authorities(&self) -> &str {
        &self.authorities
    }

    /// Asks as the administrator; returns the status and the document.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.exchange(method, path, ADMIN, body)
            .unwrap_or_else(|error| panic!("cannot {method} {path}: {error}"))
    }

    /// Asks as the administrator for what has to work.
    pub fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (code, answer) = self.ask(method, path, body);
        assert!(
            (200..300).contains(&code),
            "{method} {path}: {code} {answer}"
        );
        answer
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> std::io::Result<(u16, Value)> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection =
            ClientConnection::new(Arc::clone(&self.tls), name).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut stream = StreamOwned::new(connection, stream);
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer)
            && error.kind() != std::io::ErrorKind::UnexpectedEof
        {
            return Err(error);
        }
        let answer = String::from_utf8_lossy(&answer);
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let (_, document) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let document = serde_json::from_str(document).unwrap_or_default();
        code.map(|code| (code, document))
            .ok_or_else(|| std::io::Error::other("no answer"))
    }
}

fn until<T>(deadline: Instant, logs: &Path, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "the API server is not ready in time: {}",
            fs::read_to_string(logs.join("kube-apiserver.log"))
                .unwrap_or_default()
                .lines()
                .rev()
                .take(5)
                .collect::<Vec<_>>()
                .join("\n")
        );
        thread::sleep(Duration::from_millis(100));
    }
}
