//! What one entry of the table of operations says. All of it is constant, so that an entry is one expression.

use event_sourcing_actors::schema::{JsonSchema, Schema, SchemaGenerator};

use crate::http::error::Code;

/// A path and a method, as the document shows them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    /// Unique; what clients made from the document call it.
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    /// Beside those of the path.
    pub parameters: &'static [Parameter],
    pub body: Option<Body>,
    pub successes: &'static [Success],
    /// Beside those that its path and its body bring about.
    pub codes: &'static [&'static Code],
}

/// A schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Of a type.
    Type(fn(&mut SchemaGenerator) -> Schema),
    /// One that depends on what is registered, by its name.
    Named(&'static str),
    /// A text of some other format.
    Text,
}

/// What comes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body {
    pub shape: Shape,
    pub is_required: bool,
}

/// A parameter of the URL, or a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub place: &'static str,
    pub name: &'static str,
    pub is_required: bool,
    /// JSON.
    pub schema: &'static str,
    pub description: &'static str,
}

/// An answer that is no problem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Success {
    pub status: u16,
    pub description: &'static str,
    /// By media type.
    pub contents: &'static [(&'static str, Shape)],
    /// Names under `components/headers`.
    pub headers: &'static [&'static str],
}

/// The schema of a type.
pub(super) const fn shape<T: JsonSchema>() -> Shape {
    Shape::Type(SchemaGenerator::subschema_for::<T>)
}

impl Body {
    pub const fn of(shape: Shape) -> Option<Self> {
        Some(Self { shape, is_required: true })
    }

    /// One that may be left out.
    pub const fn optional(shape: Shape) -> Option<Self> {
        Some(Self { shape, is_required: false })
    }
}

impl Parameter {
    pub const fn query(name: &'static str, schema: &'static str, description: &'static str) -> Self {
        Self { place: "query", name, is_required: false, schema, description }
    }

    pub const fn header(name: &'static str, schema: &'static str, description: &'static str) -> Self {
        Self { place: "header", name, is_required: false, schema, description }
    }

    pub const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }
}

impl Success {
    pub const fn new(
        status: u16,
        description: &'static str,
        contents: &'static [(&'static str, Shape)],
        headers: &'static [&'static str],
    ) -> Self {
        Self { status, description, contents, headers }
    }
}
