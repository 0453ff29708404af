//! Why a run waits: what it lacks, who holds it, when it can start, what would start it now.

use dure_types::{Cpu, Memory, RunId, Timestamp};

use crate::{
    price::Ask,
    schedule::{State, fits},
};

/// Who has what another waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub run: RunId,
    pub ask: Ask,
    pub ends_by: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub summary: String,
    pub held_by: Vec<Held>,
    pub place: u32,
    pub starts_by: Option<Timestamp>,
    pub sooner: Option<String>,
}

/// An ask as people write it: `2 CPU, 1Gi, 1 GPU`.
pub fn describe(ask: &Ask) -> String {
    let mut text = format!("{} CPU, {}", Cpu::from_milli(ask.cpu_milli), Memory::from_bytes(ask.memory_bytes));
    if ask.gpus > 0 {
        text.push_str(&format!(", {} GPU", ask.gpus));
    }
    text
}

/// Why no machine could ever hold an ask; none when one could.
pub fn never_fits(state: &State, ask: &Ask) -> Option<(String, String)> {
    if state.could_ever_fit(ask) {
        return None;
    }
    let largest = state
        .machines()
        .iter()
        .max_by_key(|(_, machine)| (machine.facts.gpus.len(), machine.facts.cpu_milli, machine.facts.memory_bytes));
    let Some((name, machine)) = largest else {
        return Some(("there is no node".to_owned(), "see dure node list".to_owned()));
    };
    let whole = Ask {
        cpu_milli: machine.facts.cpu_milli,
        memory_bytes: machine.facts.memory_bytes,
        gpus: machine.facts.gpus.len() as u32,
    };
    let within = Ask {
        cpu_milli: ask.cpu_milli.min(whole.cpu_milli),
        memory_bytes: ask.memory_bytes.min(whole.memory_bytes),
        gpus: ask.gpus.min(whole.gpus),
    };
    let detail = format!(
        "no node can ever run this: it asks for {}; the largest here has {} ({name})",
        describe(ask),
        describe_whole(&whole)
    );
    Some((detail, format!("ask for at most {} (dure node list)", describe_whole(&within))))
}

/// Like `describe`, with memory rounded down to whole mebibytes, as machines have odd sizes.
fn describe_whole(ask: &Ask) -> String {
    describe(&Ask { memory_bytes: ask.memory_bytes >> 20 << 20, ..*ask })
}

/// Why a run that waits for room waits; none when it does not wait for that.
pub fn explain(state: &State, run: &RunId) -> Option<Explanation> {
    let waiting = state.waiting(run)?;
    let place = state.queue().take_while(|(other, _)| *other != run).count() as u32 + 1;
    let (node, machine) = state
        .machines()
        .iter()
        .filter(|(_, machine)| machine.ready)
        .max_by_key(|(_, machine)| (machine.free().gpus, machine.free().cpu_milli, machine.free().memory_bytes))?;
    let free = machine.free();
    let mut held_by: Vec<_> = state
        .placed()
        .filter(|(_, placed)| placed.node == *node)
        .map(|(run, placed)| Held { run: run.clone(), ask: placed.ask, ends_by: placed.ends_by })
        .collect();
    held_by.sort_by(|a, b| (a.ends_by.is_none(), a.ends_by, &a.run).cmp(&(b.ends_by.is_none(), b.ends_by, &b.run)));
    let fits_now = fits(&waiting.ask, &free);
    let summary = if fits_now {
        format!("waits for its turn: {} before it", place - 1)
    } else {
        format!("waits for {}; {node} has {} free", describe(&waiting.ask), describe_free(&free))
    };
    let starts_by = if place == 1 { when_it_fits(&waiting.ask, free, &held_by) } else { None };
    let smaller = Ask {
        cpu_milli: waiting.ask.cpu_milli.min(free.cpu_milli),
        memory_bytes: waiting.ask.memory_bytes.min(free.memory_bytes),
        gpus: waiting.ask.gpus.min(free.gpus),
    };
    let something = smaller.cpu_milli > 0 && smaller.memory_bytes > 0 && (waiting.ask.gpus == 0 || smaller.gpus > 0);
    let sooner = (place == 1 && !fits_now && something)
        .then(|| format!("{} would start now on {node}", describe_whole(&smaller)));
    Some(Explanation { summary, held_by, place, starts_by, sooner })
}

fn describe_free(free: &Ask) -> String {
    let mut text =
        format!("{} CPU, {}", free.cpu_milli as f64 / 1000.0, Memory::from_bytes(free.memory_bytes >> 20 << 20));
    if free.gpus > 0 {
        text.push_str(&format!(", {} GPU", free.gpus));
    }
    text
}

/// When enough of the holders have ended at their time limits; none when some that it needs have none.
fn when_it_fits(ask: &Ask, mut free: Ask, held_by: &[Held]) -> Option<Timestamp> {
    for held in held_by {
        let at = held.ends_by?;
        free.cpu_milli += held.ask.cpu_milli;
        free.memory_bytes += held.ask.memory_bytes;
        free.gpus += held.ask.gpus;
        if fits(ask, &free) {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use dure_types::{Name, node::NodeFacts};

    use super::*;
    use crate::schedule::{Machine, Placed};

    const GIB: u64 = 1 << 30;

    fn run(number: u64) -> RunId {
        format!("{number:020x}").parse().unwrap()
    }

    fn ask(cores: u64) -> Ask {
        Ask { cpu_milli: cores * 1000, memory_bytes: GIB, gpus: 0 }
    }

    fn state() -> State {
        let mut state = State::default();
        let facts = NodeFacts { cpu_milli: 4000, memory_bytes: 8 * GIB, gpus: Vec::new() };
        state.set_machine(Name::new("one").unwrap(), Machine::new(facts, true));
        let ends_by = Some(Timestamp::from_micros(60_000_000));
        let placed = Placed { node: Name::new("one").unwrap(), devices: Vec::new(), ask: ask(3), ends_by };
        state.place(run(1), placed);
        state
    }

    #[test]
    fn a_wait_names_its_holder_its_end_and_the_smallest_change() {
        let mut state = state();
        state.enqueue(run(2), ask(2), Timestamp::from_micros(1));
        state.enqueue(run(3), ask(1), Timestamp::from_micros(2));
        let first = explain(&state, &run(2)).unwrap();
        assert_eq!(first.held_by[0].run, run(1));
        assert_eq!(first.starts_by, Some(Timestamp::from_micros(60_000_000)));
        assert_eq!(first.sooner.as_deref(), Some("1 CPU, 1Gi would start now on one"));
        let second = explain(&state, &run(3)).unwrap();
        assert_eq!((second.place, second.sooner), (2, None));
        assert_eq!(second.summary, "waits for its turn: 1 before it");
    }

    #[test]
    fn what_can_never_fit_is_told_with_the_largest_that_would() {
        let (detail, next) = never_fits(&state(), &ask(64)).unwrap();
        assert!(detail.contains("64 CPU") && detail.contains("4 CPU, 8Gi (one)"), "{detail}");
        assert!(next.contains("4 CPU, 1Gi"), "{next}");
        assert_eq!(never_fits(&state(), &ask(4)), None);
    }
}
