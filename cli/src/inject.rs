//! `leno inject`: sidecars for what is written down in files.

pub mod pod;
