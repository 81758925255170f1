//! Debian's packages without installing them: found and downloaded by apt, unpacked by dpkg-deb, and no root needed.
//!
//! [`Apt`] asks and downloads one package; [`Set`] is some packages with all that they depend on, unpacked in the cache.
//! Knows neither kernels nor images.

pub mod apt;
pub mod download;
pub mod set;

pub use apt::Apt;
pub use download::Download;
pub use set::Set;
