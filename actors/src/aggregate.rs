//! What a domain writes: [`Aggregate`], [`Command`], [`DomainEvent`], [`Rejection`]. Pure: no clock, no storage, no waiting.

use std::fmt::{Debug, Display};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::{
    codec::CodecError,
    envelope::Metadata,
    id::{AggregateId, CommandId},
    personal::Personal,
    schema::SchemaOf,
};

/// A consistency boundary: decides commands on its state, and folds events into it.
///
/// `Default` is the state before the first event; `Serialize` is the state people see and snapshots hold. The
/// [crate's page](crate) has a complete one. A panic in `decide` costs that command, never its neighbours.
pub trait Aggregate: Default + Clone + Serialize + DeserializeOwned + Debug + Send + Sync + 'static {
    /// Name of the aggregate type, stored with each event.
    const TYPE: &'static str;
    /// Shape of the serialised state; raising it makes older snapshots be ignored.
    const STATE_VERSION: u16 = 1;
    /// The member that repeats the aggregate's own id where an event has it; a raw append must name the stream it goes
    /// to, also in events that keep it as a member they do not know.
    const ID_MEMBER: Option<&'static str> = None;
    /// Its commands; see [`commands!`](crate::commands).
    type Command: Command;
    /// Its events; see [`events!`](crate::events).
    type Event: DomainEvent;
    /// Its refusals.
    type Rejection: Rejection;

    /// The events a command leads to in this state; none if it changes nothing.
    ///
    /// The command comes by reference because it is decided again when another writer was faster.
    ///
    /// # Errors
    /// The domain's refusal; it is recorded as an answer, never as a fault.
    fn decide(
        &self,
        command: &Self::Command,
        context: &DecisionContext<'_>,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Folds one event in. Total: replay cannot be refused.
    fn apply(&mut self, event: &Self::Event);

    /// Whether an event that nobody decided (a raw append) may follow; asked before it is stored.
    ///
    /// # Errors
    /// The refusal to store it.
    fn admits(&self, event: &Self::Event) -> Result<(), Self::Rejection> {
        let _ = event;
        Ok(())
    }

    /// The schema of the state after the first event, for documents; none by default, which is shown as an object.
    fn state_schema() -> Option<SchemaOf> {
        None
    }
}

/// What a decision may know beside the state.
#[derive(Debug, Clone, Copy)]
pub struct DecisionContext<'a> {
    /// The aggregate.
    pub aggregate_id: &'a AggregateId,
    /// The command; equal when the same command is decided again.
    pub command_id: CommandId,
    /// The instant of the decision.
    pub now: DateTime<Utc>,
    /// Principal, correlation and causation.
    pub metadata: &'a Metadata,
}

/// The commands of one aggregate, usually made by [`commands!`](crate::commands).
pub trait Command: Debug + Send + Sync + Sized + 'static {
    /// Every command type, each unique over all aggregates of a runtime.
    const NAMES: &'static [&'static str];

    /// This command's type.
    fn name(&self) -> &'static str;

    /// Reads a command from its JSON object.
    ///
    /// # Errors
    /// What is wrong with which member. An unknown `name` is the caller's mistake and reads as a wrong document.
    fn decode(name: &str, data: &RawValue) -> Result<Self, Vec<FieldError>>;

    /// Checks what can be checked without state.
    fn validate(&self, check: &mut Violations<'_>);

    /// The schema of a command type's members, for documents; none by default, which is shown as an object.
    fn schema(name: &str) -> Option<SchemaOf> {
        let _ = name;
        None
    }
}

/// One command's members; each struct named in [`commands!`](crate::commands) has it.
pub trait CommandData {
    /// Checks what can be checked without state; nothing by default.
    fn validate(&self, check: &mut Violations<'_>) {
        let _ = check;
    }
}

/// The events of one aggregate, usually made by [`events!`](crate::events).
pub trait DomainEvent: Debug + Clone + Send + Sync + Sized + 'static {
    /// Every event type with its current schema version; each type unique over all aggregates of a runtime.
    const KINDS: &'static [(&'static str, u32)];

    /// Which members tell of a person; they are stored under a key of that person's, and read as a tombstone once it is
    /// destroyed.
    const PERSONAL: &'static [Personal] = &[];

    /// This event's type.
    fn event_type(&self) -> &'static str;

    /// The payload as JSON.
    ///
    /// # Errors
    /// [`CodecError::Encode`].
    fn encode(&self) -> Result<Vec<u8>, CodecError>;

    /// Reads a payload of the current schema version; unknown members are ignored.
    ///
    /// # Errors
    /// [`CodecError`] when the type is not one of these or the payload does not fit.
    fn decode(event_type: &str, data: &[u8]) -> Result<Self, CodecError>;

    /// The schema of an event type's members, for documents; none by default, which is shown as an object.
    fn schema(event_type: &str) -> Option<SchemaOf> {
        let _ = event_type;
        None
    }
}

/// A domain's refusal of a command: a value with a stable code, not a fault.
pub trait Rejection: Display + Debug + Send + Sync + 'static {
    /// Stable code, such as `insufficient-funds`.
    fn code(&self) -> &'static str;

    /// The member that is out of bounds, when the refusal is of an event's own content and not of the state it meets:
    /// then a raw append is told so as wrong input is.
    fn field(&self) -> Option<&FieldError> {
        None
    }

    /// Facts beside the sentence that `Display` gives.
    fn details(&self) -> Option<Value> {
        None
    }
}

/// A refusal as it is recorded and answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The domain's code.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Facts for programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Value>,
}

impl<R: Rejection> From<R> for Refusal {
    fn from(rejection: R) -> Self {
        Self { code: rejection.code().to_owned(), message: rejection.to_string(), details: rejection.details() }
    }
}

/// What is wrong with one member of an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) from the command's data: `/items/0/quantity`.
    pub pointer: String,
    /// What is wrong, as a sentence without a final stop.
    pub detail: String,
}

impl FieldError {
    /// A number must be at least `minimum`.
    ///
    /// # Errors
    /// Says so when it is smaller.
    pub fn at_least(pointer: &str, value: i64, minimum: i64) -> Result<(), Self> {
        if value >= minimum {
            return Ok(());
        }
        Err(Self { pointer: pointer.to_owned(), detail: format!("must be at least {minimum}, not {value}") })
    }

    /// A text must not be empty, nor longer than `max` bytes, nor hold control characters.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn text(pointer: &str, value: &str, max: usize) -> Result<(), Self> {
        let detail = if value.is_empty() {
            "must not be empty".to_owned()
        } else if value.len() > max {
            format!("must be at most {max} bytes of UTF-8, not {}", value.len())
        } else if value.chars().any(char::is_control) {
            "must not contain control characters".to_owned()
        } else {
            return Ok(());
        };
        Err(Self { pointer: pointer.to_owned(), detail })
    }
}

/// Collects what is wrong with a command.
#[derive(Debug)]
pub struct Violations<'a> {
    aggregate_id: &'a AggregateId,
    errors: Vec<FieldError>,
}

impl<'a> Violations<'a> {
    /// For a command to this aggregate.
    #[must_use]
    pub fn new(aggregate_id: &'a AggregateId) -> Self {
        Self { aggregate_id, errors: Vec::new() }
    }

    /// Notes a fault.
    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    /// Notes the fault that a check found, if it found one.
    pub fn note(&mut self, checked: Result<(), FieldError>) {
        self.errors.extend(checked.err());
    }

    /// A number must be at least `minimum`.
    pub fn at_least(&mut self, pointer: &str, value: i64, minimum: i64) {
        self.note(FieldError::at_least(pointer, value, minimum));
    }

    /// A text must not be empty, nor longer than `max` bytes, nor hold control characters.
    pub fn text(&mut self, pointer: &str, value: &str, max: usize) {
        self.note(FieldError::text(pointer, value, max));
    }

    /// A repeated id must be the aggregate's own.
    pub fn same_id(&mut self, pointer: &str, repeated: Option<&str>) {
        if let Some(id) = repeated
            && id != self.aggregate_id.as_str()
        {
            self.add(pointer, format!("must equal the aggregate_id {:?}, not {id:?}", self.aggregate_id.as_str()));
        }
    }

    /// Everything noted.
    #[must_use]
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }
}

/// Declares an aggregate's command enum over structs of the same names; each struct has [`CommandData`] and
/// `serde::Deserialize` with `deny_unknown_fields`. Those that also have `schemars::JsonSchema` are shown with their members
/// in documents such as the OpenAPI one.
///
/// ```
/// use event_sourcing_actors::{CommandData, commands};
///
/// #[derive(Debug, Clone, serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// pub struct Increment { pub by: i64 }
/// impl CommandData for Increment {}
///
/// commands! {
///     /// All a counter can be told.
///     pub enum CounterCommand { Increment }
/// }
/// let command = CounterCommand::from(Increment { by: 2 });
/// # let _ = command;
/// ```
#[macro_export]
macro_rules! commands {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        $vis enum $name {
            $(#[doc = concat!("`", stringify!($variant), "`")] $variant($variant),)+
        }
        $(impl From<$variant> for $name {
            fn from(command: $variant) -> Self {
                Self::$variant(command)
            }
        })+
        impl $crate::Command for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($variant)),+];
            fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant),)+ }
            }
            fn decode(
                name: &str,
                data: &$crate::__private::RawValue,
            ) -> ::std::result::Result<Self, ::std::vec::Vec<$crate::FieldError>> {
                $(if name == stringify!($variant) {
                    return $crate::codec::decode_members::<$variant>(data).map(Self::$variant);
                })+
                Err(vec![$crate::FieldError { pointer: String::new(), detail: format!("unknown command type {name:?}") }])
            }
            fn validate(&self, check: &mut $crate::Violations<'_>) {
                match self { $(Self::$variant(command) => $crate::CommandData::validate(command, check),)+ }
            }
            #[allow(unused_imports, clippy::needless_borrow, reason = "which trait answers depends on what each type derives")]
            fn schema(name: &str) -> ::std::option::Option<$crate::schema::SchemaOf> {
                use $crate::schema::{Derived as _, Underived as _};
                $(if name == stringify!($variant) {
                    return (&$crate::schema::Probe::<$variant>::default()).schema_of();
                })+
                None
            }
        }
    };
}

/// Declares an aggregate's event enum over structs of the same names, each with its current schema version; each
/// struct has `serde::Serialize` and `serde::Deserialize` (unknown members allowed). Members that tell of a person are
/// named by JSON pointers, see [`Personal`](crate::personal::Personal).
///
/// ```
/// use event_sourcing_actors::events;
///
/// #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
/// pub struct Incremented { pub by: i64 }
/// #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
/// pub struct Signed { pub name: String }
///
/// events! {
///     /// All that happens to a counter.
///     pub enum CounterEvent { Incremented = 1, Signed = 1 personal ["/name"] }
/// }
/// ```
#[macro_export]
macro_rules! events {
    ($(#[$doc:meta])* $vis:vis enum $name:ident {
        $($variant:ident = $version:literal $(personal [$($member:literal),+ $(,)?])?),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        $vis enum $name {
            $(#[doc = concat!("`", stringify!($variant), "`")] $variant($variant),)+
        }
        $(impl From<$variant> for $name {
            fn from(event: $variant) -> Self {
                Self::$variant(event)
            }
        })+
        impl $crate::DomainEvent for $name {
            const KINDS: &'static [(&'static str, u32)] = &[$((stringify!($variant), $version)),+];
            const PERSONAL: &'static [$crate::personal::Personal] = &[$($($crate::personal::Personal {
                event_type: stringify!($variant),
                members: &[$($member),+],
            },)?)+];
            fn event_type(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant),)+ }
            }
            fn encode(&self) -> ::std::result::Result<::std::vec::Vec<u8>, $crate::codec::CodecError> {
                match self { $(Self::$variant(event) => $crate::codec::encode(event),)+ }
            }
            fn decode(event_type: &str, data: &[u8]) -> ::std::result::Result<Self, $crate::codec::CodecError> {
                $(if event_type == stringify!($variant) {
                    return $crate::codec::decode::<$variant>(event_type, data).map(Self::$variant);
                })+
                Err($crate::codec::CodecError::UnknownEventType { event_type: event_type.to_owned() })
            }
            #[allow(unused_imports, clippy::needless_borrow, reason = "which trait answers depends on what each type derives")]
            fn schema(event_type: &str) -> ::std::option::Option<$crate::schema::SchemaOf> {
                use $crate::schema::{Derived as _, Underived as _};
                $(if event_type == stringify!($variant) {
                    return (&$crate::schema::Probe::<$variant>::default()).schema_of();
                })+
                None
            }
        }
    };
}
