//! The network loses or rejects packets: all of a unit's, one way, between two, and the clients'.

use std::time::Duration;

use crate::{
    net::{CLIENT_ADDRESS, How, Way},
    report::{Bars, CUT_OFF, FENCED},
    world::World,
    writers::v4,
};

/// How long a cut lasts: long after a replica was promoted.
const CUT: Duration = Duration::from_secs(14);

/// How long the agent of a unit needs to come back after its network did.
const AGENT_AWAY: Duration = Duration::from_secs(8);

/// How long a primary that is back in touch just as another is promoted may go on: Sentinel sees a promotion, and points the
/// other replicas to the new primary, within about a second each.
const TURNED_AROUND: Duration = Duration::from_secs(3);

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
    // Both are primary for a moment. The replica that still follows the old one lifts its fence
    // and even confirms what it takes, until Sentinel has turned that replica around.
    report.judge(&Bars {
        displaced_for: Some(away + TURNED_AROUND),
        displaced_after_heal: None,
        confirmed_allowed: true,
        ..ISOLATED
    });
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
