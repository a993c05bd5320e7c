//! Valkey comes onto machines: what a unit says when it cannot, and how a resource helps.

use std::{path::Path, process::Command, time::Duration};

use crate::{
    machines::{Machines, chosen_release, root_file_system},
    support::{
        charm,
        model::{A_UNIT, APPLICATION},
    },
};

const UNIT: &str = "valkey/0";
/// Longest until a machine has booted and apt has tried an archive in vain.
const REFUSED: Duration = Duration::from_secs(120);

/// Leaves apt an archive that nobody serves.
const CUT_OFF: &str = "
. /etc/os-release
echo \"deb [trusted=yes] http://127.0.0.1:9/ $VERSION_CODENAME main\" >/etc/apt/sources.list
rm -rf /srv/packages /var/lib/apt/lists/*
";

/// Packs the packages that machines are usually offered into one file.
fn packages(place: &Path) -> String {
    let root = root_file_system(chosen_release().as_deref());
    let resource = place.join("valkey-server.bin");
    let packed = Command::new("sh")
        .args([
            "-c",
            "cd \"$1/srv/packages\" && tar --create --gzip --file \"$2\" -- *.deb",
            "sh",
        ])
        .arg(root)
        .arg(&resource)
        .status()
        .unwrap();
    assert!(packed.success());
    format!("valkey-server={}", resource.display())
}

#[test]
fn a_machine_without_an_archive_says_so_and_takes_a_resource() {
    let place = tempfile::tempdir().unwrap();
    let machines = Machines::new();
    machines.prepare(CUT_OFF);
    let model = machines.model(charm::folder().to_owned());
    model.deploy(1, &[]);
    model.wait_until("the unit says what it lacks", REFUSED, || {
        match &model.units()[..] {
            [unit]
                if unit.workload == "blocked"
                    && unit.message.contains("cannot be reached")
                    && unit.message.contains("attach the resource") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    });
    // Other packages may start their services again.
    assert!(
        machines
            .try_on(UNIT, "test -e /usr/sbin/policy-rc.d")
            .is_err()
    );

    let resource = packages(place.path());
    let charm = charm::folder().to_str().unwrap();
    model.juju(&[
        "refresh",
        APPLICATION,
        "--path",
        charm,
        "--resource",
        &resource,
    ]);
    model.settled(1, A_UNIT * 2);
    let own = machines.try_on(UNIT, "systemctl is-active valkey-server.service");
    assert!(own.is_err(), "the package's own service runs: {own:?}");
    let boots = machines.try_on(UNIT, "systemctl is-enabled valkey-server.service");
    assert!(
        boots.is_err(),
        "it would come up with the machine: {boots:?}"
    );

    model.remove_units(&[UNIT]);
    let left = machines.left_by(UNIT, &["etc/systemd", "opt", "usr/sbin"]);
    let ours: Vec<&String> = left
        .iter()
        .filter(|path| path.contains("charmed") || path.contains("valkey-0"))
        .chain(left.iter().filter(|path| path.ends_with("policy-rc.d")))
        .collect();
    assert!(ours.is_empty(), "left behind: {ours:?}");
    // Whether it starts is the administrator's business again; by itself it does not.
    let service = left
        .iter()
        .find(|path| path.ends_with("valkey-server.service"));
    assert!(service.is_none(), "left behind: {service:?}");
}
