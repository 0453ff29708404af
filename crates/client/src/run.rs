//! Runs: what they are, what they printed, what they reported, what they made.

use std::path::Path;

use bytes::Bytes;
use dure_types::{
    Name, Page,
    change::JobDocument,
    run::{LogQuery, MetricPoint, Run, RunDetail, RunQuery, Why},
};
use futures_util::{Stream, StreamExt};
use reqwest::{Method, header::ACCEPT};

use crate::{Client, ClientError, pages};

impl Client {
    pub async fn list_runs(&self, query: &RunQuery) -> Result<Page<Run>, ClientError> {
        self.get_with(&["runs"], query).await
    }

    /// Every run that fits, page by page.
    pub fn all_runs(&self, query: RunQuery) -> impl Stream<Item = Result<Run, ClientError>> + Send + '_ {
        pages(move |cursor| {
            let query = RunQuery { cursor, ..query.clone() };
            async move { self.list_runs(&query).await }
        })
    }

    pub async fn create_run(&self, job: &JobDocument) -> Result<Run, ClientError> {
        self.give(Method::POST, &["runs"], job).await
    }

    /// `run` is an id or a unique beginning of one, here and below.
    pub async fn get_run(&self, run: &str) -> Result<RunDetail, ClientError> {
        self.get(&["runs", run]).await
    }

    pub async fn stop_run(&self, run: &str) -> Result<Run, ClientError> {
        self.json(self.of_project(Method::POST, &["runs", run, "stop"])?).await
    }

    pub async fn explain_run(&self, run: &str) -> Result<Why, ClientError> {
        self.get(&["runs", run, "why"]).await
    }

    /// What a run has printed so far, as it comes; `follow_logs` goes on until the run is over.
    pub async fn get_logs(
        &self,
        run: &str,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + '_, ClientError> {
        let query = LogQuery { follow: false, ..query.clone() };
        let request = self.of_project(Method::GET, &["runs", run, "logs"])?.query(&query);
        let response = self.send(Self::unlimited(request).header(ACCEPT, "text/plain")).await?;
        Ok(response.bytes_stream().map(|chunk| chunk.map_err(|error| self.broken(&error))))
    }

    pub async fn list_metrics(&self, run: &str) -> Result<Page<MetricPoint>, ClientError> {
        self.get(&["runs", run, "metrics"]).await
    }

    /// A zip file; `progress` is told each further number of bytes.
    pub async fn download_output(
        &self,
        run: &str,
        name: &Name,
        target: &Path,
        progress: impl Fn(u64) + Send,
    ) -> Result<u64, ClientError> {
        self.download(&["runs", run, "outputs", name.as_str()], target, progress).await
    }
}
