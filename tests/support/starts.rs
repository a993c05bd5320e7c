//! Watches that units start one at a time: a server comes up only when all that came before belong.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{
    meanwhile::meanwhile,
    model::{Model, SERVER_PORT},
};

/// How often it is looked whether another server has come up.
const LOOK: Duration = Duration::from_millis(40);

/// Runs `body` and watches the servers that come up meanwhile.
///
/// # Panics
///
/// When a server came up before the Sentinels of all earlier ones knew each other.
pub fn one_at_a_time<T>(model: &Model, body: impl FnOnce() -> T) -> T {
    let (result, violations) = meanwhile(|done| watch(model, done), body);
    assert!(
        violations.is_empty(),
        "units did not start one at a time: {violations:?}"
    );
    result
}

fn watch(model: &Model, done: &AtomicBool) -> Vec<String> {
    let serving = |model: &Model| -> Vec<IpAddr> {
        model
            .units()
            .into_iter()
            .map(|unit| unit.address)
            .filter(|address| serves(*address))
            .collect()
    };
    let mut members = serving(model);
    let mut violations = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let fresh: Vec<IpAddr> = serving(model)
            .into_iter()
            .filter(|address| !members.contains(address))
            .collect();
        if fresh.len() > 1 {
            violations.push(format!("{fresh:?} came up together"));
        }
        for newcomer in &fresh {
            for member in &members {
                violations.extend(too_early(model, *member, members.len(), *newcomer));
            }
        }
        members.extend(fresh);
        thread::sleep(LOOK);
    }
    violations
}

fn serves(address: IpAddr) -> bool {
    TcpStream::connect_timeout(
        &SocketAddr::new(address, SERVER_PORT),
        Duration::from_millis(200),
    )
    .is_ok()
}

/// Tells why `newcomer` came too early, if the Sentinel of `member` does not know all the others.
fn too_early(model: &Model, member: IpAddr, members: usize, newcomer: IpAddr) -> Option<String> {
    let known = model
        .sentinel(member)
        .and_then(|mut wire| wire.call(&["SENTINEL", "MASTER", "primary"]))
        .ok()
        .and_then(|view| view.field("num-other-sentinels")?.parse::<usize>().ok());
    (known.is_none_or(|known| known + 1 < members)).then(|| {
        format!("{newcomer} came up while the Sentinel of {member} knew {known:?} others of {members} members")
    })
}
