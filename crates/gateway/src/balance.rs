//! Which replica gets the next request: the better of two random ones, by recent latency times what
//! it already has in hand. Pure; it knows neither sockets nor which clock it is told.

use std::time::{Duration, Instant};

/// How fast an old observation stops to count.
const DECAY: Duration = Duration::from_secs(10);

/// Differences below this are noise, and a fully decayed latency must not hide the requests in flight.
const FLOOR_SECONDS: f64 = 1e-5;

/// Latency that jumps up at once with a slow answer and comes down slowly, and that is forgotten
/// with time, so that a replica which was slow once is tried again.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma {
    seen: Option<(f64, Instant)>,
}

impl PeakEwma {
    pub fn observe(&mut self, latency: Duration, now: Instant) {
        let latency = latency.as_secs_f64();
        let seconds = match self.seen {
            Some((old, at)) if latency < old => {
                let weight = remaining(at, now);
                old * weight + latency * (1.0 - weight)
            }
            _ => latency,
        };
        self.seen = Some((seconds, now));
    }

    /// Seconds, or nothing where no answer was seen yet.
    pub fn estimate(&self, now: Instant) -> Option<f64> {
        self.seen.map(|(seconds, at)| seconds * remaining(at, now))
    }
}

fn remaining(at: Instant, now: Instant) -> f64 {
    let elapsed = now.saturating_duration_since(at).as_secs_f64();
    (-elapsed / DECAY.as_secs_f64()).exp()
}

/// What is known of a replica that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub latency: Option<f64>,
    pub in_flight: u32,
}

impl Candidate {
    /// Against a replica that has not answered yet only the requests in flight can be compared; so a
    /// new one gets its share at once, and no more than it.
    fn is_worse_than(&self, other: &Self) -> bool {
        match (self.latency, other.latency) {
            (Some(mine), Some(theirs)) => load(mine, self.in_flight) > load(theirs, other.in_flight),
            _ => self.in_flight > other.in_flight,
        }
    }
}

fn load(latency: f64, in_flight: u32) -> f64 {
    latency.max(FLOOR_SECONDS) * (f64::from(in_flight) + 1.0)
}

/// The index of the replica to use, of `count`; `candidate` says nothing for one that may not be used.
pub fn choose(count: usize, random: u64, candidate: impl Fn(usize) -> Option<Candidate>) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let seek = |start: usize, except: Option<usize>| {
        (0..count)
            .map(|step| (start + step) % count)
            .filter(|index| Some(*index) != except)
            .find_map(|index| candidate(index).map(|found| (index, found)))
    };
    let (first, one) = seek(scaled(random as u32, count), None)?;
    if count == 1 {
        return Some(first);
    }
    let start = (first + 1 + scaled((random >> 32) as u32, count - 1)) % count;
    match seek(start, Some(first)) {
        Some((second, other)) if one.is_worse_than(&other) => Some(second),
        _ => Some(first),
    }
}

fn scaled(random: u32, count: usize) -> usize {
    ((u64::from(random) * count as u64) >> 32) as usize
}

/// A small generator for choices and request ids; not for secrets.
#[derive(Debug, Clone, Copy)]
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates() -> impl Strategy<Value = Vec<Option<Candidate>>> {
        let candidate = (prop::option::of(0.0..10.0f64), 0u32..1000)
            .prop_map(|(latency, in_flight)| Candidate { latency, in_flight });
        prop::collection::vec(prop::option::of(candidate), 0..12)
    }

    proptest! {
        #[test]
        fn a_usable_replica_is_chosen_exactly_when_there_is_one(all in candidates(), random: u64) {
            match choose(all.len(), random, |index| all[index]) {
                Some(chosen) => prop_assert!(all[chosen].is_some()),
                None => prop_assert!(all.iter().all(Option::is_none)),
            }
        }

        #[test]
        fn the_worst_of_several_is_never_chosen(all in candidates(), random: u64) {
            let chosen = choose(all.len(), random, |index| all[index]);
            let usable = all.iter().flatten().count();
            if let Some(chosen) = chosen.and_then(|index| all[index]).filter(|_| usable > 1) {
                let worse_than_all = all.iter().flatten().filter(|other| chosen.is_worse_than(other)).count() == usable - 1;
                prop_assert!(!worse_than_all);
            }
        }

        #[test]
        fn the_estimate_jumps_up_at_once_and_never_leaves_what_was_seen(
            observed in prop::collection::vec((0u64..60_000, 0u64..30_000), 1..40),
        ) {
            let mut now = Instant::now();
            let mut ewma = PeakEwma::default();
            let mut highest = 0.0f64;
            for (latency, pause) in observed {
                now += Duration::from_millis(pause);
                let before = ewma.estimate(now);
                let latency = Duration::from_millis(latency);
                ewma.observe(latency, now);
                let after = ewma.estimate(now).unwrap();
                highest = highest.max(latency.as_secs_f64());
                prop_assert!(after + 1e-9 >= latency.as_secs_f64());
                prop_assert!(after <= highest + 1e-9);
                let later = ewma.estimate(now + Duration::from_secs(1)).unwrap();
                prop_assert!(later <= after);
                prop_assert!(before.is_none_or(|before| before >= 0.0));
            }
        }
    }

    #[test]
    fn equal_replicas_share_and_a_slow_one_gets_little() {
        let mut random = SplitMix(7);
        let mut equal = [0u32; 5];
        let mut uneven = [0u32; 5];
        for _ in 0..10_000 {
            let alike = Candidate { latency: Some(0.01), in_flight: 1 };
            equal[choose(5, random.draw(), |_| Some(alike)).unwrap()] += 1;
            let slow = |index| Candidate { latency: Some(if index == 3 { 2.0 } else { 0.01 }), in_flight: 1 };
            uneven[choose(5, random.draw(), |index| Some(slow(index))).unwrap()] += 1;
        }
        assert!(equal.iter().all(|share| (1700..2300).contains(share)), "{equal:?}");
        assert_eq!(uneven[3], 0);
        assert!(uneven.iter().enumerate().all(|(index, share)| index == 3 || *share > 2000), "{uneven:?}");
    }

    #[test]
    fn a_replica_that_never_answered_is_compared_by_requests_in_flight_only() {
        let new = Candidate { latency: None, in_flight: 1 };
        let known = Candidate { latency: Some(0.001), in_flight: 0 };
        let all = [new, known];
        for random in [0, u64::MAX, 1 << 40] {
            assert_eq!(choose(2, random, |index| Some(all[index])), Some(1));
        }
    }
}
