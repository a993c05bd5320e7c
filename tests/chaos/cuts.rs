//! The network loses or rejects packets: all of a unit's, one way, between two, and the clients'.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    net::{CLIENT_ADDRESS, How, Way},
    report::{Bars, CUT_OFF, FENCED},
    support::{
        hooks::signal,
        model::{A_UNIT, SERVER_PORT},
        wire::info_field,
    },
    world::World,
    writers::v4,
};

/// How long a cut lasts: long after a replica was promoted.
const CUT: Duration = Duration::from_secs(14);

/// How long the agent of a unit needs to come back after its network did.
const AGENT_AWAY: Duration = Duration::from_secs(8);

/// How long a displaced primary has a replica again before anybody acts: longer than that takes otherwise, and shorter than
/// the time for which its fence is held without a word from the Sentinels.
const STILL_FOLLOWED: Duration = Duration::from_secs(5);

/// What holds for every isolated primary.
const ISOLATED: Bars = Bars {
    lost: None,
    gap: Some(CUT_OFF),
    displaced_for: Some(FENCED),
    displaced_after_heal: Some(0),
    unkept_allowed: false,
    confirmed_allowed: false,
};

/// Isolates the primary, until a replica was promoted and for some time more.
fn isolate_primary(case: &'static str, way: Way, how: How) {
    let mut world = World::new(case);
    let old = world.primary.clone();
    world.begin();
    world.isolate(&old, way, how);
    world.replaced(&old);
    world.last(CUT);
    world.rejoin(&old);
    world.report(3).judge(&ISOLATED);
}

#[test]
fn cut_drop_both_ways() {
    isolate_primary("cut_drop_both_ways", Way::Both, How::Drop);
}

#[test]
fn cut_reject_both_ways() {
    isolate_primary("cut_reject_both_ways", Way::Both, How::Reject);
}

#[test]
fn cut_drop_what_it_sends() {
    isolate_primary("cut_drop_what_it_sends", Way::Out, How::Drop);
}

#[test]
fn cut_drop_what_it_is_sent() {
    isolate_primary("cut_drop_what_it_is_sent", Way::In, How::Drop);
}

#[test]
fn cut_reject_what_it_sends() {
    isolate_primary("cut_reject_what_it_sends", Way::Out, How::Reject);
}

#[test]
fn cut_reject_what_it_is_sent() {
    isolate_primary("cut_reject_what_it_is_sent", Way::In, How::Reject);
}

#[test]
fn cut_and_the_agent_stays_away() {
    let mut world = World::new("cut_and_the_agent_stays_away");
    let old = world.primary.clone();
    world.begin();
    world.isolate(&old, Way::Both, How::Drop);
    world.replaced(&old);
    world.last(CUT);
    world.net.heal();
    world.end();
    // Sentinel makes it a replica long before a hook can run there.
    std::thread::sleep(AGENT_AWAY);
    world.model.handle(&["heal", &old.name]);
    world.report(3).judge(&ISOLATED);
}

#[test]
fn cut_until_it_is_replaced() {
    let mut world = World::new("cut_until_it_is_replaced");
    let old = world.primary.clone();
    let began = world.begin();
    world.isolate(&old, Way::Both, How::Drop);
    world.replaced(&old);
    let away = began.elapsed();
    world.rejoin(&old);
    let mut report = world.report(3);
    report.note = format!("cut off for {away:?}");
    // Both are primary for a moment, and a replica may still follow the old one; but its fence is held.
    report.judge(&ISOLATED);
}

#[test]
fn cut_while_the_agents_go_on() {
    let mut world = World::new("cut_while_the_agents_go_on");
    let old = world.primary.clone();
    // Every hook looks again, and the one that is cut off decides by what it sees.
    world.model.handle(&["setting", "update-status-seconds=2"]);
    world.begin();
    world.cut(&old, Way::Both, How::Drop);
    world.replaced(&old);
    world.last(CUT);
    world.net.heal();
    world.end();
    world.report(3).judge(&ISOLATED);
}

#[test]
fn cut_off_with_one_replica() {
    let mut world = World::new("cut_off_with_one_replica");
    let (primary, near, far) = (
        v4(world.primary.address),
        v4(world.replicas[0].address),
        v4(world.replicas[1].address),
    );
    world.begin();
    let others = [far, CLIENT_ADDRESS];
    world.net.cut(primary, &others, Way::Both, How::Drop);
    world.net.cut(near, &others, Way::Both, How::Drop);
    world.last(CUT);
    world.net.heal();
    world.end();
    let report = world.report(3);
    // The majority is with the primary, which goes on; clients on the other side wait.
    report.judge(&Bars {
        lost: Some(0),
        gap: Some(CUT + Duration::from_secs(3)),
        ..Bars::default()
    });
}

#[test]
fn cut_from_one_replica() {
    let mut world = World::new("cut_from_one_replica");
    let (primary, replica) = (v4(world.primary.address), v4(world.replicas[0].address));
    world.begin();
    world.net.cut(primary, &[replica], Way::Both, How::Drop);
    world.last(CUT);
    world.net.heal();
    world.end();
    let report = world.report(3);
    // The majority sees the primary: nothing changes for clients.
    report.judge(&Bars {
        lost: Some(0),
        gap: Some(Duration::from_secs(1)),
        ..Bars::default()
    });
}

#[test]
fn cut_from_the_clients_only() {
    let mut world = World::new("cut_from_the_clients_only");
    world.begin();
    let primary = v4(world.primary.address);
    world
        .net
        .cut(primary, &[CLIENT_ADDRESS], Way::Both, How::Drop);
    world.last(CUT);
    world.net.heal();
    world.end();
    let report = world.report(3);
    report.judge(&Bars {
        lost: Some(0),
        gap: Some(CUT + Duration::from_secs(3)),
        ..Bars::default()
    });
}

/// The moment in which a displaced primary is back in touch and a replica still follows it, made to last: the Sentinels that
/// would turn both around do nothing for a while.
#[test]
fn cut_and_a_replica_still_follows_it() {
    let mut world = World::new("cut_and_a_replica_still_follows_it");
    let old = world.primary.clone();
    let sentinels = [&world.primary, &world.replicas[0], &world.replicas[1]]
        .map(|unit| world.model.sentinel_process(unit.address));
    world.begin();
    world.isolate(&old, Way::Both, How::Drop);
    let new = world.replaced(&old);
    world.last(CUT);
    for process in sentinels {
        signal(process, Signal::STOP);
    }
    world.rejoin(&old);
    let follower = world.replicas.iter().find(|unit| unit.name != new.name);
    let follower = follower.expect("another replica");
    let mut wire = world.model.server(follower.address).unwrap();
    let address = old.address.to_string();
    let told = wire.call(&["REPLICAOF", &address, &SERVER_PORT.to_string()]);
    assert_eq!(told.unwrap().text().as_deref(), Some("OK"));
    world
        .model
        .wait_until("the old primary has a replica again", A_UNIT, || {
            let mut wire = world
                .model
                .server(old.address)
                .map_err(|error| error.to_string())?;
            let info = wire.call(&["INFO", "replication"]);
            let info = info.ok().and_then(|info| info.text()).unwrap_or_default();
            let attached = info_field(&info, "connected_slaves").is_some_and(|count| count != "0");
            let primary = info_field(&info, "role").as_deref() == Some("master");
            match (primary, attached) {
                (true, true) => Ok(()),
                _ => Err(info),
            }
        });
    std::thread::sleep(STILL_FOLLOWED);
    for process in sentinels {
        World::wake(process);
    }
    world.report(3).judge(&Bars {
        // Nobody elects, and the new primary has no replica either.
        gap: None,
        ..ISOLATED
    });
}
