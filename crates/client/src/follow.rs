//! Following: a stream of server-sent events that goes on after its last event when the connection
//! breaks, for as long as the patience lasts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dure_types::{
    event::{Event, EventQuery},
    run::{LogQuery, MetricPoint, Run},
};
use futures_util::{Stream, StreamExt, stream::BoxStream};
use reqwest::{Method, RequestBuilder, header::ACCEPT};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Client, ClientError,
    sse::{Message, Parser},
};

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lived this long was a working one, even if nothing was said.
const WORKED: Duration = Duration::from_secs(5);

/// What comes of a run's log.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEvent {
    /// Text, and the offset of the byte after it.
    Text { text: String, offset: Option<u64> },
    /// The run is over and everything was sent.
    End(Box<Run>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum MetricEvent {
    Point(MetricPoint),
    End(Box<Run>),
}

impl Client {
    /// A run's log from `query.offset` on, until the run is over.
    pub fn follow_logs(
        &self,
        run: &str,
        query: LogQuery,
    ) -> impl Stream<Item = Result<LogEvent, ClientError>> + Send + use<> {
        let query = LogQuery { follow: true, ..query };
        let read = |client: &Client, message: &Message| match message.event.as_str() {
            "log" => {
                let text = client.data(message)?;
                Ok(Some(Step::Item(LogEvent::Text { text, offset: message.id.parse().ok() })))
            }
            "end" => Ok(Some(Step::Last(LogEvent::End(Box::new(client.data(message)?))))),
            _ => Ok(None),
        };
        self.follow(vec!["runs".to_owned(), run.to_owned(), "logs".to_owned()], query, read)
    }

    /// Every value that a run reports, from the first, until it is over.
    pub fn follow_metrics(&self, run: &str) -> impl Stream<Item = Result<MetricEvent, ClientError>> + Send + use<> {
        let read = |client: &Client, message: &Message| match message.event.as_str() {
            "metric" => Ok(Some(Step::Item(MetricEvent::Point(client.data(message)?)))),
            "end" => Ok(Some(Step::Last(MetricEvent::End(Box::new(client.data(message)?))))),
            _ => Ok(None),
        };
        self.follow(vec!["runs".to_owned(), run.to_owned(), "metrics".to_owned()], [("follow", true)], read)
    }

    /// What happens, without end.
    pub fn follow_events(&self, query: EventQuery) -> impl Stream<Item = Result<Event, ClientError>> + Send + use<> {
        let query = EventQuery { follow: true, ..query };
        let read = |client: &Client, message: &Message| match message.event.as_str() {
            "event" => Ok(Some(Step::Item(client.data(message)?))),
            _ => Ok(None),
        };
        self.follow(vec!["events".to_owned()], query, read)
    }

    fn data<T: DeserializeOwned>(&self, message: &Message) -> Result<T, ClientError> {
        serde_json::from_str(&message.data)
            .map_err(|error| self.protocol(format!("a `{}` event: {error}", message.event)))
    }

    fn follow<T, Q, R>(
        &self,
        parts: Vec<String>,
        query: Q,
        read: R,
    ) -> impl Stream<Item = Result<T, ClientError>> + Send + use<T, Q, R>
    where
        T: Send,
        Q: Serialize + Send + Sync,
        R: Fn(&Client, &Message) -> Result<Option<Step<T>>, ClientError> + Send,
    {
        let client = self.clone();
        async_stream::try_stream! {
            let mut last_id = String::new();
            let mut retry = Retry::new(client.patience);
            let mut connected_before = false;
            loop {
                let why = match client.connect(&parts, &query, &last_id).await {
                    Ok(mut bytes) => {
                        let connected = Instant::now();
                        connected_before = true;
                        let mut parser = Parser::default();
                        let broken = loop {
                            let chunk = match bytes.next().await {
                                Some(Ok(chunk)) => chunk,
                                Some(Err(error)) => break client.broken(&error),
                                None => break client.unreachable("it ended the connection"),
                            };
                            let messages = parser.push(&chunk).map_err(|error| client.protocol(error.to_string()))?;
                            for message in messages {
                                retry.worked();
                                let step = read(&client, &message)?;
                                last_id = message.id;
                                match step {
                                    Some(Step::Item(item)) => yield item,
                                    Some(Step::Last(item)) => {
                                        yield item;
                                        return;
                                    }
                                    None => {}
                                }
                            }
                        };
                        if connected.elapsed() >= WORKED {
                            retry.worked();
                        }
                        broken
                    }
                    Err(error) => error,
                };
                // A control plane that restarts is waited for; one that never answered is not.
                if !why.is_passing() || !connected_before {
                    Err(why)?;
                    return;
                }
                match retry.pause() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => {
                        Err(why)?;
                        return;
                    }
                }
            }
        }
    }

    async fn connect(
        &self,
        parts: &[String],
        query: &(impl Serialize + Sync),
        last_id: &str,
    ) -> Result<BoxStream<'static, reqwest::Result<Bytes>>, ClientError> {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let mut request = self.of_project(Method::GET, &parts)?.query(query).header(ACCEPT, "text/event-stream");
        if !last_id.is_empty() {
            request = request.header("Last-Event-ID", last_id);
        }
        let request: RequestBuilder = Self::unlimited(request);
        // The head of the answer must come in time; what follows takes as long as the run.
        let response = match tokio::time::timeout(crate::http::ANSWER, self.send(request)).await {
            Ok(response) => response?,
            Err(_) => return Err(self.unreachable("it does not answer in time")),
        };
        Ok(response.bytes_stream().boxed())
    }
}

enum Step<T> {
    Item(T),
    Last(T),
}

/// Growing pauses until the patience is over; from the beginning when something worked.
pub(crate) struct Retry {
    patience: Duration,
    since: Option<Instant>,
    next: Duration,
}

impl Retry {
    pub fn new(patience: Duration) -> Self {
        Self { patience, since: None, next: SHORTEST_PAUSE }
    }

    pub fn worked(&mut self) {
        self.since = None;
        self.next = SHORTEST_PAUSE;
    }

    /// How long to wait before the next try; none when it is time to give up.
    pub fn pause(&mut self) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.patience.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?;
        let pause = self.next.min(left);
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}
