//! Bad recipes, and what is said about them.
