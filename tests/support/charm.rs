//! Lays out the charm as Juju would unpack it, around the binary that cargo built for this test.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
};

/// Returns the folder of the charm under test; laid out once in each test process.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| lay_out().expect("cannot lay out the charm"))
}

fn lay_out() -> io::Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = Path::new(env!("CARGO_BIN_EXE_valkey-operator"));
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    forget_finished(parent)?;
    let folder = parent.join(format!("charm-{}", process::id()));
    fs::create_dir_all(folder.join("bin"))?;
    fs::create_dir_all(folder.join("hooks"))?;
    for name in [
        "metadata.yaml",
        "config.yaml",
        "actions.yaml",
        "manifest.yaml",
        "LICENSE",
        "dispatch",
    ] {
        fs::copy(source.join(name), folder.join(name))?;
    }
    fs::set_permissions(folder.join("dispatch"), fs::Permissions::from_mode(0o755))?;
    // A copy, so that a build that runs meanwhile does not change what is tested.
    fs::copy(binary, folder.join("bin/valkey-operator"))?;
    for hook in ["install", "start", "upgrade-charm"] {
        symlink("../dispatch", folder.join("hooks").join(hook))?;
    }
    Ok(folder)
}

/// Removes what test processes that have ended left behind.
fn forget_finished(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("charm-"));
        if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another test process may remove it at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
