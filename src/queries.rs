//! The query types: what can be asked of the read models.
