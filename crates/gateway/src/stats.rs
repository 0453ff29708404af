//! What was served, per service. Each worker writes cells of its own and a reader sums them, so that
//! counting costs no shared cache line on a request's way.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

const BUCKETS: usize = 96;

/// One worker's counters of one service. Written by that worker's thread only, which is why a plain
/// load and store is enough.
#[repr(align(128))]
pub(crate) struct Cell {
    pub requests: AtomicU64,
    pub in_flight: AtomicU64,
    pub cancelled: AtomicU64,
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    classes: [AtomicU64; 5],
    latency: [AtomicU64; BUCKETS],
    latency_micros: AtomicU64,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            bytes_received: AtomicU64::default(),
            bytes_sent: AtomicU64::default(),
            classes: Default::default(),
            latency: [const { AtomicU64::new(0) }; BUCKETS],
            latency_micros: AtomicU64::default(),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

pub(crate) fn subtract(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_sub(amount), Relaxed);
}

impl Cell {
    pub fn answered(&self, status: u16) {
        if let Some(class) = self.classes.get(usize::from(status / 100).wrapping_sub(1)) {
            add(class, 1);
        }
    }

    pub fn latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        add(&self.latency[bucket(micros)], 1);
        add(&self.latency_micros, micros);
    }
}

/// Four buckets to an octave from 16 us up, so that a quantile is at most a quarter above the
/// true value; the last one has no upper end.
fn bucket(micros: u64) -> usize {
    if micros < 16 {
        return 0;
    }
    let octave = micros.ilog2();
    let quarter = (micros >> (octave - 2)) & 3;
    ((octave - 4) as usize * 4 + quarter as usize + 1).min(BUCKETS - 1)
}

/// The upper end of a bucket, in microseconds.
fn upper(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket as u64 / 4, bucket as u64 % 4);
    (4 + quarter) << (octave + 2)
}

/// How long replicas took to begin their answers, from the end of the request (or the last part of
/// it that they had) on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    counts: [u64; BUCKETS],
    micros: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], micros: 0 }
    }
}

impl Latency {
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn mean(&self) -> Option<Duration> {
        self.micros.checked_div(self.count()).map(Duration::from_micros)
    }

    /// At most a quarter above the true value (up to 234 s). `q` from 0 to 1.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut below = 0;
        let found = self.counts.iter().position(|one| {
            below += one;
            below >= rank
        });
        found.map(|found| Duration::from_micros(upper(found)))
    }

    /// What came since an earlier reading of the same service.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, old) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(old);
        }
        Self { counts, micros: self.micros.saturating_sub(earlier.micros) }
    }
}

/// One service, since this process started; only `in_flight` ever falls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceStats {
    pub requests: u64,
    /// Requests, streams and tunnels that are open now.
    pub in_flight: u64,
    /// Answers of 1xx (tunnels), 2xx, 3xx, 4xx and 5xx, the gateway's own included.
    pub by_class: [u64; 5],
    /// Requests whose caller left before an answer began.
    pub cancelled: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub latency: Latency,
}

impl ServiceStats {
    fn add(&mut self, cell: &Cell) {
        self.requests += cell.requests.load(Relaxed);
        self.in_flight += cell.in_flight.load(Relaxed);
        self.cancelled += cell.cancelled.load(Relaxed);
        self.bytes_received += cell.bytes_received.load(Relaxed);
        self.bytes_sent += cell.bytes_sent.load(Relaxed);
        for (sum, class) in self.by_class.iter_mut().zip(&cell.classes) {
            *sum += class.load(Relaxed);
        }
        for (sum, bucket) in self.latency.counts.iter_mut().zip(&cell.latency) {
            *sum += bucket.load(Relaxed);
        }
        self.latency.micros += cell.latency_micros.load(Relaxed);
    }
}

/// All cells by `PROJECT/SERVICE`. A service that was removed keeps its cells, so that what it served
/// last is still billed.
#[derive(Default)]
pub(crate) struct Register(Mutex<HashMap<String, HashMap<usize, Arc<Cell>>>>);

impl Register {
    /// The cell of one worker. Asked for once per worker and service, never per request.
    pub fn cell(&self, key: &str, worker: usize) -> Arc<Cell> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cells.entry(key.to_owned()).or_default().entry(worker).or_default().clone()
    }

    pub fn read(&self) -> HashMap<String, ServiceStats> {
        let cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |cells: &HashMap<usize, Arc<Cell>>| {
            let mut sum = ServiceStats::default();
            cells.values().for_each(|cell| sum.add(cell));
            sum
        };
        cells.iter().map(|(key, cells)| (key.clone(), sum(cells))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_value_and_is_at_most_a_quarter_wide() {
        for micros in (0..5_000_000u64).step_by(37) {
            let bucket = bucket(micros);
            assert!(micros < upper(bucket), "{micros}");
            if micros >= 16 {
                assert!(upper(bucket) <= micros + micros / 4 + 1, "{micros} {}", upper(bucket));
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_read_over_several_cells() {
        let register = Register::default();
        let (one, two) = (register.cell("a/b", 0), register.cell("a/b", 1));
        for millis in 1..=50 {
            one.latency(Duration::from_millis(millis));
            two.latency(Duration::from_millis(millis + 50));
        }
        let latency = register.read()["a/b"].latency.clone();
        assert_eq!(latency.count(), 100);
        assert_eq!(latency.mean(), Some(Duration::from_micros(50_500)));
        let median = latency.quantile(0.5).unwrap();
        assert!((50..=60).contains(&median.as_millis()), "{median:?}");
        let highest = latency.quantile(1.0).unwrap();
        assert!((100..=120).contains(&highest.as_millis()), "{highest:?}");
        assert_eq!(Latency::default().quantile(0.5), None);
    }
}
