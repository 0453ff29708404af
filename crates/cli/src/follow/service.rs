//! A service followed until its newest revision answers.

use std::time::Instant;

use dure_types::{
    Name,
    event::EventQuery,
    service::{Service, ServiceState},
};
use futures_util::StreamExt as _;

use super::{Follower, drain, goes_on, view};
use crate::{
    exit::{CliError, Exit},
    failure_report, hint, messages,
    output::format,
};

impl Follower<'_> {
    /// A service that did not change may still be on its way, after a start of the control plane for example.
    pub async fn unchanged_service(&self, name: &Name, url: &str) -> Result<(), CliError> {
        if !is_ready(&self.client.get_service(name).await?) {
            self.service(name, url).await?;
        }
        Ok(())
    }

    /// Until the service answers, or cannot.
    pub async fn service(&self, name: &Name, url: &str) -> Result<Service, CliError> {
        self.follow_service(name, url).await.map_err(goes_on)
    }

    async fn follow_service(&self, name: &Name, url: &str) -> Result<Service, CliError> {
        let began = Instant::now();
        let query = EventQuery { subject: Some(name.to_string()), follow: true, ..EventQuery::default() };
        let mut events = self.client.follow_events(query).boxed();
        let status = self.progress.status();
        let mut interrupt = Box::pin(tokio::signal::ctrl_c());
        let mut said = String::new();
        loop {
            let service = self.client.get_service(name).await?;
            if is_ready(&service) {
                status.finish_and_clear();
                let address = format!("{}{}", url.trim_end_matches('/'), service.path);
                self.say(&messages::service_ready(name, format::duration(began.elapsed()), address))?;
                return Ok(service);
            }
            if service.state == ServiceState::Failed {
                status.finish_and_clear();
                return Err(failure_report::of_service(self.client, &service, self.again.as_deref()).await);
            }
            let why = service
                .reason
                .as_ref()
                .map_or_else(|| service.state.as_str().to_owned(), |reason| reason.message.clone());
            let line = messages::service_waits(name, &why);
            status.set_message(view::fit(&line, crate::output::width()));
            if said != line && service.reason.is_some() && !self.progress.is_shown() {
                self.say(&line)?;
            }
            said = line;
            tokio::select! {
                event = events.next() => {
                    event.transpose()?.ok_or_else(|| CliError::failed(messages::connection_lost()))?;
                    drain(&mut events)?;
                }
                _ = &mut interrupt => {
                    anstream::eprintln!("\n{}", messages::detached(hint::show(format!("service/{name}"))));
                    return Err(CliError::Silent(Exit::Interrupted));
                }
            }
        }
    }
}

/// The revision that was asked for last is the one that answers.
fn is_ready(service: &Service) -> bool {
    let newest = service.revision.number;
    let ready = service.replicas.iter().filter(|replica| replica.ready && replica.revision == newest).count();
    service.state == ServiceState::Ready
        && service.serving == Some(newest)
        && ready >= service.revision.replicas as usize
}
