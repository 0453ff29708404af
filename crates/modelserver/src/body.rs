//! Reads request bodies, bounded each and together: a service has a memory limit, and many large requests
//! at once must be refused before they reach it.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dure_types::problem::Code;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::error::Refusal;

/// What all bodies that are being held may have together.
pub(crate) struct Budget {
    max_body: usize,
    held: AtomicUsize,
}

/// A body, and its share of the budget until it is dropped.
pub(crate) struct Held<'b> {
    budget: &'b Budget,
    charged: usize,
    pub bytes: Bytes,
}

impl Budget {
    /// How many bodies of the largest size may be held at once.
    const LARGEST_AT_ONCE: usize = 4;
    /// So many times the largest body are taken from one that is refused.
    const DRAINED: usize = 16;

    pub fn new(max_body: usize) -> Self {
        Self { max_body, held: AtomicUsize::new(0) }
    }

    pub async fn read(&self, mut body: Incoming) -> Result<Held<'_>, Refusal> {
        if body.size_hint().lower() > self.max_body as u64 {
            self.drain(&mut body).await;
            return Err(self.too_large());
        }
        let mut held = Held { budget: self, charged: 0, bytes: Bytes::new() };
        let mut parts = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::invalid(format!("the body could not be read: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if let Err(refusal) = held.charge(data.len()) {
                drop((held, parts));
                self.drain(&mut body).await;
                return Err(refusal);
            }
            if held.bytes.is_empty() && parts.is_empty() {
                // The usual case: all of it in one piece, which is not copied.
                held.bytes = data;
            } else {
                if parts.is_empty() {
                    parts = Vec::from(std::mem::take(&mut held.bytes));
                }
                parts.extend_from_slice(&data);
            }
        }
        if !parts.is_empty() {
            held.bytes = parts.into();
        }
        Ok(held)
    }

    /// Takes the rest and keeps nothing of it: whoever is still sending hears why only once all is sent. What is
    /// endless is broken off.
    async fn drain(&self, body: &mut Incoming) {
        let mut left = self.max_body.saturating_mul(Self::DRAINED);
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            if size > left {
                return;
            }
            left -= size;
        }
    }

    fn too_large(&self) -> Refusal {
        Refusal::new(Code::RequestTooLarge, format!("a request may have {} bytes", self.max_body))
            .next("send fewer rows at once")
    }
}

impl Held<'_> {
    fn charge(&mut self, size: usize) -> Result<(), Refusal> {
        if self.charged + size > self.budget.max_body {
            return Err(self.budget.too_large());
        }
        self.charged += size;
        let all = self.budget.held.fetch_add(size, Ordering::Relaxed) + size;
        if all > self.budget.max_body.saturating_mul(Budget::LARGEST_AT_ONCE) {
            return Err(Refusal::new(Code::NotReady, "too many large requests at once")
                .next("try again, or send fewer rows at once"));
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.charged, Ordering::Relaxed);
    }
}
