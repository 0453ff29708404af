//! What is known of every unit, in a file, so that a keeper that comes later knows it too.
//!
//! One file for all units, only ever appended to: a line when a unit is about to start, a line
//! written by the new process itself just before it becomes the unit's program (so that no crash
//! can part "runs" from "known to run"), a line when it has ended, a line when it is forgotten.
//! An unfinished line is no line. Nothing is flushed to the disk: after a crash of the machine
//! the boot id says that nothing runs. One file and not one for each unit, since making a file is
//! most of what a short unit would cost on some machines.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::processes::{self, Stat};
use crate::unit::{Exit, UnitId};

const HEAD: &str = "head ";
const STARTED: &str = "started ";
const ENDED: &str = "ended ";
const FORGOTTEN: &str = "forgotten ";

/// From this size on it is rewritten when most of it is of units that are forgotten.
const LARGE: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub id: UnitId,
    pub program: String,
    pub boot: String,
    /// Taken before the start: no unit is billed from before it, and none runs before it.
    pub started_at: i64,
    pub memory_bytes: u64,
    pub timeout_micros: Option<u64>,
    pub grace_micros: u64,
    pub socket: Option<PathBuf>,
    /// The cgroups that it is in, the one that counts memory first.
    pub cgroups: Vec<PathBuf>,
    /// Out-of-memory kills that its cgroup had counted before it.
    pub kills_before: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub head: Head,
    pub started: Option<String>,
    pub exit: Option<Exit>,
}

#[derive(Serialize, Deserialize)]
struct Ended<'a> {
    id: UnitId,
    exit: std::borrow::Cow<'a, Exit>,
}

pub struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
    /// What it had after it was last rewritten.
    least: u64,
}

impl Journal {
    /// With what is in it, rewritten without what was forgotten.
    pub fn open(path: PathBuf) -> io::Result<(Journal, Vec<Record>)> {
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let records = replay(&text);
        let (file, size) = write_anew(&path, &records)?;
        Ok((Journal { path, file, size, least: size }, records))
    }

    /// For the new process to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn head(&mut self, head: &Head) -> io::Result<()> {
        self.append(&line(HEAD, head)?)
    }

    pub fn ended(&mut self, id: &UnitId, exit: &Exit) -> io::Result<()> {
        self.append(&line(ENDED, &Ended { id: id.clone(), exit: std::borrow::Cow::Borrowed(exit) })?)
    }

    pub fn forgotten(&mut self, id: &UnitId) -> io::Result<()> {
        self.append(&format!("{FORGOTTEN}{id}\n"))?;
        if self.size < LARGE || self.size < self.least * 4 {
            return Ok(());
        }
        // No new process is writing: the keeper waits for each to become its program.
        let records = replay(&std::fs::read_to_string(&self.path)?);
        (self.file, self.size) = write_anew(&self.path, &records)?;
        self.least = self.size;
        Ok(())
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        self.size += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

/// What a new process writes before its own line of `/proc/<pid>/stat`.
pub fn started_prefix(id: &UnitId) -> String {
    format!("{STARTED}{id} ")
}

fn line<T: Serialize>(word: &str, value: &T) -> io::Result<String> {
    Ok(format!("{word}{}\n", serde_json::to_string(value)?))
}

fn write_anew(path: &Path, records: &[Record]) -> io::Result<(File, u64)> {
    let mut text = String::new();
    for record in records {
        text += &line(HEAD, &record.head)?;
        if let Some(stat) = &record.started {
            text += &format!("{}{stat}\n", started_prefix(&record.head.id));
        }
        if let Some(exit) = &record.exit {
            let id = record.head.id.clone();
            text += &line(ENDED, &Ended { id, exit: std::borrow::Cow::Borrowed(exit) })?;
        }
    }
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&new, path)?;
    Ok((file, text.len() as u64))
}

/// In the order in which the units were started.
fn replay(text: &str) -> Vec<Record> {
    let mut records: Vec<Option<Record>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        if let Some(head) = line.strip_prefix(HEAD) {
            if let Ok(head) = serde_json::from_str::<Head>(head) {
                if let Some(earlier) = places.insert(head.id.to_string(), records.len()) {
                    records[earlier] = None;
                }
                records.push(Some(Record { head, started: None, exit: None }));
            }
        } else if let Some((id, stat)) = line.strip_prefix(STARTED).and_then(|rest| rest.split_once(' ')) {
            if let Some(Some(record)) = places.get(id).and_then(|place| records.get_mut(*place)) {
                record.started = Some(stat.to_string());
            }
        } else if let Some(ended) = line.strip_prefix(ENDED) {
            if let Ok(ended) = serde_json::from_str::<Ended>(ended)
                && let Some(Some(record)) = places.get(ended.id.as_str()).and_then(|place| records.get_mut(*place))
            {
                record.exit = Some(ended.exit.into_owned());
            }
        } else if let Some(id) = line.strip_prefix(FORGOTTEN)
            && let Some(place) = places.remove(id)
        {
            records[place] = None;
        }
    }
    records.into_iter().flatten().collect()
}

impl Record {
    pub fn stat(&self) -> Option<Stat> {
        self.started.as_deref().and_then(processes::parse_stat)
    }
}

/// What a recorded process is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    Yes,
    /// Dead and not reaped: its exit status can still be read.
    Zombie,
    /// Gone, or its number means another process now.
    No,
    /// Of an earlier boot of the machine.
    OtherBoot,
}

/// A process is the recorded one only if boot, number and start time are all the same.
pub fn is_alive(recorded: &Stat, boot: &str, boot_now: &str, found: Option<&Stat>) -> Alive {
    if boot != boot_now {
        return Alive::OtherBoot;
    }
    match found {
        Some(found) if (found.pid, found.start_time) == (recorded.pid, recorded.start_time) => {
            if found.is_dead() {
                Alive::Zombie
            } else {
                Alive::Yes
            }
        }
        _ => Alive::No,
    }
}

pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Outcome, Usage};

    const STAT: &str = "9 (dure-keeper) R 1 9 9 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 555 0 0";

    fn head(id: &str) -> Head {
        Head {
            id: UnitId::new(id).unwrap(),
            program: "true".into(),
            boot: "b".into(),
            started_at: 5,
            memory_bytes: 0,
            timeout_micros: None,
            grace_micros: 1,
            socket: None,
            cgroups: vec![],
            kills_before: 0,
        }
    }

    fn exit() -> Exit {
        let usage = Usage::default();
        Exit { started_at: 5, ended_at: 6, outcome: Outcome::Exited { code: 0 }, usage, log_bytes: 0 }
    }

    #[test]
    fn the_next_keeper_reads_what_this_one_wrote_and_not_what_was_cut_off() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal");
        let (mut journal, none) = Journal::open(path.clone()).unwrap();
        assert_eq!(none, []);
        for id in ["runs", "over", "gone", "never"] {
            journal.head(&head(id)).unwrap();
            if id != "never" {
                let started = started_prefix(&UnitId::new(id).unwrap());
                journal.file().write_all(format!("{started}{STAT}\n").as_bytes()).unwrap();
            }
        }
        journal.ended(&head("over").id, &exit()).unwrap();
        journal.forgotten(&head("gone").id).unwrap();
        journal.file().write_all(b"ended {\"id\":\"runs\",\"ex").unwrap();

        let (mut journal, records) = Journal::open(path.clone()).unwrap();
        let told: Vec<_> = records.iter().map(|r| (r.head.id.as_str(), r.stat().is_some(), r.exit.is_some())).collect();
        assert_eq!(told, [("runs", true, false), ("over", true, true), ("never", false, false)]);
        journal.ended(&head("runs").id, &exit()).unwrap();
        let (_, records) = Journal::open(path).unwrap();
        assert_eq!(records[0].exit, Some(exit()), "the line after a cut one is whole");
        assert_eq!(records[0].stat().unwrap().start_time, 555);
    }

    #[test]
    fn an_id_that_was_forgotten_may_come_again() {
        let id = UnitId::new("a").unwrap();
        let one = line(HEAD, &head("a")).unwrap();
        let text = format!("{one}{}{STAT}\n{FORGOTTEN}a\n{one}", started_prefix(&id));
        let records = replay(&text);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].started, None);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal");
        let (mut journal, _) = Journal::open(path.clone()).unwrap();
        journal.head(&head("stays")).unwrap();
        let mut large = head("passes");
        large.program = "x".repeat(100_000);
        for _ in 0..100 {
            journal.head(&large).unwrap();
            journal.forgotten(&large.id).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() < LARGE + 200_000);
        let (_, records) = Journal::open(path).unwrap();
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn a_reused_process_number_is_another_process() {
        let recorded = processes::parse_stat(STAT).unwrap();
        let later = Stat { start_time: 556, ..recorded.clone() };
        let zombie = Stat { state: 'Z', ..recorded.clone() };
        assert_eq!(is_alive(&recorded, "b", "b", Some(&recorded)), Alive::Yes);
        assert_eq!(is_alive(&recorded, "b", "b", Some(&zombie)), Alive::Zombie);
        assert_eq!(is_alive(&recorded, "b", "b", Some(&later)), Alive::No);
        assert_eq!(is_alive(&recorded, "b", "b", None), Alive::No);
        assert_eq!(is_alive(&recorded, "b", "c", Some(&recorded)), Alive::OtherBoot);
    }
}
