//! Handing the role of primary over, as `src/valkey/handover`: votes, promotion, hello, proof.

use futures::future::{join, join_all};
use valkey_operator::limits::{
    HANDOVER_LOOK_LIMIT, HANDOVER_PAUSE_LIMIT, HANDOVER_PROOF_LIMIT, ORPHAN_DRAIN_LIMIT,
    ORPHAN_STILL, PRIORITY_NEVER, PRIORITY_PROMOTABLE,
};

use super::{
    ms,
    sentinels::{Sentinels, Tally},
};
use crate::{
    hook::{Run, Trouble, trouble},
    models::{FailoverState, Failure, Millis, Reply, ServerCommand, ServerFacts},
};

/// What a change of the primary needs to know.
pub struct Handover {
    /// The present primary.
    pub from: String,
    /// The next one.
    pub to: String,
    /// The other servers.
    pub others: Vec<String>,
    /// All Sentinels that belong.
    pub sentinels: Vec<String>,
    /// Servers that are leaving.
    pub leaving: Vec<String>,
    /// Whether votes of all that answer do where no majority answers.
    pub allow_minority: bool,
}

/// Time between two looks while a role changes hands; the models move in larger steps than servers.
const POLL: Millis = 5;

async fn info(run: &Run, host: &str) -> Result<ServerFacts, Failure> {
    match run.server(host, ServerCommand::Info).await? {
        Reply::Server(facts) => Ok(*facts),
        other => Err(Failure::Error(format!("{other:?}"))),
    }
}

/// As [`info`], but given up after a moment: a frozen server must not keep clients waiting.
async fn quick_info(run: &Run, host: &str) -> Option<Result<ServerFacts, Failure>> {
    let limit = std::pin::pin!(run.ctx.sleep(ms(HANDOVER_LOOK_LIMIT)));
    let asked = std::pin::pin!(info(run, host));
    match futures::future::select(asked, limit).await {
        futures::future::Either::Left((answer, _)) => Some(answer),
        futures::future::Either::Right(_) => None,
    }
}

fn synced(facts: &ServerFacts) -> bool {
    facts.follows.is_some() && facts.link_up && !facts.syncing && !facts.loading
}

/// Hands the role of `plan.from` over to `plan.to`.
pub async fn hand_over(run: &Run, plan: &Handover) -> Result<(), Trouble> {
    if run.ctx.with(|world| world.deciders.blind_handover) {
        run.server(&plan.to, ServerCommand::ReplicaOf(None)).await?;
        return Ok(());
    }
    let ((old, new), sentinels) = join(
        join(info(run, &plan.from), info(run, &plan.to)),
        Sentinels::gather(run, &plan.sentinels),
    )
    .await;
    let (old, new) = (old?, new?);
    check_servers(plan, &old, &new)?;
    sentinels.agree_on(&plan.from)?;
    let mut tally = sentinels.win(run, plan.allow_minority).await?;
    let old_offset = promote(run, plan).await?;
    let ((), ()) = join(
        sentinels.tell(run, &plan.to, &mut tally),
        point_to(run, &plan.to, &plan.others),
    )
    .await;
    let proof = prove(run, plan, old_offset).await;
    settle(run, plan, true).await;
    proof?;
    finish(plan, &tally)
}

fn check_servers(plan: &Handover, old: &ServerFacts, new: &ServerFacts) -> Result<(), Trouble> {
    if plan.leaving.contains(&plan.to) {
        return trouble("the target is leaving itself");
    }
    if old.follows.is_some() {
        return trouble("the old primary is no primary");
    }
    if old.failover != FailoverState::None {
        return trouble("a failover of its own is under way");
    }
    if new.follows.as_deref() != Some(plan.from.as_str()) {
        return trouble("the target does not follow the primary");
    }
    if !synced(new) {
        return trouble("the target is not synced");
    }
    match old.replicas.iter().find(|replica| replica.host == plan.to) {
        Some(replica) if replica.online => Ok(()),
        _ => trouble("the primary does not see the target online"),
    }
}

enum Declined {
    Refused(String),
    TooSlow(String),
    Unknown(String),
}

enum Seen {
    Promoted,
    UnderWay(u64),
    ServesOn,
    Unknown(String),
}

async fn look(run: &Run, plan: &Handover) -> Seen {
    let (old, new) = join(quick_info(run, &plan.from), quick_info(run, &plan.to)).await;
    let leads = matches!(&new, Some(Ok(facts)) if facts.follows.is_none());
    match old {
        Some(Ok(facts)) if facts.failover != FailoverState::None => Seen::UnderWay(facts.offset),
        Some(Ok(facts)) if facts.follows.is_none() => Seen::ServesOn,
        Some(Ok(facts)) if facts.follows.as_deref() == Some(plan.to.as_str()) => Seen::Promoted,
        Some(Err(Failure::Refused | Failure::Unreachable)) if leads => Seen::Promoted,
        Some(Ok(_)) => Seen::Unknown("the old primary follows somebody else".to_owned()),
        Some(Err(failure)) => Seen::Unknown(format!("{failure:?}")),
        None => Seen::Unknown("the old primary does not answer".to_owned()),
    }
}

/// Promotes the target; returns the old primary's offset once writes were held back, if it was seen.
async fn promote(run: &Run, plan: &Handover) -> Result<Option<u64>, Trouble> {
    let reason = match by_server(run, plan).await {
        Ok(offset) => return Ok(offset),
        Err(Declined::TooSlow(why)) => {
            take_back(run, plan).await;
            return trouble(format!("aborted: {why}"));
        }
        Err(Declined::Unknown(why)) => return trouble(format!("unknown: {why}")),
        Err(Declined::Refused(why)) => why,
    };
    match by_pause(run, plan).await {
        Ok(offset) => Ok(Some(offset)),
        Err(why) => {
            let _ = run.server(&plan.from, ServerCommand::Unpause).await;
            take_back(run, plan).await;
            trouble(format!("aborted: {why} (before: {reason})"))
        }
    }
}

async fn by_server(run: &Run, plan: &Handover) -> Result<Option<u64>, Declined> {
    let pause = ms(HANDOVER_PAUSE_LIMIT);
    let _ = run.server(&plan.to, ServerCommand::GetAck).await;
    let start = run.ctx.sim.now();
    let failover = ServerCommand::FailoverTo {
        target: plan.to.clone(),
        timeout: pause,
    };
    match run.server(&plan.from, failover).await {
        Ok(_) | Err(Failure::Silent | Failure::Unreachable) => {}
        Err(failure) => return Err(Declined::Refused(format!("{failure:?}"))),
    }
    let limit = pause + ms(HANDOVER_LOOK_LIMIT);
    let mut old_offset = None;
    let mut last = String::from("it never said how far it is");
    while run.ctx.sim.now() - start < limit {
        let _ = run.server(&plan.to, ServerCommand::GetAck).await;
        match look(run, plan).await {
            Seen::Promoted => return Ok(old_offset),
            Seen::UnderWay(offset) => old_offset = Some(offset),
            Seen::ServesOn => {
                let why = "the primary gave its failover up".to_owned();
                return Err(if run.ctx.sim.now() - start + POLL >= pause {
                    Declined::TooSlow(why)
                } else {
                    Declined::Refused(why)
                });
            }
            Seen::Unknown(why) => last = why,
        }
        run.ctx.sleep(POLL).await;
    }
    if let Err(failure) = run.server(&plan.from, ServerCommand::FailoverAbort).await {
        last = format!("{failure:?}");
    }
    match look(run, plan).await {
        Seen::Promoted => Ok(old_offset),
        Seen::ServesOn => Err(Declined::TooSlow(last)),
        Seen::UnderWay(_) => Err(Declined::Unknown(last)),
        Seen::Unknown(why) => Err(Declined::Unknown(why)),
    }
}

async fn take_back(run: &Run, plan: &Handover) {
    let target = quick_info(run, &plan.to).await;
    if matches!(target, Some(Ok(facts)) if facts.follows.is_none())
        && matches!(look(run, plan).await, Seen::ServesOn)
    {
        let _ = run
            .server(&plan.to, ServerCommand::ReplicaOf(Some(plan.from.clone())))
            .await;
    }
}

async fn by_pause(run: &Run, plan: &Handover) -> Result<u64, String> {
    let text = |failure: Failure| format!("{failure:?}");
    let pause = ms(HANDOVER_PAUSE_LIMIT);
    let start = run.ctx.sim.now();
    run.server(&plan.from, ServerCommand::PauseWrites(pause))
        .await
        .map_err(text)?;
    let paused = info(run, &plan.from).await.map_err(text)?;
    if paused.follows.is_some() {
        return Err("the old primary is no primary any more".to_owned());
    }
    let limit = pause * 2 / 3;
    loop {
        let _ = run.server(&plan.to, ServerCommand::GetAck).await;
        let at = match quick_info(run, &plan.to).await {
            Some(Ok(target))
                if synced(&target)
                    && target.history == paused.history
                    && target.offset >= paused.offset =>
            {
                break;
            }
            Some(Ok(target)) => format!("has {} of {} bytes", target.offset, paused.offset),
            Some(Err(failure)) => return Err(text(failure)),
            None => "does not answer".to_owned(),
        };
        if run.ctx.sim.now() - start >= limit {
            return Err(format!("the target {at}"));
        }
        run.ctx.sleep(POLL).await;
    }
    if let Err(failure) = run.server(&plan.to, ServerCommand::ReplicaOf(None)).await
        && !matches!(info(run, &plan.to).await, Ok(facts) if facts.follows.is_none())
    {
        return Err(text(failure));
    }
    let follow = || ServerCommand::ReplicaOf(Some(plan.to.clone()));
    let mut demoted = run.server(&plan.from, follow()).await;
    while demoted.is_err() && run.ctx.sim.now() - start < pause {
        run.ctx.sleep(POLL).await;
        demoted = run.server(&plan.from, follow()).await;
    }
    if demoted.is_ok() {
        let _ = run.server(&plan.from, ServerCommand::Unpause).await;
    }
    Ok(paused.offset)
}

fn began_at(facts: &ServerFacts) -> u64 {
    facts
        .earlier
        .as_ref()
        .map_or(facts.offset, |(_, first)| first.saturating_sub(1))
}

async fn prove(run: &Run, plan: &Handover, old_offset: Option<u64>) -> Result<(), Trouble> {
    let compare = |old: u64, new: &ServerFacts| {
        let began = began_at(new);
        if began >= old {
            Ok(())
        } else {
            trouble(format!(
                "it began at {began} while the old primary had {old}"
            ))
        }
    };
    let start = run.ctx.sim.now();
    loop {
        let (old, new) = join(info(run, &plan.from), info(run, &plan.to)).await;
        let missing = match (&old, &new) {
            (_, Err(failure)) | (Err(failure), Ok(_)) => format!("{failure:?}"),
            (_, Ok(new)) if new.follows.is_some() => {
                return trouble("it says that it is a replica");
            }
            (Ok(old), Ok(new)) if old.follows.as_deref() == Some(plan.to.as_str()) => {
                let resumed = synced(old) && old.history == new.history;
                if resumed {
                    let ended = began_at(old);
                    return compare(old_offset.map_or(ended, |offset| offset.max(ended)), new);
                }
                "the old primary is not linked to it yet".to_owned()
            }
            (Ok(_), Ok(_)) => "the old primary does not follow it".to_owned(),
        };
        if run.ctx.sim.now() - start >= ms(HANDOVER_PROOF_LIMIT) {
            return match (old_offset, &new) {
                (Some(offset), Ok(new)) => {
                    compare(offset, new)?;
                    trouble(missing)
                }
                _ => trouble(missing),
            };
        }
        run.ctx.sleep(POLL * 4).await;
    }
}

/// Priorities as they belong.
async fn settle(run: &Run, plan: &Handover, with_old: bool) {
    let servers = with_old
        .then_some(&plan.from)
        .into_iter()
        .chain([&plan.to])
        .chain(&plan.others);
    join_all(servers.map(async |host| {
        let priority = if plan.leaving.contains(host) {
            PRIORITY_NEVER
        } else if *host == plan.to || (with_old && *host == plan.from) {
            PRIORITY_PROMOTABLE
        } else {
            return;
        };
        let _ = run
            .server(host, ServerCommand::SetPriority(u64::from(priority)))
            .await;
    }))
    .await;
}

fn finish(plan: &Handover, tally: &Tally) -> Result<(), Trouble> {
    if tally.told == 0 && !plan.sentinels.is_empty() {
        return trouble("no Sentinel names it yet");
    }
    Ok(())
}

async fn point_to(run: &Run, primary: &str, others: &[String]) {
    join_all(others.iter().map(async |host| {
        let _ = run
            .server(host, ServerCommand::ReplicaOf(Some(primary.to_owned())))
            .await;
    }))
    .await;
}

/// Promotes `plan.to` when the old primary is dead.
pub async fn promote_best(run: &Run, plan: &Handover) -> Result<(), Trouble> {
    let (old, sentinels) = join(
        info(run, &plan.from),
        Sentinels::gather(run, &plan.sentinels),
    )
    .await;
    if matches!(old, Ok(facts) if facts.follows.is_none()) {
        return trouble("the old primary answers and is primary: hand over instead");
    }
    if !run.ctx.with(|world| world.deciders.blind_handover) {
        check_orphan(run, plan).await?;
    }
    sentinels.agree_on(&plan.from)?;
    let mut tally = sentinels.win(run, plan.allow_minority).await?;
    run.server(&plan.to, ServerCommand::ReplicaOf(None)).await?;
    let ((), ()) = join(
        sentinels.tell(run, &plan.to, &mut tally),
        point_to(run, &plan.to, &plan.others),
    )
    .await;
    settle(run, plan, false).await;
    if info(run, &plan.to).await?.follows.is_some() {
        return trouble("it says that it is a replica");
    }
    finish(plan, &tally)
}

async fn drained(run: &Run, host: &str) {
    let start = run.ctx.sim.now();
    let mut seen = (0, start);
    while run.ctx.sim.now() - start < ms(ORPHAN_DRAIN_LIMIT) {
        let Ok(facts) = info(run, host).await else {
            return;
        };
        let now = run.ctx.sim.now();
        if facts.offset != seen.0 {
            seen = (facts.offset, now);
        }
        if !facts.link_up || facts.follows.is_none() || now - seen.1 >= ms(ORPHAN_STILL) {
            return;
        }
        run.ctx.sleep(20).await;
    }
}

async fn check_orphan(run: &Run, plan: &Handover) -> Result<(), Trouble> {
    join_all(
        [&plan.to]
            .into_iter()
            .chain(&plan.others)
            .map(|host| drained(run, host)),
    )
    .await;
    let target = info(run, &plan.to).await?;
    if plan.leaving.contains(&plan.to) {
        return trouble("the target is leaving itself");
    }
    if target.follows.is_none() {
        return trouble("the target is no replica");
    }
    if target.loading || target.syncing {
        return trouble("the target's data set is not complete");
    }
    for other in &plan.others {
        if let Ok(facts) = info(run, other).await
            && facts.history == target.history
            && facts.offset > target.offset
        {
            return trouble(format!("{other} has more of the same history"));
        }
    }
    Ok(())
}

/// Tells Sentinels that `primary` is the primary, after a promotion whose caller could not.
pub async fn complete_hello(
    run: &Run,
    primary: &str,
    sentinels: &[String],
    allow_minority: bool,
) -> Result<(), Trouble> {
    let gathered = Sentinels::gather(run, sentinels).await;
    let facts = info(run, primary).await?;
    if facts.follows.is_some() || facts.failover != FailoverState::None {
        return trouble("it does not say that it is the primary");
    }
    let named = gathered.others_named(primary);
    for other in &named {
        if matches!(info(run, other).await, Ok(facts) if facts.follows.is_none()) {
            return trouble("Sentinels name another, and it is a primary, too");
        }
    }
    let mut tally = if named.is_empty() {
        Tally {
            needed: gathered.needed(),
            ..Tally::default()
        }
    } else {
        gathered.win(run, allow_minority).await?
    };
    gathered.tell(run, primary, &mut tally).await;
    if tally.told >= tally.needed || (allow_minority && tally.told > 0) {
        return Ok(());
    }
    trouble(format!(
        "{} of {} needed Sentinels name it",
        tally.told, tally.needed
    ))
}
