//! Public errors: RFC 9457 problems with a stable code, what happened, and what to do next.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// Stable codes. A code keeps its meaning for ever; new meanings get new codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    SpecSyntax = "E0101", 400, "the file is not valid YAML or JSON";
    SpecKind = "E0102", 400, "unknown kind";
    SpecField = "E0103", 400, "unknown field";
    SpecValue = "E0104", 400, "wrong value";
    SpecMissing = "E0105", 400, "missing field";
    SpecDuplicate = "E0106", 400, "the same thing twice";
    SpecFile = "E0107", 400, "a file that the spec names cannot be read";
    RequestInvalid = "E0110", 400, "the request is not valid";
    RequestTooLarge = "E0111", 413, "the request is too large";
    NotFound = "E0201", 404, "not found";
    Ambiguous = "E0202", 409, "more than one fits";
    InUse = "E0203", 409, "in use";
    Exists = "E0204", 409, "already exists";
    BlobMissing = "E0205", 409, "content is missing";
    BlobMismatch = "E0206", 422, "content does not match its digest";
    NotOnnx = "E0207", 422, "not an ONNX model";
    NeverFits = "E0311", 422, "no node can ever run this";
    RunFailed = "E0402", 422, "the run failed";
    OutOfMemory = "E0403", 422, "out of memory";
    TimedOut = "E0404", 422, "time limit reached";
    CommandNotFound = "E0405", 422, "command not found";
    OutputMissing = "E0406", 422, "an output was not written";
    EnvironmentFailed = "E0407", 422, "the environment could not be made";
    MachineLost = "E0408", 422, "the machine or its keeper was lost";
    Unauthenticated = "E0501", 401, "no valid token";
    Forbidden = "E0502", 403, "not allowed";
    NotReady = "E0601", 503, "the service is not ready";
    Upstream = "E0602", 502, "the replica did not answer";
    UpstreamTimeout = "E0603", 504, "the replica took too long";
    InputShape = "E0604", 400, "the input does not fit the model";
    StartFailed = "E0801", 500, "the control plane cannot start";
    Unreachable = "E0802", 503, "the control plane cannot be reached";
    Internal = "E0901", 500, "internal error";
    StoreBusy = "E0902", 503, "the store cannot take this now";
    DiskFull = "E0903", 507, "no space is left on the disk";
}

/// One fault inside a request or spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    pub detail: String,
    /// Where: a JSON pointer or `file:line:column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail} ({code})")]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub code: String,
    pub detail: String,
    /// What to do next, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub errors: Vec<Fault>,
}

impl Problem {
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:dure:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code: code.as_str().to_owned(),
            detail: detail.into(),
            next: None,
            errors: Vec::new(),
        }
    }

    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    pub fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_its_own() {
        let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
    }
}
