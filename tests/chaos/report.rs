//! What a case measured, the bars that it has to clear, and how both are told.

use std::{env, fmt::Write as _, fs::OpenOptions, io::Write as _, path::PathBuf, time::Duration};

use serde_json::json;

/// Time after which a primary that is silent counts as lost, by default.
pub const DETECTION: Duration = Duration::from_secs(5);
/// How long an isolated primary may go on taking writes: `min-replicas-max-lag` (2 s) and 2 s.
pub const FENCED: Duration = Duration::from_secs(4);
/// Write gap after the loss of the primary's unit.
pub const UNIT_LOST: Duration = DETECTION.saturating_add(Duration::from_secs(2));
/// Write gap after the primary was cut off: the silence counts from the Sentinels' next ping, a quarter of a second later, and a
/// promotion shows after up to a second.
pub const CUT_OFF: Duration = DETECTION.saturating_add(Duration::from_secs(2));
/// Write gap after the primary's server was killed.
pub const SERVER_KILLED: Duration = Duration::from_millis(2500);
/// How much longer everything may take while other tests keep the cores busy, in percent.
///
/// The bars hold on two quiet cores; `scripts/chaos` runs one case after the other and sets 100.
const SLACK_DEFAULT: u32 = 150;

/// What a case measured.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Name of the case.
    pub case: &'static str,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged writes that the application does not hold in the end.
    pub lost: usize,
    /// Those of them that a replica had confirmed.
    pub lost_confirmed: usize,
    /// Those of them that both replicas had confirmed.
    pub lost_everywhere: usize,
    /// Those of them that are in no data set that was kept aside.
    pub lost_not_kept: usize,
    /// Writes that the old primary acknowledged after the fault began, if it was displaced.
    pub displaced_writes: usize,
    /// From the fault to the last of them.
    pub displaced_for: Duration,
    /// Those that it acknowledged after the fault had ended.
    pub displaced_after_heal: usize,
    /// Longest time without a write for the client that follows Sentinel, on the clients' side.
    pub gap_follows: Duration,
    /// The same for the client that polls all servers.
    pub gap_polls: Duration,
    /// From the end of the fault to the full redundancy.
    pub redundancy: Duration,
    /// What else is to be said.
    pub note: String,
}

/// What a case must not exceed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bars {
    /// Acknowledged writes lost.
    pub lost: Option<usize>,
    /// Write gap of the client that follows Sentinel.
    pub gap: Option<Duration>,
    /// How long a displaced primary takes writes.
    pub displaced_for: Option<Duration>,
    /// Writes that a displaced primary acknowledges once the fault has ended.
    pub displaced_after_heal: Option<usize>,
    /// Whether losses need not be among what was kept aside.
    pub unkept_allowed: bool,
    /// Whether writes that one replica had confirmed may be lost: only when faults meet. What both had never is.
    pub confirmed_allowed: bool,
}

impl Report {
    /// Prints the report, adds it to the file of results, and compares it with the bars.
    ///
    /// # Panics
    ///
    /// When a bar is missed.
    pub fn judge(&self, bars: &Bars) {
        let missed = self.missed(bars);
        self.tell(&missed);
        assert!(
            missed.is_empty(),
            "{}: {}\n{self:#?}",
            self.case,
            missed.join("; ")
        );
    }

    fn missed(&self, bars: &Bars) -> Vec<String> {
        let mut missed = Vec::new();
        let mut number = |what: &str, seen: usize, bar: Option<usize>| {
            if let Some(bar) = bar.filter(|bar| seen > *bar) {
                missed.push(format!("{what}: {seen}, at most {bar} allowed"));
            }
        };
        number("lost writes", self.lost, bars.lost);
        let none = |allowed: bool| (!allowed).then_some(0);
        number(
            "lost writes that a replica had confirmed",
            self.lost_confirmed,
            none(bars.confirmed_allowed),
        );
        number(
            "lost writes that both replicas had confirmed",
            self.lost_everywhere,
            Some(0),
        );
        number(
            "lost writes that were not kept aside",
            self.lost_not_kept,
            none(bars.unkept_allowed),
        );
        number(
            "writes taken by the displaced primary after the fault",
            self.displaced_after_heal,
            bars.displaced_after_heal,
        );
        let mut time = |what: &str, seen: Duration, bar: Option<Duration>| {
            if let Some(bar) = bar.map(slack).filter(|bar| seen > *bar) {
                missed.push(format!("{what}: {seen:?}, at most {bar:?} allowed"));
            }
        };
        time("write gap", self.gap_follows, bars.gap);
        time(
            "the displaced primary took writes for",
            self.displaced_for,
            bars.displaced_for,
        );
        if self.acknowledged < 100 {
            missed.push(format!(
                "hardly anything was written: {}",
                self.acknowledged
            ));
        }
        missed
    }

    fn tell(&self, missed: &[String]) {
        let line = json!({
            "case": self.case,
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "lost-confirmed": self.lost_confirmed,
            "lost-everywhere": self.lost_everywhere,
            "lost-not-kept": self.lost_not_kept,
            "displaced-writes": self.displaced_writes,
            "displaced-ms": millis(self.displaced_for),
            "displaced-after-heal": self.displaced_after_heal,
            "gap-follows-ms": millis(self.gap_follows),
            "gap-polls-ms": millis(self.gap_polls),
            "redundancy-ms": millis(self.redundancy),
            "note": self.note,
            "missed": missed,
        });
        println!("{}", self.table());
        println!("{line}");
        if let Some(path) = env::var_os("CHAOS_RESULTS").map(PathBuf::from) {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .and_then(|mut file| writeln!(file, "{line}"))
                .unwrap_or_else(|error| panic!("cannot add to {}: {error}", path.display()));
        }
    }

    fn table(&self) -> String {
        let mut text = format!("--- {}\n", self.case);
        let mut row = |what: &str, value: String| {
            let _ = writeln!(text, "{what:<52} {value:>12}");
        };
        row("writes acknowledged", self.acknowledged.to_string());
        row("lost", self.lost.to_string());
        row(
            "lost though a replica had confirmed",
            self.lost_confirmed.to_string(),
        );
        row("lost and not kept aside", self.lost_not_kept.to_string());
        row(
            "taken by the displaced primary",
            self.displaced_writes.to_string(),
        );
        row("  for", format!("{} ms", millis(self.displaced_for)));
        row(
            "  after the fault had ended",
            self.displaced_after_heal.to_string(),
        );
        row(
            "write gap, follows Sentinel",
            format!("{} ms", millis(self.gap_follows)),
        );
        row("write gap, polls", format!("{} ms", millis(self.gap_polls)));
        row(
            "full redundancy after",
            format!("{} ms", millis(self.redundancy)),
        );
        if !self.note.is_empty() {
            let _ = writeln!(text, "{}", self.note);
        }
        text
    }
}

fn slack(bar: Duration) -> Duration {
    let percent = env::var("CHAOS_SLACK_PERCENT")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SLACK_DEFAULT);
    bar * percent / 100
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
