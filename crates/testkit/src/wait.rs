//! Waiting for what the API tells by itself.

use std::future::Future;

use dure_types::{
    event::{Event, EventQuery},
    run::{LogQuery, Run, RunDetail, RunState},
    service::Service,
};
use futures_util::StreamExt as _;

use crate::{DEADLINE, Dure, block_on};

use dure_client::LogEvent;

impl Dure {
    /// Waits, or fails the test with what was seen last.
    #[track_caller]
    fn until<T>(&self, what: &str, seen: &std::sync::Mutex<String>, future: impl Future<Output = T>) -> T {
        match block_on(async { tokio::time::timeout(DEADLINE, future).await }) {
            Ok(value) => value,
            Err(_) => {
                let seen = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
                panic!("{what} never came; last seen: {seen}")
            }
        }
    }

    /// The first event, from the beginning of time on, that is the one wanted.
    #[track_caller]
    pub fn wait_event(&self, mut is_wanted: impl FnMut(&Event) -> bool) -> Event {
        let seen = std::sync::Mutex::new(String::new());
        let client = self.client();
        self.until("the event", &seen, async {
            let mut events = std::pin::pin!(client.follow_events(EventQuery::default()));
            while let Some(event) = events.next().await {
                let event = event.expect("events");
                if is_wanted(&event) {
                    return event;
                }
                *seen.lock().expect("seen") = format!("{event:?}");
            }
            panic!("the events ended")
        })
    }

    /// Looks at a run whenever something happens to it, until it is as wanted.
    #[track_caller]
    pub fn wait_run(&self, run: &str, mut is_wanted: impl FnMut(&Run) -> bool) -> RunDetail {
        let seen = std::sync::Mutex::new(String::new());
        let client = self.client();
        self.until("the run's state", &seen, async {
            let id = client.get_run(run).await.expect("the run").run.id;
            let query = EventQuery { subject: Some(id.to_string()), ..EventQuery::default() };
            let mut events = std::pin::pin!(client.follow_events(query));
            loop {
                let detail = client.get_run(id.as_str()).await.expect("the run");
                if is_wanted(&detail.run) {
                    return detail;
                }
                *seen.lock().expect("seen") = format!("{:?} {:?}", detail.run.state, detail.run.reason);
                events.next().await.expect("events go on").expect("events");
            }
        })
    }

    #[track_caller]
    pub fn wait_run_state(&self, run: &str, state: RunState) -> RunDetail {
        self.wait_run(run, |run| {
            assert!(!run.state.is_over() || run.state == state, "{:?}: {:?}", run.state, run.reason);
            run.state == state
        })
    }

    /// Waits until a run's program has printed this.
    #[track_caller]
    pub fn wait_log(&self, run: &str, wanted: &str) {
        let seen = std::sync::Mutex::new(String::new());
        let client = self.client();
        self.until(wanted, &seen, async {
            let mut log = std::pin::pin!(client.follow_logs(run, LogQuery::default()));
            while let Some(event) = log.next().await {
                let LogEvent::Text { text, .. } = event.expect("the log") else { break };
                let mut seen = seen.lock().expect("seen");
                seen.push_str(&text);
                if seen.contains(wanted) {
                    return;
                }
            }
            panic!("the run is over and never printed `{wanted}`")
        });
    }

    /// Looks at a service whenever something happens to it, until it is as wanted.
    #[track_caller]
    pub fn wait_service(&self, name: &str, mut is_wanted: impl FnMut(&Service) -> bool) -> Service {
        let seen = std::sync::Mutex::new(String::new());
        let client = self.client();
        let name = name.parse().expect("a name");
        self.until("the service's state", &seen, async {
            let mut events = std::pin::pin!(client.follow_events(EventQuery::default()));
            loop {
                let service = client.get_service(&name).await.expect("the service");
                if is_wanted(&service) {
                    return service;
                }
                *seen.lock().expect("seen") = format!("{:?} {:?}", service.state, service.reason);
                events.next().await.expect("events go on").expect("events");
            }
        })
    }
}
