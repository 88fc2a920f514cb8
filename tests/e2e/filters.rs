//! Filters that need more than one look: mirrors, and what pages of other origins are told.

mod cors;
mod mirrors;
