//! The room of the report.
pub mod model;
