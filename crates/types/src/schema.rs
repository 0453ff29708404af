//! How the text-like types stand in the OpenAPI document: as strings, by their own names.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use crate::{
    blob::Digest,
    id::RunId,
    name::{Name, Reference},
    quantity::{Cpu, Memory, Money},
    time::{Span, Timestamp},
};

macro_rules! plain {
    ($type:ty, $name:literal, $kind:expr, $description:literal) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().schema_type($kind).description(Some($description)).into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    };
}

plain!(Name, "Name", Type::String, "a-z, 0-9 and -, up to 63 characters");
plain!(Reference, "Reference", Type::String, "name, name@version or name@alias");
plain!(RunId, "RunId", Type::String, "20 hexadecimal digits");
plain!(Digest, "Digest", Type::String, "SHA-256, 64 hexadecimal digits");
plain!(Cpu, "Cpu", Type::String, "1, 0.5 or 500m");
plain!(Memory, "Memory", Type::String, "512Mi, 4Gi or 2G");
plain!(Money, "Money", Type::Integer, "billionths of a US dollar");
plain!(Span, "Duration", Type::String, "90s, 30m, 1h30m, 7d");
plain!(Timestamp, "Timestamp", Type::String, "RFC 3339");
