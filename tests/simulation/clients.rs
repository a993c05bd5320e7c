//! Clients that write all the time; what was acknowledged is written down by the models.

use std::rc::Rc;

use crate::{
    models::{Failure, Millis, Reply, ServerCommand},
    world::{Ctx, World},
};

/// How a client finds the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks Sentinels, also from time to time.
    Follows,
    /// Asks every server for its role.
    Polls,
    /// Stays where it is until it is refused; beside the server, so that no cut separates them.
    Stays,
}

/// Address of the machine of the clients that are on none of the units.
pub const CLIENT_HOST: &str = "10.1.0.1";

/// Milliseconds between two writes of a client.
const PERIOD: Millis = 100;

/// Writes until the life ends.
pub async fn run(ctx: Ctx, kind: Kind, client: u32) {
    let mut at: Option<Rc<str>> = None;
    let mut writes = 0_u64;
    loop {
        ctx.sleep(PERIOD).await;
        let pause = ctx.with(|world| {
            writes += 1;
            if at.is_none() || (kind != Kind::Stays && writes.is_multiple_of(10)) {
                at = find(world, kind).or_else(|| at.take());
            }
            // A machine that is gone is no place to be.
            at = at.take().filter(|host| world.exists(host));
            let Some(host) = at.clone() else { return 200 };
            let from = if kind == Kind::Stays {
                &*host
            } else {
                CLIENT_HOST
            };
            let written =
                world
                    .cluster
                    .server_command(from, &host, &ServerCommand::Write { client });
            match written {
                Ok(Reply::Written(_)) => {
                    world.oracles.written_at = world.sim.now();
                    0
                }
                Ok(_) | Err(Failure::Paused | Failure::NoReplicas | Failure::Misconf) => 0,
                Err(Failure::Unreachable) => {
                    at = None;
                    1_000
                }
                Err(Failure::Silent) => {
                    if kind != Kind::Stays {
                        at = None;
                    }
                    1_000
                }
                Err(_) => {
                    at = None;
                    0
                }
            }
        });
        if pause > 0 {
            ctx.sleep(pause).await;
        }
    }
}

fn find(world: &mut World, kind: Kind) -> Option<Rc<str>> {
    let count = world.machines.len();
    if count == 0 {
        return None;
    }
    let first = world.rng.usize(0..count);
    let hosts = world.machines.values().map(|machine| machine.host.as_str());
    let mut turned = hosts.clone().skip(first).chain(hosts.take(first));
    let cluster = &world.cluster;
    match kind {
        Kind::Follows => turned.find_map(|host| cluster.named_by(CLIENT_HOST, host)),
        Kind::Polls => turned.find(|host| cluster.serves(CLIENT_HOST, host)),
        Kind::Stays => turned.find(|host| cluster.serves(host, host)),
    }
    .map(Rc::from)
}
