//! The memory that a server can use.

use std::fs;

/// What the kernel says of the whole machine.
pub(super) const MACHINE: &str = "/proc/meminfo";

/// What the control group of a container grants.
pub(super) const GROUP: &str = "/sys/fs/cgroup/memory.max";

/// Returns the memory in bytes where this process runs.
pub(super) fn here() -> Option<u64> {
    let read = |path| fs::read_to_string(path).ok();
    least(read(MACHINE).as_deref(), read(GROUP).as_deref())
}

/// Returns the memory in bytes by the text of [`MACHINE`] and, where a group grants less, of [`GROUP`].
pub(super) fn least(machine: Option<&str>, group: Option<&str>) -> Option<u64> {
    let total = machine.and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    });
    let group = group.and_then(|text| text.trim().parse().ok());
    match (total, group) {
        (Some(total), Some(group)) => Some(total.min(group)),
        (total, group) => total.or(group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_machine_and_group_counts() {
        const MACHINE: &str = "MemTotal:        8 kB\nMemFree: 1 kB\n";
        for (machine, group, expected) in [
            (Some(MACHINE), Some("max\n"), Some(8192)),
            (Some(MACHINE), Some("4096\n"), Some(4096)),
            (Some(MACHINE), Some("16384\n"), Some(8192)),
            (Some(MACHINE), None, Some(8192)),
            (None, Some("4096"), Some(4096)),
            (Some("MemTotal: many\n"), None, None),
            (None, None, None),
        ] {
            assert_eq!(least(machine, group), expected, "{machine:?} {group:?}");
        }
    }
}
