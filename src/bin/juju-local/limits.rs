//! Every bound and time limit of the engine, with its reason.

use std::time::Duration;

/// Longest line of a request or response, in bytes.
///
/// A databag may hold 16 MiB, and JSON escapes can double it.
pub const LINE_MAX: u64 = 48 * 1024 * 1024;

/// Longest that a client waits for the engine's answer to anything but `juju-exec`.
///
/// The engine answers from memory; only placing a large charm takes seconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest that a started engine may take until it answers.
pub const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Pause between two looks for something that another process does.
pub const POLL: Duration = Duration::from_millis(20);

/// Period of the engine's clock: leases, timers, and removals are looked at this often.
///
/// Short against every default delay, and a few wake-ups a second cost nothing.
pub const TICK: Duration = Duration::from_millis(100);

/// How long a hook's output is still read after its process ended.
///
/// A child that outlives the hook may hold the pipes open for ever.
pub const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// How long a program that was just written may be busy before it counts as broken.
///
/// A child of another thread holds the file open for writing between its fork and its exec.
pub const BUSY_GRACE: Duration = Duration::from_secs(2);

/// Most bytes of an action's or a command's output that are kept, per stream.
pub const OUTPUT_MAX: usize = 1024 * 1024;

/// Longest line of a hook's output that is logged in one piece, in bytes.
pub const LOG_LINE_MAX: usize = 16 * 1024;

/// Size at which `debug.log` is set aside, in bytes; one older file is kept.
pub const DEBUG_LOG_MAX: u64 = 64 * 1024 * 1024;

/// How long processes may take to end after SIGTERM before they get SIGKILL.
pub const TERM_GRACE: Duration = Duration::from_secs(5);

/// How long killed processes may take to vanish.
pub const KILL_GRACE: Duration = Duration::from_secs(5);

/// Most sweeps over `/proc` when all processes of a unit are ended; a process may fork between two.
pub const SWEEPS_MAX: u32 = 50;

/// First host number of a unit's address; lower ones are for the engine.
pub const HOST_FIRST: u8 = 10;

/// Last host number of a unit's address.
pub const HOST_LAST: u8 = 254;

/// Port on which the engine listens, only to reserve the model's network.
pub const CONTROLLER_PORT: u16 = 17070;

/// How many networks are tried before giving up.
pub const NETWORK_TRIES: u32 = 200;

/// Longest path of a unix socket, in bytes; longer ones are reached through `/proc/self/fd`.
pub const SOCKET_PATH_MAX: usize = 100;

/// Longest that one call of a machine driver may take, apart from `run`: a machine that boots needs minutes.
pub const DRIVER_TIMEOUT: Duration = Duration::from_secs(300);

/// Most bytes that are read of what such a call prints: an address, or why it failed.
pub const DRIVER_OUTPUT_MAX: u64 = 16 * 1024;

/// Pause before a machine that did not come up is asked for again.
pub const DRIVER_RETRY: Duration = Duration::from_secs(2);

/// Pause between two looks at a short command that was started: `ip` and its like take milliseconds.
pub const COMMAND_POLL: Duration = Duration::from_millis(2);

/// Longest that one such command may take when a pod is made.
pub const POD_COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest until the first process of a pod or container has told that it is ready.
///
/// It mounts a dozen file systems, which takes a moment on a machine that is busy otherwise.
pub const POD_START_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest until all processes of a pod are gone once they were killed.
pub const POD_END_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a pod looks whether its place in the state directory is still there; without it, it ends.
pub const POD_PLACE_POLL: Duration = Duration::from_secs(1);

/// Pause between two looks at the containers of a pod: what they tell arrives this late.
pub const POD_POLL: Duration = Duration::from_millis(250);

/// Pause before a container that has ended is started again; Kubernetes waits longer each time.
pub const CONTAINER_RETRY: Duration = Duration::from_secs(1);

/// Longest that Pebble may take for one answer; it answers from memory.
pub const PEBBLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of one answer of Pebble.
pub const PEBBLE_ANSWER_MAX: u64 = 16 * 1024 * 1024;

/// Longest until a pod of a rolling refresh is ready before the refresh stops there.
pub const POD_READY_TIMEOUT: Duration = Duration::from_secs(600);

/// First and last host number of services' addresses in the pods' network; units' come after them.
pub const SERVICE_HOSTS: std::ops::RangeInclusive<u8> = 2..=9;

/// How long resolvers may keep the address of a pod, in seconds: what kubeadm sets up.
pub const NAME_TTL_S: u32 = 30;

/// Most bytes of a question to the resolver: what DNS allows without extensions, and then some.
pub const NAME_QUESTION_MAX: usize = 4096;

/// Most bytes in one databag (Juju 4.0 checks this at commit).
pub const DATABAG_MAX: usize = 16 * 1024 * 1024;

/// Most bytes in a key of the charm's state.
pub const STATE_KEY_MAX: usize = 256;

/// Most bytes in a value of the charm's state.
pub const STATE_VALUE_MAX: usize = 65_536;

/// Most bytes in the charm's whole state (Juju 3.6 checks this at commit).
pub const STATE_TOTAL_MAX: usize = 2 * 1024 * 1024;

/// Most bytes of a secret's content, encoded in base64.
pub const SECRET_MAX: usize = 1_000_000;

/// Most units that one command may add.
pub const UNITS_MAX: u32 = 100;

/// Most finished tasks that are remembered; the oldest are forgotten.
pub const TASKS_MAX: usize = 2000;

/// How long units of a removed application stay alive before they learn of it.
///
/// Juju marks them in a later clean-up job, so that relations may break first.
pub const CASCADE_DELAY: Duration = Duration::from_millis(300);

/// Most bytes of one YAML file of a charm: real ones are some 100 KiB at most.
pub const CHARM_YAML_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most values in one YAML document, those that aliases repeat included.
///
/// Ten lines of aliases can stand for a billion values; real files have some thousand.
pub const YAML_VALUES_MAX: usize = 500_000;

/// Most bytes of text in one YAML document, those that aliases repeat included.
pub const YAML_TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most brackets that may be open at the same time in a YAML document.
///
/// The reader's time grows with the square of it: 160 KB of brackets alone take ten seconds. It takes
/// 128 levels anyway; brackets in texts may be more, but not without end.
pub const YAML_BRACKETS_MAX: usize = 256;

/// Most levels of maps in a key such as `a.b.c` of an action's parameter or result.
///
/// JSON is read 128 levels deep at most, and every level needs stack.
pub const KEY_DEPTH_MAX: usize = 32;

/// Most directories within each other in a charm: each level needs stack. Python charms have about fifteen.
pub const CHARM_DEPTH_MAX: usize = 100;

/// Longest target of a link in an archive, in bytes: what Linux takes.
pub const LINK_BYTES_MAX: u64 = 4095;

/// Most instances of one storage that a unit may have.
pub const STORAGE_INSTANCES_MAX: u32 = 100;

/// Most entries of a charm. Python charms with their dependencies have a few thousand.
pub const CHARM_ENTRIES_MAX: usize = 100_000;

/// Most bytes that a charm takes unpacked; guards against a wrong directory and against a bomb of a zip.
pub const CHARM_UNPACKED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Longest text that Juju shows as a charm's version.
pub const VERSION_LEN_MAX: usize = 100;

/// Longest that `--wait` waits when no time is given.
pub const WAIT_DEFAULT: &str = "15m";

/// Longest that `run` and `exec` wait for their tasks when no time is given; Juju's client does the same.
pub const TASK_WAIT_DEFAULT: &str = "60s";

/// Pause between two looks at units while waiting. Long against a look, short for a person.
pub const WAIT_POLL: Duration = Duration::from_millis(200);

/// Pause between two looks at tasks.
pub const TASK_POLL: Duration = Duration::from_millis(30);

/// How long units must be ready until a wait believes it: between two hooks a unit is idle for a moment.
pub const SETTLED: Duration = Duration::from_millis(700);

/// How long units may stand blocked, with nothing else going on, until a wait gives up: a person is needed.
pub const BLOCKED_PATIENCE: Duration = Duration::from_secs(60);

/// Longest that the end of the engine may take after `destroy` has answered.
pub const END_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two looks at the log when following it.
pub const FOLLOW_POLL: Duration = Duration::from_millis(100);

/// Most bytes that are read back from the log's end for `--tail`.
pub const TAIL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most bytes of a file that a person names for configuration, parameters or a secret.
pub const INPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;
