//! What a saga of steps works on, shown in documents.

use schemars::JsonSchema;

use super::StepSaga;
use crate::schema::SchemaOf;

impl<D: JsonSchema + 'static> StepSaga<D> {
    /// Shows the members of its data in documents such as the OpenAPI one.
    #[must_use]
    pub fn documented(mut self) -> Self {
        self.schema = Some(SchemaOf::type_of::<D>());
        self
    }
}
