//! A run followed to its end: its log, its metrics, what it waits for and what it made.
//!
//! Everything comes by server-sent events that resume by themselves; nothing asks again and again. An
//! event only says that something changed: what is shown is then read from the resource itself.

mod service;
pub mod view;

use std::time::{Duration, Instant};

use dure_client::{Client, ClientError, LogEvent, MetricEvent};
use dure_types::{
    RunId,
    event::EventQuery,
    run::{LogQuery, ReasonCode, Run, RunDetail, RunState},
};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream::BoxStream};
use indicatif::ProgressBar;

use self::view::{Lines, Series};
use crate::{
    context::Context,
    exit::{CliError, Exit},
    failure_report, hint, messages,
    output::format,
    progress::Progress,
};

pub struct Follower<'a> {
    pub context: &'a Context,
    pub client: &'a Client,
    pub progress: &'a Progress,
    /// The command that makes a failed run go again, if there is one.
    pub again: Option<String>,
}

/// What starts at once needs no explanation.
const UNEXPLAINED: Duration = Duration::from_secs(1);

/// The build that a run waits for.
struct Build {
    run: RunId,
    environment: String,
    started: Instant,
    lines: Lines,
    log: BoxStream<'static, Result<LogEvent, ClientError>>,
}

/// What is known of a run while it is followed.
struct Followed {
    detail: RunDetail,
    status: ProgressBar,
    series: Series,
    lines: Lines,
    /// What was said last, so that it is not said again.
    said: String,
    build: Option<Build>,
    /// Builds that were followed already.
    built: Vec<RunId>,
}

impl Follower<'_> {
    /// Follows a run until it is over. A run that failed is an error with its last words.
    pub async fn run(&self, id: &RunId) -> Result<RunDetail, CliError> {
        self.follow_run(id).await.map_err(goes_on)
    }

    async fn follow_run(&self, id: &RunId) -> Result<RunDetail, CliError> {
        let detail = self.client.get_run(id.as_str()).await?;
        let query = EventQuery { subject: Some(id.to_string()), follow: true, ..EventQuery::default() };
        let mut events = self.client.follow_events(query).boxed();
        let mut log = self.client.follow_logs(id.as_str(), LogQuery::default()).boxed();
        let mut metrics = self.client.follow_metrics(id.as_str()).boxed();
        let mut followed = Followed {
            detail,
            status: self.progress.status(),
            series: Series::default(),
            lines: Lines::default(),
            said: String::new(),
            build: None,
            built: Vec::new(),
        };
        let mut interrupt = Box::pin(tokio::signal::ctrl_c());
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        let (mut log_ended, mut metrics_ended) = (false, false);
        let mut explain = Box::pin(tokio::time::sleep(UNEXPLAINED));
        let mut explained = false;
        self.changed(&mut followed).await?;
        while !(log_ended && metrics_ended) {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => {
                        event?;
                        drain(&mut events)?;
                        followed.detail = self.client.get_run(id.as_str()).await?;
                        self.changed(&mut followed).await?;
                    }
                    // The log and the metrics say when the run is over.
                    None => events = futures_util::stream::pending().boxed(),
                },
                event = log.next(), if !log_ended => match event.transpose()? {
                    Some(LogEvent::Text { text, .. }) => self.program_printed(&mut followed, &text)?,
                    Some(LogEvent::End(_)) | None => log_ended = true,
                },
                event = metrics.next(), if !metrics_ended => match event.transpose()? {
                    Some(MetricEvent::Point(point)) => followed.series.add(point),
                    Some(MetricEvent::End(_)) | None => metrics_ended = true,
                },
                event = next_of(&mut followed.build) => self.build_said(&mut followed, event.transpose()?).await?,
                () = &mut explain, if !explained => {
                    explained = true;
                    self.explain(&mut followed).await?;
                }
                _ = tick.tick(), if self.progress.is_shown() => self.draw(&followed),
                _ = &mut interrupt => return Err(self.detach(&followed.detail.run)),
            }
        }
        followed.detail = self.client.get_run(id.as_str()).await?;
        // A build that failed has said why before the run that waited for it ends.
        while let Some(build) = &mut followed.build {
            let event = build.log.next().await.transpose()?;
            self.build_said(&mut followed, event).await?;
        }
        self.ended(followed).await
    }

    /// Says what a change of state means, once.
    async fn changed(&self, followed: &mut Followed) -> Result<(), CliError> {
        let run = &followed.detail.run;
        let line = match (run.state, &run.reason, &run.node) {
            (RunState::Running, _, Some(node)) => messages::run_on(run.id.short(), &run.name, node),
            (RunState::Queued, Some(reason), _) if run.attempt > 0 && reason.code == ReasonCode::NodeLost => {
                messages::again(run.attempt + 1, &reason.message)
            }
            (RunState::Queued, Some(reason), _) if reason.code == ReasonCode::EnvironmentBuilding => {
                return self.follow_build(followed).await;
            }
            (RunState::Queued, Some(reason), _) => messages::run_state(run.id.short(), &run.name, &reason.message),
            _ => return Ok(()),
        };
        // What it waits for is of interest only while it waits; without a terminal it is said once.
        let passing = run.state == RunState::Queued && self.progress.is_shown();
        if line != followed.said {
            if !passing {
                self.say(&line)?;
            }
            followed.said = line;
        }
        self.draw(followed);
        Ok(())
    }

    /// Whoever still waits is told for what: for room, or for a build that waits for room.
    async fn explain(&self, followed: &mut Followed) -> Result<(), CliError> {
        let run = &followed.detail.run;
        if run.state != RunState::Queued {
            return Ok(());
        }
        let id = followed.build.as_ref().map_or(&run.id, |build| &build.run);
        let why = self.client.explain_run(id.as_str()).await?;
        if why.state != RunState::Queued {
            return Ok(());
        }
        let line = match &followed.build {
            Some(build) => messages::environment_line(&build.environment, &why.summary),
            None => messages::run_state(run.id.short(), &run.name, &why.summary),
        };
        if line != followed.said {
            self.say(&format!("{line}   ({})", hint::why(id.short())))?;
            followed.said = line;
        }
        self.draw(followed);
        Ok(())
    }

    async fn follow_build(&self, followed: &mut Followed) -> Result<(), CliError> {
        if followed.build.is_some() {
            return Ok(());
        }
        let Some(digest) = &followed.detail.environment else { return Ok(()) };
        let environment = self.client.get_environment(digest.as_str()).await?;
        let Some(run) = environment.build.filter(|run| !followed.built.contains(run)) else { return Ok(()) };
        let log = self.client.follow_logs(run.as_str(), LogQuery::default()).boxed();
        followed.built.push(run.clone());
        let environment = environment.name.map_or_else(|| digest.short().to_owned(), |name| name.to_string());
        followed.build = Some(Build { run, environment, started: Instant::now(), lines: Lines::default(), log });
        self.draw(followed);
        Ok(())
    }

    async fn build_said(&self, followed: &mut Followed, event: Option<LogEvent>) -> Result<(), CliError> {
        let Some(build) = &mut followed.build else { return Ok(()) };
        match event {
            Some(LogEvent::Text { text, .. }) => {
                for line in build.lines.add(&text) {
                    let is_ready = line.starts_with("ready");
                    let line = messages::environment_line(&build.environment, line);
                    followed.said.clone_from(&line);
                    // On a terminal the newest line stands below; only what it came to stays. That it is
                    // ready is said once, with the number of its packages.
                    if !self.progress.is_shown() && !is_ready {
                        self.say(&line)?;
                    }
                }
            }
            Some(LogEvent::End(_)) | None => {
                let ended = self.client.get_run(build.run.as_str()).await?.run;
                if ended.state == RunState::Succeeded
                    && let Some(digest) = &followed.detail.environment
                {
                    let packages = self.client.get_environment(digest.as_str()).await?.packages.len();
                    let length = took(&ended).unwrap_or_else(|| build.started.elapsed());
                    let ready = messages::environment_ready(format::duration(length), packages);
                    self.say(&messages::environment_line(&build.environment, ready))?;
                }
                followed.build = None;
            }
        }
        Ok(())
    }

    fn program_printed(&self, followed: &mut Followed, text: &str) -> Result<(), CliError> {
        for line in followed.lines.add(text) {
            self.say_of_program(&line)?;
        }
        Ok(())
    }

    async fn ended(&self, mut followed: Followed) -> Result<RunDetail, CliError> {
        followed.status.finish_and_clear();
        if let Some(line) = followed.lines.rest() {
            self.say_of_program(&line)?;
        }
        let detail = followed.detail;
        let facts = [took(&detail.run).map(format::duration), Some(detail.run.cost.to_string())];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        for line in followed.series.render(view::planned_steps(&detail), &facts) {
            self.say(&line)?;
        }
        match detail.run.state {
            RunState::Succeeded => {}
            _ => return Err(failure_report::of_run(self.client, &detail, self.again.as_deref()).await),
        }
        if followed.series.is_empty() {
            self.say(&messages::run_state(
                detail.run.id.short(),
                &detail.run.name,
                format!("{}   {}", detail.run.state.as_str(), facts.join("   ")),
            ))?;
        }
        for line in view::outputs(self.client, &detail).await? {
            self.say(&line)?;
        }
        Ok(detail)
    }

    /// The lines that are drawn anew: what it waits for, or the metrics so far.
    fn draw(&self, followed: &Followed) {
        let run = &followed.detail.run;
        let text = match run.state {
            RunState::Running => {
                let elapsed = run.started_at.map(|started| format::duration(format::now().since(started)));
                let facts: Vec<String> = elapsed.into_iter().collect();
                let lines = followed.series.render(view::planned_steps(&followed.detail), &facts);
                if lines.is_empty() { format!("{}   {}", run.name, facts.join("   ")) } else { lines.join("\n  ") }
            }
            RunState::Queued if !followed.said.is_empty() => followed.said.clone(),
            state => messages::run_state(run.id.short(), &run.name, state.as_str()),
        };
        followed.status.set_message(view::fit(&text, crate::output::width()));
    }

    fn say(&self, line: &str) -> Result<(), CliError> {
        Ok(self.progress.aside(|| self.context.say(&format!("  {}", format::clean(line))))?)
    }

    fn say_of_program(&self, line: &str) -> Result<(), CliError> {
        let style = crate::output::style::DIM;
        Ok(self.progress.aside(|| self.context.say(&format!("  {style}│{style:#} {line}")))?)
    }

    /// Ctrl-C: what is followed goes on.
    fn detach(&self, run: &Run) -> CliError {
        anstream::eprintln!("\n{}", messages::detached(hint::logs_follow(run.id.short())));
        CliError::Silent(Exit::Interrupted)
    }
}

/// That the control plane cannot be reached says nothing about what runs.
fn goes_on(error: CliError) -> CliError {
    match error {
        CliError::Said(mut said) if said.exit == Exit::Unreachable => {
            said.lines.insert(0, messages::connection_lost());
            CliError::Said(said)
        }
        error => error,
    }
}

async fn next_of(build: &mut Option<Build>) -> Option<Result<LogEvent, ClientError>> {
    match build {
        Some(build) => build.log.next().await,
        None => std::future::pending().await,
    }
}

/// Events that came meanwhile: one look at the resource answers all of them.
fn drain<T>(events: &mut (impl Stream<Item = Result<T, ClientError>> + Unpin)) -> Result<(), CliError> {
    while let Some(Some(event)) = events.next().now_or_never() {
        event?;
    }
    Ok(())
}

/// How long a run ran, or has run so far.
pub fn took(run: &Run) -> Option<Duration> {
    let started = run.started_at?;
    Some(run.ended_at.unwrap_or_else(format::now).since(started))
}
