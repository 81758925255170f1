//! Kernels: a source, a configuration, and the build of the two, filed in the cache.
pub mod kconfig;
pub mod kconfig_tree;
