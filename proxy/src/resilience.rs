//! What keeps a failing instance from becoming a failing service. One file a mechanism; none knows of sockets.

pub mod adaptive;
pub mod breaker;
pub mod budget;
pub mod deadline;
pub mod fault;
mod numbers;
pub mod outlier;
pub mod rate_limit;
pub mod rates;
pub mod replay;
pub mod retry;
pub mod tap;
