//! Who starts next, and where: first come, first served on real cores, memory and devices.
//!
//! The state is kept between decisions and changed by what happened, so that a decision costs what
//! changed and not what there is. A better policy goes behind `decide` without a change above it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dure_types::{Name, RunId, Timestamp, node::NodeFacts};

use crate::price::Ask;

/// A machine, what it has and what of it is taken.
#[derive(Debug, Clone)]
pub struct Machine {
    pub facts: NodeFacts,
    /// Takes new work.
    pub ready: bool,
    used_cpu: u64,
    used_memory: u64,
    /// Device id to the run that has it.
    devices: BTreeMap<String, Option<RunId>>,
}

impl Machine {
    pub fn new(facts: NodeFacts, ready: bool) -> Self {
        let devices = facts.gpus.iter().map(|gpu| (gpu.id.clone(), None)).collect();
        Self { facts, ready, used_cpu: 0, used_memory: 0, devices }
    }

    pub fn free(&self) -> Ask {
        Ask {
            cpu_milli: self.facts.cpu_milli.saturating_sub(self.used_cpu),
            memory_bytes: self.facts.memory_bytes.saturating_sub(self.used_memory),
            gpus: self.devices.values().filter(|holder| holder.is_none()).count() as u32,
        }
    }

    pub fn used(&self) -> Ask {
        Ask {
            cpu_milli: self.used_cpu,
            memory_bytes: self.used_memory,
            gpus: self.devices.values().filter(|holder| holder.is_some()).count() as u32,
        }
    }

    fn whole(&self) -> Ask {
        Ask {
            cpu_milli: self.facts.cpu_milli,
            memory_bytes: self.facts.memory_bytes,
            gpus: self.facts.gpus.len() as u32,
        }
    }
}

/// Whether an ask fits into what there is.
pub fn fits(ask: &Ask, room: &Ask) -> bool {
    ask.cpu_milli <= room.cpu_milli && ask.memory_bytes <= room.memory_bytes && ask.gpus <= room.gpus
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub ask: Ask,
    pub since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub node: Name,
    pub devices: Vec<String>,
    pub ask: Ask,
    /// When it must have ended, where it has a time limit.
    pub ends_by: Option<Timestamp>,
}

/// Start this run there, on these devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub run: RunId,
    pub node: Name,
    pub devices: Vec<String>,
}

/// All that the decision needs.
#[derive(Debug, Default)]
pub struct State {
    machines: BTreeMap<Name, Machine>,
    queue: BTreeSet<(Timestamp, RunId)>,
    waiting: HashMap<RunId, Waiting>,
    placed: HashMap<RunId, Placed>,
}

impl State {
    /// A machine came or changed; what runs there keeps its place.
    pub fn set_machine(&mut self, name: Name, mut machine: Machine) {
        for (run, placed) in self.placed.iter().filter(|(_, placed)| placed.node == name) {
            take(&mut machine, run, placed);
        }
        self.machines.insert(name, machine);
    }

    pub fn machines(&self) -> &BTreeMap<Name, Machine> {
        &self.machines
    }

    /// A run wants to start and waits for nothing but room.
    pub fn enqueue(&mut self, run: RunId, ask: Ask, since: Timestamp) {
        self.queue.insert((since, run.clone()));
        self.waiting.insert(run, Waiting { ask, since });
    }

    /// A run has its place: decided here, or found running after a restart.
    pub fn place(&mut self, run: RunId, placed: Placed) {
        self.unqueue(&run);
        if let Some(machine) = self.machines.get_mut(&placed.node) {
            take(machine, &run, &placed);
        }
        self.placed.insert(run, placed);
    }

    /// A run needs nothing any more.
    pub fn release(&mut self, run: &RunId) {
        self.unqueue(run);
        let Some(placed) = self.placed.remove(run) else { return };
        let Some(machine) = self.machines.get_mut(&placed.node) else { return };
        machine.used_cpu = machine.used_cpu.saturating_sub(placed.ask.cpu_milli);
        machine.used_memory = machine.used_memory.saturating_sub(placed.ask.memory_bytes);
        for device in &placed.devices {
            if let Some(holder) = machine.devices.get_mut(device) {
                *holder = None;
            }
        }
    }

    fn unqueue(&mut self, run: &RunId) {
        if let Some(waiting) = self.waiting.remove(run) {
            self.queue.remove(&(waiting.since, run.clone()));
        }
    }

    /// The queue from its head.
    pub fn queue(&self) -> impl Iterator<Item = (&RunId, &Waiting)> {
        self.queue.iter().filter_map(|(_, run)| self.waiting.get_key_value(run))
    }

    pub fn waiting(&self, run: &RunId) -> Option<&Waiting> {
        self.waiting.get(run)
    }

    pub fn placed(&self) -> impl Iterator<Item = (&RunId, &Placed)> {
        self.placed.iter()
    }

    /// Whether some machine could run this when it is empty.
    pub fn could_ever_fit(&self, ask: &Ask) -> bool {
        self.machines.values().any(|machine| fits(ask, &machine.whole()))
    }

    /// What fits now, from the head of the queue on. Nobody overtakes: the first that does not fit ends
    /// it, except one that no machine could ever hold, which must not hold up the others.
    pub fn decide(&self, most: usize) -> Vec<Placement> {
        let mut room: BTreeMap<&Name, (Ask, Vec<&String>)> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.ready)
            .map(|(name, machine)| {
                let devices = machine.devices.iter().filter(|(_, holder)| holder.is_none()).map(|(id, _)| id);
                (name, (machine.free(), devices.collect()))
            })
            .collect();
        let mut placements = Vec::new();
        for (run, waiting) in self.queue() {
            if placements.len() == most {
                break;
            }
            let best = room
                .iter_mut()
                .filter(|(_, (free, _))| fits(&waiting.ask, free))
                .min_by_key(|(_, (free, _))| (free.gpus, free.cpu_milli, free.memory_bytes));
            match best {
                Some((node, (free, devices))) => {
                    free.cpu_milli -= waiting.ask.cpu_milli;
                    free.memory_bytes -= waiting.ask.memory_bytes;
                    free.gpus -= waiting.ask.gpus;
                    let devices = devices.drain(..waiting.ask.gpus as usize).cloned().collect();
                    placements.push(Placement { run: run.clone(), node: (*node).clone(), devices });
                }
                None if self.could_ever_fit(&waiting.ask) => break,
                None => {}
            }
        }
        placements
    }
}

fn take(machine: &mut Machine, run: &RunId, placed: &Placed) {
    machine.used_cpu += placed.ask.cpu_milli;
    machine.used_memory += placed.ask.memory_bytes;
    for device in &placed.devices {
        machine.devices.insert(device.clone(), Some(run.clone()));
    }
}

#[cfg(test)]
mod tests {
    use dure_types::node::Gpu;
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn run(number: u64) -> RunId {
        format!("{number:020x}").parse().unwrap()
    }

    fn ask(cores: u64, gpus: u32) -> Ask {
        Ask { cpu_milli: cores * 1000, memory_bytes: GIB, gpus }
    }

    fn state(cores: u64, gpus: usize) -> State {
        let gpus = (0..gpus).map(|id| Gpu { id: id.to_string(), model: "A100".to_owned(), memory_bytes: 80 * GIB });
        let facts = NodeFacts { cpu_milli: cores * 1000, memory_bytes: 64 * GIB, gpus: gpus.collect() };
        let mut state = State::default();
        state.set_machine(Name::new("one").unwrap(), Machine::new(facts, true));
        state
    }

    fn start(state: &mut State) -> Vec<RunId> {
        let placements = state.decide(usize::MAX);
        for placement in &placements {
            let ask = state.waiting(&placement.run).unwrap().ask;
            let placed =
                Placed { node: placement.node.clone(), devices: placement.devices.clone(), ask, ends_by: None };
            state.place(placement.run.clone(), placed);
        }
        placements.into_iter().map(|placement| placement.run).collect()
    }

    #[test]
    fn a_small_late_run_does_not_overtake_a_big_early_one() {
        let mut state = state(4, 0);
        for (number, cores) in [(1, 3), (2, 2), (3, 1)] {
            state.enqueue(run(number), ask(cores, 0), Timestamp::from_micros(number as i64));
        }
        assert_eq!(start(&mut state), [run(1)]);
        state.release(&run(1));
        assert_eq!(start(&mut state), [run(2), run(3)]);
    }

    #[test]
    fn what_can_never_run_holds_up_nobody() {
        let mut state = state(4, 0);
        state.enqueue(run(1), ask(64, 0), Timestamp::from_micros(1));
        state.enqueue(run(2), ask(1, 0), Timestamp::from_micros(2));
        assert_eq!(start(&mut state), [run(2)]);
    }

    #[test]
    fn two_runs_never_get_the_same_device() {
        let mut state = state(16, 3);
        for number in 1..=3 {
            state.enqueue(run(number), ask(1, if number == 1 { 2 } else { 1 }), Timestamp::from_micros(number as i64));
        }
        assert_eq!(start(&mut state), [run(1), run(2)]);
        let mut taken: Vec<_> = state.placed().flat_map(|(_, placed)| placed.devices.clone()).collect();
        taken.sort();
        assert_eq!(taken, ["0", "1", "2"]);
        state.release(&run(1));
        assert_eq!(start(&mut state), [run(3)]);
    }

    proptest! {
        #[test]
        fn no_machine_is_ever_overcommitted(steps in proptest::collection::vec((1_u64..6, 0_u32..3, any::<bool>()), 1..60)) {
            let mut state = state(8, 4);
            let mut running: Vec<RunId> = Vec::new();
            for (number, (cores, gpus, end_one)) in steps.into_iter().enumerate() {
                state.enqueue(run(number as u64), ask(cores, gpus), Timestamp::from_micros(number as i64));
                running.extend(start(&mut state));
                if end_one && !running.is_empty() {
                    state.release(&running.remove(0));
                }
                let used: u64 = state.placed().map(|(_, placed)| placed.ask.cpu_milli).sum();
                let machine = state.machines().values().next().unwrap();
                prop_assert_eq!(machine.used().cpu_milli, used);
                prop_assert!(used <= 8000);
                let devices: Vec<_> = state.placed().flat_map(|(_, placed)| placed.devices.clone()).collect();
                let different: BTreeSet<_> = devices.iter().collect();
                prop_assert_eq!(devices.len(), different.len());
            }
        }
    }
}
