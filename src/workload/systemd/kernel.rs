//! Kernel settings that a server wants, set in files of the unit's own and undone on removal.
//!
//! Transparent huge pages are not among them: the server turns them off for its own process, which
//! leaves the rest of the machine as it is.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::Names;
use crate::limits::ACCEPT_QUEUE_MIN;
use crate::workload::{WorkloadError, files};

/// Begins a line that says what a setting was before.
const BEFORE: &str = "# before: ";

/// A setting and what it has to be.
struct Wanted {
    name: &'static str,
    /// What is enough.
    suits: fn(u64) -> bool,
    /// What it is set to where it does not suit.
    value: u64,
    /// What happens otherwise.
    why: &'static str,
}

const WANTED: [Wanted; 2] = [
    Wanted {
        name: "vm.overcommit_memory",
        suits: |value| value == 1,
        value: 1,
        why: "snapshots can fail when memory is short",
    },
    Wanted {
        name: "net.core.somaxconn",
        suits: |value| value >= ACCEPT_QUEUE_MIN,
        value: ACCEPT_QUEUE_MIN,
        why: "connections can be refused when many come at once",
    },
];

/// Where the kernel shows its settings.
const KERNEL: &str = "/proc/sys";

fn setting(kernel: &Path, name: &str) -> PathBuf {
    kernel.join(name.replace('.', "/"))
}

fn current(kernel: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(setting(kernel, name))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Says what does not suit now, each with what it leads to.
#[must_use]
pub fn complaints() -> Vec<String> {
    WANTED
        .iter()
        .filter_map(|wanted| {
            let value = current(Path::new(KERNEL), wanted.name)?;
            (!(wanted.suits)(value)).then(|| format!("{} is {value}: {}", wanted.name, wanted.why))
        })
        .collect()
}

/// Returns what settings were before, by the text of a file.
fn befores(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.strip_prefix(BEFORE)?.split_once(" = ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// Returns the files of other units of this charm on the machine.
fn others(own: &Path) -> Vec<PathBuf> {
    let Some(directory) = own.parent() else {
        return Vec::new();
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path != own)
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("60-charmed-"))
        })
        .collect()
}

fn render(unit: &str, settings: &[(String, u64, u64)]) -> String {
    let mut text = format!("# Written by the charm of unit {unit}; removed with it.\n");
    for (name, before, value) in settings {
        let _ = write!(text, "{BEFORE}{name} = {before}\n{name} = {value}\n");
    }
    text
}

/// Sets what does not suit, now and for the next boot. What is not permitted is left and logged.
pub fn apply(names: &Names) -> Result<(), WorkloadError> {
    apply_to(Path::new(KERNEL), &names.sysctl_file(), names.unit())
}

fn apply_to(kernel: &Path, path: &Path, unit: &str) -> Result<(), WorkloadError> {
    let of_others: Vec<(String, u64)> = others(path)
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| befores(&text))
        .collect();
    let own = files::read(path)?.unwrap_or_default();
    let mut known = befores(&String::from_utf8_lossy(&own));
    known.extend(of_others);
    let before_of = |name: &str| {
        known
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, before)| *before)
    };
    let mut settings = Vec::new();
    for wanted in &WANTED {
        let Some(value) = current(kernel, wanted.name) else {
            continue;
        };
        if (wanted.suits)(value) {
            if let Some(before) = before_of(wanted.name) {
                settings.push((wanted.name.to_owned(), before, wanted.value));
            }
            continue;
        }
        match fs::write(setting(kernel, wanted.name), wanted.value.to_string()) {
            Ok(()) => {
                info!(
                    setting = wanted.name,
                    before = value,
                    "Kernel setting changed"
                );
                let before = before_of(wanted.name).unwrap_or(value);
                settings.push((wanted.name.to_owned(), before, wanted.value));
            }
            // As in a container: whoever runs the machine has to set it.
            Err(error) => {
                warn!(
                    setting = wanted.name,
                    value,
                    error = format!("{error:#}"),
                    "Cannot change a kernel setting"
                );
            }
        }
    }
    if settings.is_empty() {
        return Ok(());
    }
    let text = render(unit, &settings);
    if text.as_bytes() == own {
        return Ok(());
    }
    files::write_atomic(path, text.as_bytes(), 0o644)
}

/// Puts back what was before, unless another unit of this charm still needs it.
pub fn undo(names: &Names) -> Result<(), WorkloadError> {
    undo_in(Path::new(KERNEL), &names.sysctl_file())
}

fn undo_in(kernel: &Path, path: &Path) -> Result<(), WorkloadError> {
    let Some(bytes) = files::read(path)? else {
        return Ok(());
    };
    if others(path).is_empty() {
        for (name, before) in befores(&String::from_utf8_lossy(&bytes)) {
            // Only what is ours: a file beside ours must not lead anywhere else.
            if !WANTED.iter().any(|wanted| wanted.name == name) {
                continue;
            }
            if let Err(error) = fs::write(setting(kernel, &name), before.to_string()) {
                warn!(
                    setting = name,
                    error = format!("{error:#}"),
                    "Cannot put a kernel setting back"
                );
            }
        }
    }
    files::remove(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_is_read_back_from_the_file() {
        let settings = [
            ("vm.overcommit_memory".to_owned(), 0, 1),
            ("net.core.somaxconn".to_owned(), 128, 511),
        ];
        let text = render("valkey/0", &settings);
        assert_eq!(
            text,
            "# Written by the charm of unit valkey/0; removed with it.\n\
             # before: vm.overcommit_memory = 0\nvm.overcommit_memory = 1\n\
             # before: net.core.somaxconn = 128\nnet.core.somaxconn = 511\n"
        );
        let expected: Vec<(String, u64)> = settings
            .iter()
            .map(|(name, before, _)| (name.clone(), *before))
            .collect();
        assert_eq!(befores(&text), expected);
        assert!(befores("# before: x = y\n# before\n").is_empty());
    }

    /// Says what the settings are in a directory that stands in for the kernel's.
    fn values(kernel: &Path) -> Vec<Option<u64>> {
        WANTED
            .iter()
            .map(|wanted| current(kernel, wanted.name))
            .collect()
    }

    #[test]
    fn the_last_unit_that_goes_puts_back_what_was_before_the_first_came() {
        let place = tempfile::tempdir().unwrap();
        let kernel = place.path().join("kernel");
        for (name, value) in [("vm/overcommit_memory", "0"), ("net/core/somaxconn", "128")] {
            let path = kernel.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let file = |unit: &str| place.path().join(format!("60-charmed-{unit}.conf"));
        let (one, other) = (file("valkey-0"), file("valkey-1"));
        apply_to(&kernel, &one, "valkey/0").unwrap();
        assert_eq!(values(&kernel), [Some(1), Some(511)]);
        // It finds all as it should be, and yet needs what the first has set.
        apply_to(&kernel, &other, "valkey/1").unwrap();
        undo_in(&kernel, &one).unwrap();
        assert_eq!(values(&kernel), [Some(1), Some(511)]);
        assert!(!one.exists() && other.exists());
        // A line of somebody else's leads nowhere.
        let text = fs::read_to_string(&other).unwrap() + "# before: kernel.panic = 1\n";
        fs::write(&other, text).unwrap();
        undo_in(&kernel, &other).unwrap();
        assert_eq!(values(&kernel), [Some(0), Some(128)]);
        assert!(!other.exists() && !kernel.join("kernel").exists());
    }
}
