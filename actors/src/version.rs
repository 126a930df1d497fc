//! Places: [`Sequence`] in a stream, [`Position`] in the whole log; [`Expected`] is what a caller demands of a version.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! place {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// The next place.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// This place and `count` more.
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0 + count)
            }

            /// As databases store it. Places beyond `i64::MAX` do not occur: a log would need 292 years at 10⁹ events/s.
            #[must_use]
            pub fn as_i64(self) -> i64 {
                i64::try_from(self.0).unwrap_or(i64::MAX)
            }

            /// From a stored number; a negative one, which no store writes, reads as 0.
            #[must_use]
            pub fn from_i64(stored: i64) -> Self {
                Self(u64::try_from(stored).unwrap_or(0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

place! {
    /// Place of an event in its stream: 1, 2, 3 … without holes. As a *version*: the sequence of the last event, 0 = none.
    Sequence
}
place! {
    /// Place of an event in the whole log: 1, 2, 3 … without holes, in commit order.
    Position
}

/// What a caller demands of a stream's version before its command is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// Nothing.
    #[default]
    Any,
    /// The stream must have no events (`If-None-Match: *`).
    NoStream,
    /// The stream must be at this version (`If-Match: "17"`); 0 = no events.
    Exactly(Sequence),
}

impl Expected {
    /// Whether a stream at `version` meets the demand.
    #[must_use]
    pub fn is_met_by(self, version: Sequence) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => version == Sequence::ZERO,
            Self::Exactly(expected) => version == expected,
        }
    }
}
