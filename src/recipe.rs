//! The room of the recipe.
pub mod types;
