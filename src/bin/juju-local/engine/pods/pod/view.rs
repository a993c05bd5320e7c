//! What the containers of a pod see and run.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::super::super::model::application_of;
use super::super::DOMAIN;
use super::super::inside::View;
use super::{CHARM, PATH, Pod, words};

impl Pod {
    /// Says what a container sees and runs.
    pub(super) fn view(
        &self,
        engine_program: &Path,
        container: &str,
        address: Ipv4Addr,
    ) -> Result<View> {
        let facts = self
            .containers
            .get(container)
            .with_context(|| format!("{} has no container {container:?}", self.unit))?;
        let place = self.folder.join("root");
        let shared = self.shared(container);
        for path in [&place, &shared] {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let (user, group) = facts.user;
        std::os::unix::fs::chown(&shared, Some(user), Some(group))
            .with_context(|| format!("cannot give {} away", shared.display()))?;
        let mut view = View {
            place,
            hidden: Vec::new(),
            shown: vec![(
                self.pebble.clone(),
                PathBuf::from("/charm/bin/pebble"),
                true,
            )],
            hidden_within: Vec::new(),
            files: self.files(address),
            links: BTreeMap::new(),
            user: facts.user,
            program: PathBuf::from("/charm/bin/pebble"),
            arguments: words(&format!(
                "run --create-dirs --hold --http :{} --verbose",
                facts.port
            )),
            environment: self.environment.clone(),
            note: self.note(container),
        };
        for (name, value) in [("PATH", PATH), ("LANG", "C.UTF-8")] {
            view.environment.insert(name.to_owned(), value.to_owned());
        }
        for (from, to) in &facts.storage {
            fs::create_dir_all(from).with_context(|| format!("cannot make {}", from.display()))?;
            view.shown.push((from.clone(), to.clone(), false));
        }
        if let Some(account) = &self.service_account {
            let to = PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount");
            view.shown.push((account.clone(), to, true));
        }
        if container == CHARM {
            self.charm_view(engine_program, &mut view);
        } else {
            view.hidden.push(self.state.clone());
            view.shown
                .push((shared, PathBuf::from("/charm/container"), false));
            for (name, value) in [
                ("JUJU_CONTAINER_NAME", container),
                ("PEBBLE_SOCKET", "/charm/container/pebble.socket"),
                ("PEBBLE", "/charm/container/pebble"),
                ("PEBBLE_COPY_ONCE", "/var/lib/pebble/default"),
            ] {
                view.environment.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(view)
    }

    /// Adds what only the charm container sees.
    fn charm_view(&self, engine_program: &Path, view: &mut View) {
        // The charm's files, the tools and the agent's socket lie in the model's directory; the rest is not for it.
        let same = |path: &Path, read_only| (path.to_path_buf(), path.to_path_buf(), read_only);
        let containers = self.folder.join("containers");
        view.shown.push(same(&self.state, false));
        view.shown.push(same(engine_program, true));
        view.shown
            .extend(self.host_paths.iter().map(|path| same(path, false)));
        view.hidden_within
            .extend(["storage", "pods", "secrets"].map(|name| self.state.join(name)));
        view.shown
            .push((containers, PathBuf::from("/charm/containers"), false));
        view.links.insert(
            PathBuf::from("/usr/bin/juju-exec"),
            self.tools.join("juju-exec"),
        );
        // Its services are not ours: it only takes in the processes that lose their parents.
        view.environment
            .insert("PEBBLE".to_owned(), "/var/lib/pebble/default".to_owned());
    }

    /// Texts of the files that tell a container of the network.
    fn files(&self, address: Ipv4Addr) -> BTreeMap<PathBuf, String> {
        let (hostname, namespace) = (self.hostname(), &self.namespace);
        let application = application_of(&self.unit);
        let name = format!("{hostname}.{application}-endpoints.{namespace}.svc.{DOMAIN}");
        let hosts = format!("127.0.0.1\tlocalhost\n{address}\t{name}\t{hostname}\n");
        let resolver = format!(
            "search {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\nnameserver {}\noptions ndots:5\n",
            self.bridge.address()
        );
        BTreeMap::from([
            (PathBuf::from("/etc/hosts"), hosts),
            (PathBuf::from("/etc/resolv.conf"), resolver),
            (PathBuf::from("/etc/hostname"), format!("{hostname}\n")),
        ])
    }
}
