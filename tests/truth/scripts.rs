//! What is done on both sides.

use crate::script::Cond::{
    AllName, Down, Follows, Lists, Names, OtherPrimary, Primary, Replica, SeesPriority, Streams,
    View,
};
use crate::script::Do::{
    self, Copies, CutOff, Epoch, Failover, FailoverTo, Freeze, FreezeSentinel, GetAck, Heal, Hello,
    Is, Kill, MinReplicas, Missing, Priority, Quorum, ReplicaOf, Reset, Shutdown, Start,
    StartEmpty, StartSentinel, StartSnapshot, StopSentinel, Thaw, ThawSentinel, Until, Votes, Wait,
    Write, WriteLater, WriteUntilRefused, Writes,
};

/// Makes unit 1 the one that Sentinel prefers.
const PREFER_1: [Do; 2] = [Priority(1, 10), Until(SeesPriority(2, 10), 15_000)];

/// Lets Sentinels watch and never act: a busy machine may take longer over a restart than the detection time.
const NO_FAILOVER: [Do; 3] = [Quorum(0, 4), Quorum(1, 4), Quorum(2, 4)];

/// All scripts, each with its name.
#[allow(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<(&'static str, Vec<Do>)> {
    let preferred = |steps: &[Do]| PREFER_1.iter().chain(steps).copied().collect::<Vec<_>>();
    let unanswered = |steps: &[Do]| NO_FAILOVER.iter().chain(steps).copied().collect::<Vec<_>>();
    vec![
        (
            "a killed primary is replaced by the preferred replica and converted when it returns",
            preferred(&[
                Writes(0, 50),
                Kill(0),
                Until(Down(2), 10_000),
                Until(Primary(1), 20_000),
                Until(AllName(1), 20_000),
                Epoch,
                Missing(1),
                Until(Follows(2, 1), 20_000),
                Copies(1),
                Start(0, None),
                Until(Replica(0), 30_000),
                Until(Follows(0, 1), 20_000),
                Copies(1),
            ]),
        ),
        (
            "a replica with priority 0 is never promoted",
            vec![
                Priority(1, 0),
                Until(SeesPriority(2, 0), 15_000),
                Kill(0),
                Until(Primary(2), 20_000),
                Is(Primary(1)),
                Missing(2),
            ],
        ),
        (
            "a frozen primary is replaced and closes its fence",
            preferred(&[
                MinReplicas(1),
                Write(0),
                Freeze(0),
                WriteLater(0),
                Until(Primary(1), 20_000),
                Until(Follows(2, 1), 20_000),
                Wait(1_000),
                Thaw(0),
                Wait(200),
                Write(0),
                Until(Follows(0, 1), 30_000),
            ]),
        ),
        (
            "a fence closes when the replicas freeze",
            vec![
                MinReplicas(1),
                Write(0),
                Freeze(1),
                Freeze(2),
                WriteUntilRefused(0, 20_000),
                Thaw(1),
                Wait(2_500),
                Write(0),
            ],
        ),
        (
            "an empty primary takes all data with it",
            unanswered(&[
                Writes(0, 20),
                Kill(0),
                StartEmpty(0),
                Wait(4_000),
                Is(Primary(0)),
                Missing(1),
                Missing(2),
            ]),
        ),
        (
            "a fast restart from the log keeps the data and needs full copies",
            unanswered(&[
                Writes(0, 20),
                Kill(0),
                Start(0, None),
                Until(Streams(0, 2), 20_000),
                Missing(0),
                Missing(1),
                Copies(0),
                Is(OtherPrimary(0)),
            ]),
        ),
        (
            "a restart from the snapshot goes on where it was",
            unanswered(&[
                Writes(0, 20),
                Shutdown(0),
                StartSnapshot(0, None),
                Until(Streams(0, 2), 20_000),
                Missing(0),
                Missing(1),
                Copies(0),
            ]),
        ),
        (
            "a replica restarts from the log and from its snapshot",
            vec![
                Writes(0, 20),
                Copies(0),
                Kill(1),
                Start(1, Some(0)),
                Until(Follows(1, 0), 20_000),
                Copies(0),
                Shutdown(1),
                StartSnapshot(1, Some(0)),
                Until(Follows(1, 0), 20_000),
                Copies(0),
                Missing(1),
            ],
        ),
        (
            "a second primary is converted",
            vec![
                ReplicaOf(2, None),
                Until(Replica(2), 30_000),
                Until(Follows(2, 0), 20_000),
                Epoch,
                Is(Primary(0)),
            ],
        ),
        (
            "a replica that follows the wrong one is put right",
            vec![
                ReplicaOf(2, Some(1)),
                Until(Follows(2, 1), 10_000),
                Until(Follows(2, 0), 40_000),
            ],
        ),
        (
            "one Sentinel is reset",
            vec![
                Reset(1),
                Is(View(1, 2, 2)),
                Until(View(1, 2, 2), 20_000),
                Epoch,
            ],
        ),
        (
            "all Sentinels are reset, then the primary dies",
            vec![
                Reset(0),
                Reset(1),
                Reset(2),
                Kill(0),
                Wait(6_000),
                Is(OtherPrimary(0)),
            ],
        ),
        (
            "the plain failover while the old primary goes on",
            preferred(&[
                Writes(0, 20),
                Failover(2),
                Until(Primary(1), 20_000),
                Until(AllName(1), 20_000),
                Epoch,
                Until(Follows(0, 1), 30_000),
            ]),
        ),
        (
            "without a promotable replica there is no failover",
            vec![
                Priority(1, 0),
                Priority(2, 0),
                Wait(2_500),
                Failover(1),
                Kill(0),
                Wait(6_000),
                Is(OtherPrimary(0)),
            ],
        ),
        (
            "a hand-over by votes, failover and hello",
            vec![
                Writes(0, 20),
                Votes(0),
                FailoverTo(0, 1),
                GetAck(1),
                Until(Primary(1), 5_000),
                Hello(1),
                Until(AllName(1), 2_000),
                ReplicaOf(2, Some(1)),
                Until(Follows(0, 1), 10_000),
                Until(Follows(2, 1), 10_000),
                Missing(1),
                Copies(1),
                Epoch,
                Wait(3_000),
                Is(AllName(1)),
                Kill(1),
                Until(OtherPrimary(1), 20_000),
            ],
        ),
        (
            "votes alone keep the others from a failover of their own",
            vec![
                Votes(0),
                Votes(3),
                Kill(0),
                Wait(10_000),
                Is(OtherPrimary(0)),
                Until(OtherPrimary(0), 40_000),
            ],
        ),
        (
            "a planned failover to a frozen target is given up",
            vec![
                MinReplicas(0),
                Freeze(1),
                Write(0),
                FailoverTo(0, 1),
                Wait(4_000),
                Write(0),
                Thaw(1),
                Until(Follows(1, 0), 20_000),
                Is(Primary(0)),
                Missing(1),
            ],
        ),
        (
            "a quorum that cannot be met prevents the failover",
            vec![
                Quorum(0, 3),
                Quorum(1, 3),
                Quorum(2, 3),
                StopSentinel(0),
                Kill(0),
                Wait(6_000),
                Is(OtherPrimary(0)),
                StartSentinel(0),
                Until(OtherPrimary(0), 45_000),
            ],
        ),
        (
            "a Sentinel that was away learns of the new primary",
            preferred(&[
                StopSentinel(0),
                Wait(1_500),
                Kill(0),
                Until(Primary(1), 25_000),
                StartSentinel(0),
                Until(Names(0, 1), 20_000),
                Epoch,
            ]),
        ),
        (
            "the dead stay listed until a reset",
            vec![
                Kill(2),
                StopSentinel(2),
                Wait(4_000),
                Is(Lists(1, 2, 2)),
                Reset(1),
                Until(View(1, 1, 1), 15_000),
                Wait(1_500),
                Is(Lists(1, 1, 1)),
                Is(Lists(0, 2, 2)),
                Epoch,
            ],
        ),
        (
            "a frozen replica comes back into the list, since its primary still counts it",
            vec![
                Freeze(2),
                Wait(1_500),
                Reset(1),
                Until(View(1, 2, 1), 15_000),
                Wait(1_500),
                Is(Lists(1, 2, 2)),
                Thaw(2),
                Until(View(1, 2, 2), 15_000),
            ],
        ),
        (
            "a replica of a replica goes on when the one between takes over",
            preferred(&[
                ReplicaOf(2, Some(1)),
                Until(Follows(2, 1), 10_000),
                Writes(0, 20),
                Kill(0),
                Until(Primary(1), 20_000),
                Until(Follows(2, 1), 10_000),
                Missing(2),
                Copies(1),
            ]),
        ),
        (
            "Sentinels that slept decide nothing for ten seconds, and then elect",
            vec![
                FreezeSentinel(0),
                FreezeSentinel(1),
                FreezeSentinel(2),
                Wait(3_500),
                ThawSentinel(0),
                ThawSentinel(1),
                ThawSentinel(2),
                Kill(0),
                Wait(6_000),
                Is(OtherPrimary(0)),
                Until(OtherPrimary(0), 25_000),
                Missing(1),
            ],
        ),
    ]
}

/// Scripts that cut units off from each other.
pub fn with_cuts() -> Vec<(&'static str, Vec<Do>)> {
    let preferred = |steps: &[Do]| PREFER_1.iter().chain(steps).copied().collect::<Vec<_>>();
    vec![
        (
            "a primary that is cut off closes its fence, is replaced, and converted when it is back",
            preferred(&[
                MinReplicas(1),
                Writes(0, 50),
                CutOff(0),
                Until(Down(2), 10_000),
                Until(Primary(1), 20_000),
                WriteUntilRefused(0, 20_000),
                Until(Follows(2, 1), 20_000),
                Epoch,
                Is(Primary(0)),
                Is(Names(0, 0)),
                Heal(0),
                Until(Replica(0), 40_000),
                Until(Follows(0, 1), 20_000),
                Until(AllName(1), 40_000),
                Copies(1),
                Missing(1),
            ]),
        ),
        (
            "a primary cut off for less than the detection time stays what it is",
            vec![
                Writes(0, 50),
                Epoch,
                CutOff(0),
                Wait(400),
                Heal(0),
                Wait(3_000),
                Is(Primary(0)),
                Is(AllName(0)),
                Epoch,
                Until(Streams(0, 2), 20_000),
                Copies(0),
                Write(0),
            ],
        ),
        (
            "a replica that was cut off goes on where it was",
            vec![
                Writes(0, 50),
                Copies(0),
                CutOff(2),
                Writes(0, 50),
                Wait(4_000),
                Is(Primary(0)),
                Until(View(1, 1, 1), 10_000),
                Heal(2),
                Until(View(1, 2, 2), 40_000),
                Wait(4_000),
                Missing(2),
                Copies(0),
            ],
        ),
        (
            "Sentinels that are no majority replace nobody, however long they are cut off",
            vec![
                CutOff(2),
                Until(Down(2), 10_000),
                Wait(5_000),
                Is(Primary(0)),
                Is(Names(2, 0)),
                Is(Replica(2)),
                Heal(2),
                Until(View(2, 2, 2), 40_000),
                Is(AllName(0)),
                Epoch,
            ],
        ),
    ]
}
