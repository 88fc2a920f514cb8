//! What keeps a failing instance from becoming a failing service. One file a mechanism; none knows of sockets.

pub mod budget;
pub mod outlier;
pub mod replay;
pub mod retry;
pub mod tap;
