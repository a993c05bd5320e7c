//! What runs in a pod before anything else: it makes the file system that a container sees, and becomes Pebble.
//!
//! It is called in namespaces that were made for it, with a file that says what to do. Nothing that it mounts is seen
//! outside.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, unmount,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::limits::{COMMAND_POLL, POD_PLACE_POLL, SWEEPS_MAX};

use super::super::processes;

/// Where the machine's own root is while the container's is being made.
const OLD_ROOT: &str = "/.old";

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inside {
    /// Holds the pod's network and name.
    Pause {
        /// The pod's host name.
        hostname: String,
        /// Where to write that it is ready.
        note: PathBuf,
    },
    /// Becomes a container's first process.
    Container(Box<View>),
}

/// What a container sees and runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct View {
    /// Empty directory on which the file system is made.
    pub place: PathBuf,
    /// Directories that are not seen.
    pub hidden: Vec<PathBuf>,
    /// What is seen elsewhere: path of this machine, path in the container, whether it cannot be written.
    pub shown: Vec<(PathBuf, PathBuf, bool)>,
    /// Directories that are not seen though they lie in what is shown.
    pub hidden_within: Vec<PathBuf>,
    /// Texts of files.
    pub files: BTreeMap<PathBuf, String>,
    /// Links: path and target.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// User and group.
    pub user: (u32, u32),
    /// Program, its arguments and environment.
    pub program: PathBuf,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// Where to write the process id that this machine knows it by.
    pub note: PathBuf,
}

/// Does what a file says.
///
/// # Errors
///
/// When the file cannot be understood or something cannot be made.
pub fn run(spec: &Path) -> Result<()> {
    let text = fs::read(spec).with_context(|| format!("cannot read {}", spec.display()))?;
    match serde_json::from_slice(&text)
        .with_context(|| format!("cannot understand {}", spec.display()))?
    {
        Inside::Pause { hostname, note } => {
            rustix::system::sethostname(hostname.as_bytes())
                .context("cannot set the pod's host name")?;
            let own = std::process::id().to_string();
            write(&note, &own)?;
            // A pod lives on without its engine, but not without its place.
            while fs::read_to_string(&note).is_ok_and(|text| text == own) {
                std::thread::sleep(POD_PLACE_POLL);
            }
            end_all();
            Ok(())
        }
        Inside::Container(view) => become_first(&view),
    }
}

/// Ends all other processes in this one's network: those of the pod.
fn end_all() {
    let Some(network) = processes::network(std::process::id()) else {
        return;
    };
    for _ in 0..SWEEPS_MAX {
        let mut left = processes::in_network(&network);
        left.retain(|pid| *pid != std::process::id());
        if left.is_empty() {
            return;
        }
        for pid in left {
            processes::signal(pid, Signal::KILL);
        }
        std::thread::sleep(COMMAND_POLL);
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    // Renamed into place: who waits for it reads it whole.
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the view and becomes the program.
fn become_first(view: &View) -> Result<()> {
    // This is the machine's own /proc still, so it tells the id that the machine knows.
    let pid = fs::read_link("/proc/self").context("cannot read /proc/self")?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .context("cannot make mounts private")?;
    let root = layered(&view.place)?;
    enter(&root)?;
    devices()?;
    for path in &view.hidden {
        if path.is_dir() {
            blank(path)?;
        }
    }
    for (from, to, read_only) in &view.shown {
        show(from, to, *read_only)?;
    }
    for path in &view.hidden_within {
        if path.is_dir() {
            blank(path)?;
        }
    }
    for (path, text) in &view.files {
        clear(path)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for (path, target) in &view.links {
        clear(path)?;
        symlink(target, path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    write(
        &Path::new(OLD_ROOT).join(view.note.strip_prefix("/").unwrap_or(&view.note)),
        &pid.display().to_string(),
    )?;
    unmount(OLD_ROOT, UnmountFlags::DETACH).context("cannot leave the machine's root")?;
    let mut command = Command::new(&view.program);
    command
        .args(&view.arguments)
        .env_clear()
        .envs(&view.environment)
        .current_dir("/");
    let (user, group) = view.user;
    if (user, group) != (0, 0) {
        command.gid(group).uid(user);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", view.program.display()))
}

/// Lays an empty layer over the machine's root: what is written there goes with the container.
fn layered(place: &Path) -> Result<PathBuf> {
    tmpfs(place, 0o755)?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| place.join(name));
    for path in [&upper, &work, &root] {
        fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    let options = format!(
        "lowerdir=/,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    let options = CString::new(options).context("cannot lay a file system over the root")?;
    mount(
        "overlay",
        &root,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .context("cannot lay a file system over the root; the kernel needs overlayfs")?;
    Ok(root)
}

/// Makes a directory the root; the old one is below it.
fn enter(root: &Path) -> Result<()> {
    let old = root.join(OLD_ROOT.trim_start_matches('/'));
    fs::create_dir(&old).with_context(|| format!("cannot make {}", old.display()))?;
    rustix::process::pivot_root(root, &old).context("cannot change the root")?;
    std::env::set_current_dir("/").context("cannot enter the new root")
}

/// Mounts what every container has: processes of its own, devices, temporary files.
fn devices() -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("proc", "/proc", "proc", safe, None).context("cannot mount /proc")?;
    for path in ["/dev", "/sys"] {
        let from = format!("{OLD_ROOT}{path}");
        mount_bind_recursive(from, path).with_context(|| format!("cannot show {path}"))?;
    }
    tmpfs(Path::new("/tmp"), 0o1777)?;
    if Path::new("/dev/shm").is_dir() {
        tmpfs(Path::new("/dev/shm"), 0o1777)?;
    }
    Ok(())
}

/// Mounts an empty file system in memory.
fn tmpfs(path: &Path, mode: u32) -> Result<()> {
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount a file system on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Covers a directory by an empty one.
fn blank(path: &Path) -> Result<()> {
    tmpfs(path, 0o755)
}

/// Shows a file or directory of the machine at a path of the container.
fn show(from: &Path, to: &Path, read_only: bool) -> Result<()> {
    let source = Path::new(OLD_ROOT).join(from.strip_prefix("/").unwrap_or(from));
    let told = || format!("cannot show {} at {}", from.display(), to.display());
    let data = fs::metadata(&source).with_context(told)?;
    if data.is_dir() {
        fs::create_dir_all(to).with_context(told)?;
    } else {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(told)?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(to)
            .with_context(told)?;
    }
    mount_bind(&source, to).with_context(told)?;
    if read_only {
        rustix::mount::mount_remount(to, MountFlags::BIND | MountFlags::RDONLY, c"")
            .with_context(told)?;
    }
    Ok(())
}

/// Makes room for a file or link.
fn clear(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", path.display()))
        }
        _ => Ok(()),
    }
}
