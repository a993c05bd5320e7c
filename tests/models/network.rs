//! Which packets get through, and when connections that a cut left hanging go on.

use super::api::Millis;

/// First pause before TCP sends again what nobody acknowledged; it doubles each time.
const RETRANSMIT: Millis = 200;

/// Usual time until Sentinel and replicas have made a new connection after a cut healed.
const RECONNECT: Millis = 600;

/// Longest such time: the last pauses between the packets that ask for a new connection.
const RECONNECT_MAX: Millis = 8_000;

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    cut_at: Option<Millis>,
    /// From when on a connection that was open during the last cut carries data again.
    resumes_at: Millis,
}

/// The ways between all hosts, by number.
#[derive(Debug, Default)]
pub struct Network {
    ways: Vec<Vec<Way>>,
}

impl Network {
    /// Makes room for one more host.
    pub fn add(&mut self) {
        for row in &mut self.ways {
            row.push(Way::default());
        }
        self.ways.push(vec![Way::default(); self.ways.len() + 1]);
    }

    /// Cuts one way.
    pub fn cut(&mut self, from: usize, to: usize, now: Millis) {
        let way = &mut self.ways[from][to];
        way.cut_at = way.cut_at.or(Some(now));
    }

    /// Heals one way; connections go on when TCP tries again.
    pub fn heal(&mut self, from: usize, to: usize, now: Millis, random: &mut fastrand::Rng) {
        let way = &mut self.ways[from][to];
        let Some(cut_at) = way.cut_at.take() else {
            return;
        };
        let lasted = now - cut_at;
        let mut tried = RETRANSMIT;
        while tried < lasted {
            tried = tried * 2 + RETRANSMIT;
        }
        let longest = if random.u8(0..4) > 0 {
            RECONNECT
        } else {
            RECONNECT_MAX
        };
        way.resumes_at = (cut_at + tried).min(now + random.u64(0..longest));
    }

    /// Returns whether a new connection works: both ways are open.
    pub fn open(&self, a: usize, b: usize) -> bool {
        a == b || (self.ways[a][b].cut_at.is_none() && self.ways[b][a].cut_at.is_none())
    }

    /// Returns whether a connection that was open all the time carries data.
    pub fn carries(&self, a: usize, b: usize, now: Millis) -> bool {
        self.open(a, b)
            && (a == b || (self.ways[a][b].resumes_at <= now && self.ways[b][a].resumes_at <= now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_of_one_way_stops_both_and_connections_go_on_later() {
        let mut net = Network::default();
        (0..3).for_each(|_| net.add());
        let mut random = fastrand::Rng::with_seed(1);
        net.cut(0, 1, 1_000);
        assert!(!net.open(0, 1) && !net.open(1, 0) && net.open(0, 2) && net.open(1, 1));
        net.heal(0, 1, 3_000, &mut random);
        assert!(net.open(0, 1) && !net.carries(0, 1, 3_000));
        // 0.2, 0.6, 1.4, 3.0 s after the cut: the first after it healed is the last of these.
        assert!(
            net.carries(0, 1, 4_000),
            "TCP tried again 3 s after the cut began"
        );
    }
}
