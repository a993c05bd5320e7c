//! Every port, time limit and bound of the charm, with its unit, its reason and its source.

use std::time::Duration;

// --- Juju -----------------------------------------------------------------------------------

/// Longest that one hook tool may take before the hook fails.
///
/// The unit agent answers over a local socket within milliseconds, so half a minute means that it
/// is gone; Juju runs the failed hook again once it is back.
pub const HOOK_TOOL_TIMEOUT: Duration = Duration::from_secs(30);

/// Most that a hook tool may print, in bytes.
///
/// A databag holds at most 16 MiB in Juju 4.0, and quoting it as JSON can at worst about double it;
/// whoever prints more is not Juju.
pub const HOOK_TOOL_OUTPUT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How much of a hook tool's stderr an error keeps, in bytes: enough for Juju's one-line reasons.
pub const HOOK_TOOL_STDERR_BYTES_MAX: usize = 4 * 1024;

/// Longest argument that is passed to a hook tool, in bytes.
///
/// Linux refuses a single argument of 128 KiB and more with a text that helps nobody.
pub const HOOK_TOOL_ARGUMENT_BYTES_MAX: usize = 100_000;

/// Longest word that is taken from a databag or a document beside the data, in bytes: ids, names of units.
///
/// They end up in statuses and in the history, which have to stay readable.
pub const WORD_MAX_BYTES: usize = 200;

/// Longest that `juju-exec` may take, waiting for the unit's running hook included.
///
/// It queues behind a hook and the machine lock, so it needs more than the longest bounded wait
/// inside a hook; a unit agent that is gone must still not hold up the watcher for ever.
pub const JUJU_EXEC_TIMEOUT: Duration = Duration::from_secs(600);

/// How much `juju-exec` output is kept for each of stdout and stderr, in bytes; the rest is dropped.
pub const JUJU_EXEC_OUTPUT_BYTES_MAX: usize = 64 * 1024;

// --- Valkey and Sentinel --------------------------------------------------------------------

/// Port of valkey-server; the one that Valkey's users expect.
pub const SERVER_PORT: u16 = 6379;

/// Port of Sentinel; the one that Sentinel's clients expect.
pub const SENTINEL_PORT: u16 = 26379;

/// Name under which the Sentinels monitor the primary; clients ask for it.
pub const MONITOR_NAME: &str = "primary";

/// Longest that a connection to a server or Sentinel may take to be made.
///
/// Units of one application are close to each other; a peer that has not answered by then counts
/// as unreachable for this pass, so that a dead peer never blocks a living one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest that an ordinary command may take to be answered.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// Most addresses of a name that are tried, one after another, within [`CONNECT_TIMEOUT`].
///
/// A pod has one, or one of each kind of address; a name with more is none of a unit.
pub const ADDRESSES_MAX: usize = 4;

/// Longest host name or address: the limit of the Domain Name System.
pub const HOST_NAME_MAX_BYTES: usize = 253;

/// Most replicas and Sentinels that a reply is read for; many times what Sentinel is made for.
pub const REPLICAS_MAX: usize = 256;

/// As [`REPLICAS_MAX`], for the other Sentinels.
pub const SENTINELS_MAX: usize = 256;

/// Longest word that is kept of what a server or Sentinel says of itself: ids, phases, flags; in bytes.
///
/// An id has 40 letters; whoever sends more is no Valkey.
pub const REPLY_WORD_MAX_BYTES: usize = 200;

/// Most flags that are kept of an instance; Sentinel knows about fifteen.
pub const FLAGS_MAX: usize = 64;

/// Length of a password that the charm makes: 32 characters of 64 kinds are 192 bits.
pub const PASSWORD_LENGTH: usize = 32;

/// Longest password that is taken from a person.
///
/// Valkey's own limit is far higher; a line of Sentinel's file must stay readable for its parser.
pub const PASSWORD_MAX_BYTES: usize = 512;

/// Most clients whose connections one call closes; a second pass takes the rest.
pub const CLIENTS_KILLED_MAX: usize = 20_000;

/// The key of the leave lease, in the first database.
///
/// A name that no application uses by accident.
pub const LEASE_KEY: &str = "__valkey-operator__:leave-lease";

/// Longest that a hand-over holds writes back before it gives up.
///
/// A synced target needs milliseconds; a client's usual time limit is a few seconds.
pub const HANDOVER_PAUSE_LIMIT: Duration = Duration::from_secs(3);

/// Time between two looks at a server whose role changes hands; a hand-over takes about 10 ms.
pub const HANDOVER_POLL: Duration = Duration::from_millis(1);

/// Longest that one such look may take: clients wait meanwhile, and a frozen server is found out.
pub const HANDOVER_LOOK_LIMIT: Duration = Duration::from_millis(300);

/// Longest that replicas of a dead primary are given to read what it sent them.
pub const ORPHAN_DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// How long a replica's offset must stand still to count as read to the end, if its link is up.
///
/// More than a busy machine keeps a process waiting; a link that ended is seen at once instead.
pub const ORPHAN_STILL: Duration = Duration::from_millis(250);

/// Epochs in which votes are asked for before a hand-over is given up.
pub const HANDOVER_VOTE_ATTEMPTS: usize = 4;

/// Longest that a Sentinel may take to vote or to take up a hello.
///
/// It writes its file through to the disk up to three times before it answers, which has taken
/// seconds on a disk under heavy load; no client is kept waiting by it.
pub const SENTINEL_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a vote is waited for before the other Sentinels are asked as well; it takes milliseconds.
pub const VOTE_PATIENCE: Duration = Duration::from_millis(300);

/// Factor by which the step to the next epoch grows: 4, 16 and 64 beyond the highest one known.
///
/// A Sentinel's current epoch cannot be read; each election that failed has raised it by one.
pub const VOTE_EPOCH_STEP: u64 = 4;

/// Longest that the old primary may take to be linked to the new one, as the proof of a hand-over.
///
/// Measured: 25 to 30 ms in 8.0; newer versions may wait for their once-a-second timer.
pub const HANDOVER_PROOF_LIMIT: Duration = Duration::from_secs(5);

/// `replica-priority` of a server that must not be promoted: leaving, or not synced yet.
pub const PRIORITY_NEVER: u16 = 0;

/// `replica-priority` of all others: the same, so that Sentinel takes the one with the most data.
pub const PRIORITY_PROMOTABLE: u16 = 100;

/// Longest that all Sentinels together may take to know exactly their members.
///
/// Measured: at most about 10 s for each without help, under 3 s with it; seven Sentinels fit.
pub const FORGET_LIMIT: Duration = Duration::from_secs(90);

/// Longest that Sentinels may take to list one that was introduced to them; it takes milliseconds.
pub const ANNOUNCE_LIMIT: Duration = Duration::from_secs(10);

/// Longest that no other Sentinel is reset because one that was does not answer, so that it cannot be seen whether it
/// knows a replica again.
///
/// Who is only cut off mostly is back by then; who is gone must not keep the others for longer.
pub const RESET_PROOF_LIMIT: Duration = Duration::from_secs(60);

/// Time between two looks at a Sentinel that learns its members again, which takes about a second.
pub const MEMBERSHIP_POLL: Duration = Duration::from_millis(50);

/// How long a primary must be silent before it counts as lost, unless a person chose otherwise.
///
/// Measured: clients then write again about 6.3 s after a crash. A hand-over does not wait for it.
pub const DETECTION_DEFAULT: Duration = Duration::from_secs(5);

/// Shortest detection time: the fence of a cut-off primary needs up to 3 s to close.
pub const DETECTION_MIN: Duration = Duration::from_secs(4);

/// Longest detection time; who waits longer than this does not want automatic failover.
pub const DETECTION_MAX: Duration = Duration::from_secs(300);

/// How much longer than `min-replicas-max-lag` a cut-off primary goes on to take writes.
///
/// Measured: 0.9 to 1.0 s; the server counts good replicas once a second, so 2 s are safe.
pub const FENCING_MARGIN: Duration = Duration::from_secs(2);

/// Longest `min-replicas-max-lag`, Valkey's own default; more only loses more.
pub const FENCING_LAG_MAX: Duration = Duration::from_secs(10);

/// Time limit of each phase of Sentinel's failover.
///
/// A phase takes about a second when it works. A failover that was given up is tried again after
/// twice this time, and a vote for somebody else's failover blocks as long: 10 s keep both short.
pub const FAILOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Replicas that Sentinel points to a new primary at the same time: all of them.
///
/// They take up where they left; the sooner they do, the sooner the new primary takes writes when
/// it needs replicas for that.
pub const PARALLEL_SYNCS: u16 = 16;

/// Idle time after which connections are probed; a dead peer is found after about four times this.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Time between two pings of a primary to its replicas.
pub const REPL_PING_PERIOD: Duration = Duration::from_secs(2);

/// Silence after which primary and replica drop their link and connect anew.
///
/// Well above the ping period and a slow disk's pauses, half of Valkey's default, so that a link
/// that a cut network left hanging is made again soon.
pub const REPL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest that an orderly stop waits for replicas that lag; whoever stops a server waits longer.
pub const SHUTDOWN_REPLICA_WAIT: Duration = Duration::from_secs(10);

/// Pause before a server that refuses to stop is asked again.
///
/// It does so while it writes its append-only file anew after a full copy, for as long as that takes.
pub const SHUTDOWN_RETRY: Duration = Duration::from_millis(200);

/// Smallest backlog for partial resynchronisations that a person may choose, in bytes.
pub const REPL_BACKLOG_MIN_BYTES: u64 = 1024 * 1024;

/// Smallest backlog that the charm chooses, in bytes: a minute of about 1 MB/s of writes.
pub const REPL_BACKLOG_DEFAULT_MIN_BYTES: u64 = 64 * 1024 * 1024;

/// Largest backlog that the charm chooses, in bytes: a minute of about 17 MB/s of writes.
pub const REPL_BACKLOG_DEFAULT_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// Smallest hard limit on what may wait for one replica, in bytes; twice Valkey's default.
pub const REPLICA_BUFFER_MIN_BYTES: u64 = 512 * 1024 * 1024;

/// How long a replica may be above half of that limit.
pub const REPLICA_BUFFER_SOFT_FOR: Duration = Duration::from_secs(120);

/// Smallest limit on memory that is taken, in bytes; an empty server uses about 2 MiB.
pub const MEMORY_LIMIT_MIN_BYTES: u64 = 16 * 1024 * 1024;

/// Time between two `INFO` that a Sentinel sends to each server, set at run time.
///
/// By default 10 s, and 1 s only while something is down: a new replica, a priority or a second
/// primary is seen with the next one. One `INFO` a second costs a server about 0.1 ms of CPU.
/// Figures: `docs/measurements.md`.
pub const SENTINEL_INFO_PERIOD: Duration = Duration::from_secs(1);

/// How long a Sentinel that was blocked for two seconds or more does nothing but look, set at run time.
///
/// By default 30 s, in which it neither finds a primary dead nor takes back that somebody was: after a pause of one
/// machine, the loss of another is not survived until that is over. Every ping is answered anew within about
/// a second; ten of them are proof enough that time runs evenly again.
pub const SENTINEL_TILT_PERIOD: Duration = Duration::from_secs(10);

/// Time between two hellos of a Sentinel, set at run time.
///
/// By default 2 s. Sentinel waits four of them before it turns a second primary into a replica.
pub const SENTINEL_HELLO_PERIOD: Duration = Duration::from_millis(500);

/// As [`SENTINEL_HELLO_PERIOD`], where units have names: Sentinel's own default.
///
/// A Sentinel has each name in each hello resolved, one after another, while nothing else goes on in it, and gets
/// each hello once from every server: with seven units and the shorter period 2,400 questions a
/// second to the cluster's resolver, and no failover any more if that needs 20 ms for an answer.
/// Figures: `docs/measurements.md`.
pub const SENTINEL_HELLO_PERIOD_NAMED: Duration = Duration::from_secs(2);

/// Time between two `PING` that a Sentinel sends to each server and Sentinel, set at run time.
///
/// By default 1 s. The silence of one that tells nobody that it goes, because it is cut off or frozen, counts from the
/// first ping that it does not answer, so this much is added to the detection time. A ping costs a few microseconds.
/// Figures: `docs/measurements.md`.
pub const SENTINEL_PING_PERIOD: Duration = Duration::from_millis(250);

// --- Workload -------------------------------------------------------------------------------

/// How long a process that was just started is watched before it counts as started.
///
/// A wrong setting, a port in use or a forbidden directory end valkey-server within a few tens of
/// milliseconds; what goes wrong later is seen by the next look at the service.
pub const START_SETTLE: Duration = Duration::from_millis(200);

/// Longest that a killed process may take to end; only one stuck in the kernel takes longer.
pub const KILL_WAIT: Duration = Duration::from_secs(5);

/// Size above which a service's log is rotated, in bytes; one older log is kept beside it.
pub const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How much of a log's end an error shows, in bytes: the last few lines say why a process ended.
pub const LOG_TAIL_BYTES: u64 = 1024;

/// Largest file that is read whole, in bytes; configurations and documents are far smaller.
pub const FILE_READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How many data sets are kept aside; the oldest is deleted once a newer one is complete.
///
/// Two, so that a second displacement soon after the first does not delete the copy that a person
/// is about to look at; more could fill the disk that the live data needs.
pub const KEPT_SETS_MAX: usize = 2;

/// How long after the last note of its offset a data set's log may have been written for that note to say how much is lost.
///
/// Offsets are noted once a second, in whole seconds; a log whose sync is slow is written up to two seconds late.
pub const RECORD_BEHIND_MAX: Duration = Duration::from_secs(3);

/// How much of a log's end is read to estimate how many writes were lost, in bytes.
///
/// A fenced primary accepts writes for three seconds; of more the number is extrapolated.
pub const LOST_TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Space that has to stay free beside what an operation needs, in bytes.
///
/// The append-only file goes on growing meanwhile; a full disk stops all writes.
pub const FREE_SPACE_MARGIN_BYTES: u64 = 64 * 1024 * 1024;

/// Longest that `valkey-server --version` may take; it opens no file and no port.
pub const SERVER_VERSION_TIMEOUT: Duration = Duration::from_secs(5);

// --- Services of systemd ----------------------------------------------------------------------

/// Longest that one call of `systemctl` or `journalctl` may take.
///
/// None waits for a service; a machine that is just booting or reads many units takes seconds.
pub const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(30);

/// Longest that a service may take from its start by a hook until its program runs.
///
/// The gate is passed at once with a hook's permit; a busy machine takes a second or two.
pub const SERVICE_START_LIMIT: Duration = Duration::from_secs(20);

/// Time between two looks at a service that is about to start or end.
pub const SERVICE_POLL: Duration = Duration::from_millis(50);

/// Pause before systemd starts a service again that ended by a fault.
///
/// Long enough that one which ends at once costs nothing; much shorter than a failover takes.
pub const SERVICE_RESTART_PAUSE: Duration = Duration::from_secs(1);

/// How much longer than [`SERVER_STOP_LIMIT`] systemd waits before it kills a server.
pub const STOP_MARGIN: Duration = Duration::from_secs(30);

/// Most files and connections that server and Sentinel may open: the kernel's usual bound.
pub const OPEN_FILES_MAX: u64 = 1_048_576;

/// Most memory of a Sentinel, in bytes; it needs about 10 MiB, and more with many clients.
pub const SENTINEL_MEMORY_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Most memory of the watcher, in bytes; it needs about 10 MiB, and `juju-exec` some 100 MiB.
pub const WATCH_MEMORY_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Silence of the watcher after which systemd starts it again.
///
/// It looks around every second; a look at peers that are all silent takes some ten seconds, and
/// one at a disk that hangs never ends.
pub const WATCH_SILENCE_MAX: Duration = Duration::from_secs(60);

/// How many of a service's last lines in the journal an error shows.
pub const JOURNAL_LINES: u32 = 10;

/// How many lines that were said outside of hooks one hook tells Juju's log; the next one goes on after them.
pub const JOURNAL_LINES_TOLD: u32 = 100;

/// How long a hook's permit to start a server counts; it is used within moments.
pub const START_PERMIT_LIMIT: Duration = Duration::from_secs(60);

/// Longest that the gate of a service looks around before it gives up; systemd then tries again.
pub const START_GATE_LIMIT: Duration = Duration::from_secs(60);

/// Looks after each of which members were learned of, before what is seen counts as too unsteady.
///
/// One Sentinel tells of all that it knows at once; theirs may know of a few more.
pub const OFFLINE_LOOKS: u32 = 3;

/// Longest that a machine that goes down tries to hand the role of primary over.
///
/// A hand-over takes well under a second. Where it cannot be done the others elect a new primary
/// some seconds after the end, and all that was acknowledged is saved here until then.
pub const FAREWELL_LIMIT: Duration = Duration::from_secs(10);

/// Longest that a pod that goes waits for its server to have saved and ended.
///
/// Kubernetes gives a pod 30 s, some of which pass before the hook begins; [`FAREWELL_LIMIT`] comes before this.
pub const POD_STOP_LIMIT: Duration = Duration::from_secs(12);

/// Longest that the end of a pod waits until its charm has handed over, before its server is told to end.
///
/// [`FAREWELL_LIMIT`], and the time in which the agent begins the hook; after this the server still has to save
/// ([`POD_STOP_LIMIT`]), all of it within the 30 s that Kubernetes gives.
pub const POD_GRACE_LIMIT: Duration = Duration::from_secs(13);

/// How often the watcher asks whether a replica in sync is not promotable, and nobody makes it so.
///
/// Where Juju is there, a hook does it within moments: it is left to it until the second look.
pub const PROMOTABLE_LOOK: Duration = Duration::from_secs(5);

/// Longest that making such a replica promotable may take: a look around and one command.
pub const PROMOTABLE_LIMIT: Duration = Duration::from_secs(20);

/// Longest that making or removing a system user may take.
pub const USER_TOOL_LIMIT: Duration = Duration::from_secs(30);

/// Fewest connections that the kernel must let wait for being accepted: the server's own backlog.
pub const ACCEPT_QUEUE_MIN: u64 = 511;

// --- Pebble -----------------------------------------------------------------------------------

/// Longest that one call of Pebble may take; it answers over a local socket within milliseconds.
pub const PEBBLE_CALL_LIMIT: Duration = Duration::from_secs(5);

/// How long Pebble itself waits in one call for something to happen.
///
/// Below [`PEBBLE_CALL_LIMIT`], so that a call that nobody answers is told from one that waits.
pub const PEBBLE_WAIT_STEP: Duration = Duration::from_secs(4);

/// Largest answer of Pebble that is read whole, in bytes; a plan or a list of changes is far smaller.
pub const PEBBLE_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest pause between two parts of a file that is sent or received.
///
/// The whole may take as long as its size wants; who is silent for so long is gone.
pub const PEBBLE_STREAM_LIMIT: Duration = Duration::from_secs(30);

/// Size of the parts in which a file or the input of a command is sent, in bytes.
pub const PEBBLE_PART_BYTES: usize = 64 * 1024;

/// Most that is kept of each of stdout and stderr of a command that Pebble runs, in bytes.
pub const PEBBLE_EXEC_OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// How much longer than a command's own time limit its end is waited for.
///
/// Pebble waits a second for pipes that the command's children hold.
pub const PEBBLE_EXEC_MARGIN: Duration = Duration::from_secs(5);

/// Time between two looks at a service that Pebble runs, when its end is waited for.
///
/// Its process is in another container, so nobody tells; a look takes some hundred microseconds.
pub const PEBBLE_POLL: Duration = Duration::from_millis(100);

/// Time between two runs of the check that says whether a pod takes clients.
pub const PEBBLE_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// How long one run of that check may take: it makes a connection within its pod.
pub const PEBBLE_CHECK_LIMIT: Duration = Duration::from_secs(2);

/// How many runs of that check in a row fail before the pod takes no clients.
pub const PEBBLE_CHECK_FAILURES: u32 = 2;

/// How many of a service's last lines an error shows, of those that Pebble keeps.
pub const PEBBLE_LOG_LINES: u32 = 10;

// --- Installation -----------------------------------------------------------------------------

/// Longest that reading the lists of packages may take.
///
/// Some 50 MB from a slow mirror, three tries for each; a hook must end all the same.
pub const APT_UPDATE_LIMIT: Duration = Duration::from_secs(300);

/// Longest that installing a few MB of packages may take, waiting for other installations included.
pub const APT_INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// Longest that apt waits for another program that installs packages.
///
/// A machine that has just come up upgrades itself for a minute or two.
pub const APT_LOCK_LIMIT: Duration = Duration::from_secs(180);

/// How much of what apt says an error shows, in bytes.
pub const APT_OUTPUT_BYTES: usize = 400;

/// Longest that unpacking a resource may take; a build of Valkey has some 20 MB.
pub const UNPACK_LIMIT: Duration = Duration::from_secs(120);

/// Most files of an archive that are looked at; a build of Valkey with its sources has about 2,000.
pub const ARCHIVE_FILES_MAX: usize = 20_000;

/// How deep directories of an archive are looked at.
pub const ARCHIVE_DEPTH_MAX: usize = 8;

/// Pause before a later hook tries again what could not be installed.
///
/// Hooks come in bursts; each try may take a minute, and nothing else runs meanwhile.
pub const INSTALL_RETRY_PAUSE: Duration = Duration::from_secs(60);

// --- A pass -----------------------------------------------------------------------------------

/// Longest that an ordinary hook waits for something before it leaves the rest to a later one.
///
/// Long enough for a start, a small sync and its discovery in one go; short enough that Juju's
/// other events are not held up for long. The watcher wakes the charm again.
pub const PASS_LIMIT: Duration = Duration::from_secs(20);

/// Longest that an ordinary hook waits for what depends on other units or on people.
pub const PASS_LIMIT_FOREIGN: Duration = Duration::from_secs(3);

/// How long after it was asked for a leader may still write for the application.
///
/// Juju's `is-leader` promises 30 s. Beyond them another unit may have led and written meanwhile,
/// and Juju does not notice where the leadership has come back by then. The rest is for the commit.
pub const LEADERSHIP_ASSURED: Duration = Duration::from_secs(25);

/// How often Juju is asked who there is and who is leaving.
///
/// It may fail to answer while a unit vanishes, which takes a moment.
pub const GOAL_STATE_TRIES: u32 = 3;

/// How often the holder of the lease renews it during a step.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(8);

/// Longest that a leaving unit works on leaving before the hook fails and Juju runs it again.
///
/// The whole of it is one hook: several units that leave together wait for each other here.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(600);

/// First pause between two looks; it doubles up to [`POLL_MAX`].
pub const POLL_MIN: Duration = Duration::from_millis(50);

/// Longest pause between two looks.
pub const POLL_MAX: Duration = Duration::from_millis(500);

/// Most looks of one pass, whatever the clock says.
pub const LOOKS_MAX: u32 = 5_000;

/// Time until the watcher wakes the charm when something is still awaited.
pub const WAKE_SOON: Duration = Duration::from_secs(3);

/// Time limit of the lease on membership changes; its holder renews it while it works.
///
/// Longer than the longest single step under it, so that a slow one does not lose it, and short
/// enough that a holder which died does not keep the others for long.
pub const LEASE_TTL: Duration = Duration::from_secs(30);

/// Longest that replicas may take to acknowledge the lease.
pub const LEASE_CONFIRM_LIMIT: Duration = Duration::from_secs(2);

/// Longest that a server may take to answer its first command after a start.
pub const SERVER_START_LIMIT: Duration = Duration::from_secs(10);

/// Longest that an orderly stop may take: replicas catch up, and the data is saved.
///
/// A large data set takes minutes to save; nothing may kill the server before.
pub const SERVER_STOP_LIMIT: Duration = Duration::from_secs(300);

/// Longest that Sentinel or the watcher may take to stop; they hold nothing that takes longer.
pub const SMALL_STOP_LIMIT: Duration = Duration::from_secs(5);

/// Size of a data set from which loading takes longer than promoting a replica, in bytes.
///
/// Valkey loads some hundred MiB in a second; a promotion takes well under one.
pub const SLOW_TO_LOAD_BYTES: u64 = 256 * 1024 * 1024;

/// Most entries in the history of changes of the primary; about a year of a busy application.
pub const HISTORY_MAX: usize = 200;

// --- The actions ------------------------------------------------------------------------------

/// Longest that action `switchover` waits for a replica that the primary has not heard of yet.
///
/// Replicas acknowledge once a second (Valkey's `replicationCron`); two of those, and the look itself.
pub const SWITCHOVER_READY_LIMIT: Duration = Duration::from_secs(3);

/// Longest that action `switchover` waits for all Sentinels to name the new primary.
///
/// They are told at once; one that missed it hears it with the next hello, half a second later.
pub const SWITCHOVER_SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// Longest silence of a replica, in seconds, that is taken for in touch when it is to take over.
///
/// Replicas acknowledge once a second; a target that lags would hold writes back for nothing.
pub const TARGET_SILENCE_MAX_S: u64 = 3;

// --- The watcher ------------------------------------------------------------------------------

/// How often the watcher looks at what nobody announces.
pub const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// How much earlier than by the clock a file may seem to have been written.
///
/// The kernel stamps files by a clock that ticks some hundred times a second; some file systems keep whole
/// seconds only.
pub const FILE_TIME_GRAIN: Duration = Duration::from_secs(1);

/// How often the watcher asks whether the server answers, and how long it may take to.
///
/// A frozen primary that wakes between the promotion of another one and the next look acknowledges
/// what is lost; one question costs a server some ten microseconds.
pub const FROZEN_LOOK: Duration = Duration::from_millis(250);

/// Silence after which a server may be frozen, so that the Sentinels are asked about it.
pub const FROZEN_SILENCE: Duration = Duration::from_millis(500);

/// Longest that a Sentinel or the successor may take to answer the watcher.
pub const FROZEN_ASK_LIMIT: Duration = Duration::from_secs(1);

/// Time that goes by between two looks of the watcher from which the whole machine may have frozen.
///
/// The smallest fence: what is shorter cannot have displaced a primary.
pub const FREEZE_NOTICED: Duration = Duration::from_secs(2);

/// `min-replicas-to-write` of a primary whose fence the watcher holds closed: more replicas than there can ever be
/// ([`REPLICAS_MAX`]), and no number that anything else sets.
pub const FENCE_HELD: u64 = 9_999;

/// Time after which the watcher holds a fence that the server has closed.
///
/// A moment's hiccup of the replicas is left to the server; and the fence closes at least a second before a replica can
/// be promoted ([`FENCING_MARGIN`]).
pub const FENCE_CLOSED_FOR: Duration = Duration::from_secs(1);

/// Time for which a majority of the Sentinels has to confirm a primary before its fence is let go.
///
/// From the election of the one that replaces it until a promotion is known to all: half a second to a second and a half
/// (`docs/measurements.md`); twice that, because those that voted do not say so.
pub const FENCE_CONFIRMED_FOR: Duration = Duration::from_secs(3);

/// Longest that a fence is held although enough replicas are back, when the Sentinels cannot be asked.
///
/// A failover that is under way ends within this time or is given up ([`FAILOVER_TIMEOUT`]).
pub const FENCE_HELD_MAX: Duration = Duration::from_secs(10);

/// How long the watcher waits for what belongs together before it wakes the charm.
pub const WAKE_SPACING: Duration = Duration::from_millis(100);

/// Longest pause before the charm is woken again after it failed.
pub const WAKE_RETRY_MAX: Duration = Duration::from_secs(30);

/// Longest pause before a watcher that keeps ending is started again.
pub const WATCH_RESTART_MAX: Duration = Duration::from_secs(30);

// --- Kubernetes -----------------------------------------------------------------------------

/// Longest that a connection to the API server may take to be made, its TLS handshake included.
///
/// It is in the same cluster; the charm works without it, so nothing waits for it for long.
pub const API_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest that the API server may take for one answer.
pub const API_CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest that a pass cares for labels and Services; what is left is done by a later one.
pub const API_KEEP_LIMIT: Duration = Duration::from_secs(15);

/// How often labels and Services are read and mended before a later pass goes on.
///
/// One round mends, the next sees that it is right; the others are for what was changed in between.
pub const API_ROUNDS_MAX: usize = 5;

/// Largest answer that is read from the API server, in bytes.
///
/// A pod is some 10 KiB, and an application has at most some hundred.
pub const API_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Largest file of a service account that is read, in bytes; a bundle of authorities is the largest.
pub const API_ACCOUNT_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How much of the API server's reason an error keeps, in letters.
pub const API_REASON_LETTERS_MAX: usize = 300;

/// How often the watcher compares labels and Services with what they have to be, unasked.
///
/// It acts at once on what Sentinel announces; this is for what people or a lost connection change.
pub const SERVICES_PERIOD: Duration = Duration::from_secs(20);
