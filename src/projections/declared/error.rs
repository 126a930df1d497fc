//! What is wrong with a declaration.

/// A mistake in the declared projections; it stops the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {path}: {problem}")]
pub struct DeclarationError {
    /// File and line.
    pub place: String,
    /// Dotted name of the part, such as `projections.declarations.turnover.on.MoneyDeposited.key`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}
