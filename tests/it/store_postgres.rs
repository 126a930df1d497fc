//! PostgreSQL only.
