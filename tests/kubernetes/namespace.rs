//! A model's namespace with the objects that Juju makes for an application of three units.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use serde_json::{Value, json};
use valkey_operator::kubernetes::{Access, Role, Wanted};

use crate::{cluster::Cluster, link::Link};

/// Name of the application.
pub const APP: &str = "valkey";

/// A namespace with an application.
pub struct Namespace {
    pub cluster: Arc<Cluster>,
    pub name: String,
    /// Id of the `StatefulSet`.
    pub owner: String,
    /// The way to the API server, as the charm sees it.
    pub link: Link,
    account: tempfile::TempDir,
}

/// What Juju lets the pods of an application do, before and after `juju trust --scope=cluster`.
fn rules(trusted: bool) -> Value {
    if trusted {
        json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }])
    } else {
        json!([
            { "apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "patch"] },
            { "apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"] },
        ])
    }
}

impl Namespace {
    pub fn make(cluster: Arc<Cluster>, name: String) -> Self {
        let namespace = json!({ "metadata": { "name": name } });
        cluster.must("POST", "/api/v1/namespaces", Some(&namespace));
        let account = tempfile::tempdir().unwrap();
        fs::write(account.path().join("ca.crt"), cluster.authorities()).unwrap();
        fs::write(account.path().join("namespace"), &name).unwrap();
        let link = Link::to(cluster.port);
        let mut made = Self {
            cluster,
            name,
            owner: String::new(),
            link,
            account,
        };
        made.post("serviceaccounts", &json!({ "metadata": { "name": APP } }));
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let role = json!({ "metadata": { "name": APP }, "rules": rules(false) });
        made.cluster.must(
            "POST",
            &format!("{rbac}/namespaces/{}/roles", made.name),
            Some(&role),
        );
        let binding = json!({
            "metadata": { "name": APP },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": APP },
            "subjects": [{ "kind": "ServiceAccount", "name": APP, "namespace": made.name }],
        });
        let path = format!("{rbac}/namespaces/{}/rolebindings", made.name);
        made.cluster.must("POST", &path, Some(&binding));
        let labels = json!({ "app.kubernetes.io/name": APP });
        let container = json!({ "name": "charm", "image": "charm" });
        let set = json!({
            "metadata": { "name": APP },
            "spec": {
                "replicas": 3,
                "serviceName": "valkey-endpoints",
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
            },
        });
        let path = format!("/apis/apps/v1/namespaces/{}/statefulsets", made.name);
        let set = made.cluster.must("POST", &path, Some(&set));
        set["metadata"]["uid"]
            .as_str()
            .unwrap()
            .clone_into(&mut made.owner);
        for number in 0..3 {
            made.add_pod(number);
        }
        let token = made.token(None);
        made.set_token(&token);
        made
    }

    /// Makes the pod of a unit, without the labels of any earlier one.
    pub fn add_pod(&self, number: u32) {
        let pod = json!({
            "metadata": {
                "name": format!("valkey-{number}"),
                "labels": { "app.kubernetes.io/name": APP, "app.kubernetes.io/managed-by": "juju" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "name": APP, "uid": self.owner,
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "serviceAccountName": APP,
                "containers": [{ "name": "charm", "image": "charm" }],
            },
        });
        self.post("pods", &pod);
    }

    /// Gives all rights, as `juju trust` does, or takes them.
    pub fn trust(&self, trusted: bool) {
        let role = json!({ "rules": rules(trusted) });
        self.set_role(&role);
    }

    /// Takes all rights.
    pub fn take_all_rights(&self) {
        self.set_role(&json!({ "rules": [] }));
    }

    fn set_role(&self, role: &Value) {
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let path = format!("{rbac}/namespaces/{}/roles/{APP}", self.name);
        self.cluster.must("PATCH", &path, Some(role));
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.name)
    }

    pub fn post(&self, kind: &str, object: &Value) -> Value {
        self.cluster.must("POST", &self.path(kind), Some(object))
    }

    pub fn patch(&self, object: &str, patch: &Value) -> Value {
        self.cluster.must("PATCH", &self.path(object), Some(patch))
    }

    pub fn delete(&self, object: &str) {
        let now = json!({ "gracePeriodSeconds": 0 });
        self.cluster.must("DELETE", &self.path(object), Some(&now));
    }

    /// Returns an object, or nothing if it is not there.
    pub fn get(&self, object: &str) -> Option<Value> {
        let (code, found) = self.cluster.ask("GET", &self.path(object), None);
        assert!(code == 200 || code == 404, "{object}: {code} {found}");
        (code == 200).then_some(found)
    }

    /// Returns which pods have a role: `valkey-0 primary, valkey-1 replica`.
    pub fn roles(&self) -> String {
        let pods = self.cluster.must("GET", &self.path("pods"), None);
        let mut roles: Vec<String> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|pod| {
                let pod = &pod["metadata"];
                let role = pod["labels"]["role"].as_str()?;
                assert_eq!(pod["labels"]["application-name"], APP, "{pod}");
                Some(format!("{} {role}", pod["name"].as_str().unwrap()))
            })
            .collect();
        roles.sort();
        roles.join(", ")
    }

    /// Returns a fresh token of the application's account, bound to a Secret if one is named.
    pub fn token(&self, secret: Option<&Value>) -> String {
        let bound = secret.map(|secret| {
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "name": secret["metadata"]["name"], "uid": secret["metadata"]["uid"],
            })
        });
        let request = json!({ "spec": { "expirationSeconds": 3600, "boundObjectRef": bound } });
        let answer = self.post(&format!("serviceaccounts/{APP}/token"), &request);
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Writes the token where Kubernetes mounts it.
    pub fn set_token(&self, token: &str) {
        fs::write(self.account.path().join("token"), token).unwrap();
    }

    /// Returns the directory of the service account.
    pub fn account(&self) -> &Path {
        self.account.path()
    }

    /// Returns how the charm reaches the API server.
    pub fn access(&self) -> Access {
        Access::new("127.0.0.1", self.link.port, self.account.path())
    }
}

/// What a unit wants: `0 primary, 1 replica, 2 -`.
pub fn wanted(me: u32, services: bool, roles: &str) -> Wanted {
    let roles: BTreeMap<String, Option<Role>> = roles
        .split(',')
        .map(str::trim)
        .filter(|role| !role.is_empty())
        .map(|role| {
            let (number, role) = role.split_once(' ').unwrap();
            let role = match role {
                "primary" => Some(Role::Primary),
                "replica" => Some(Role::Replica),
                _ => None,
            };
            (format!("valkey-{number}"), role)
        })
        .collect();
    Wanted {
        application: APP.to_owned(),
        me: format!("valkey-{me}"),
        roles,
        services,
    }
}
