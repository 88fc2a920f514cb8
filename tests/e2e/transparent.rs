//! Apps that know nothing of the mesh, in network namespaces of their own: whatever TCP they speak goes through the sidecars.

mod apps;
mod databases;
mod dns;
mod lifecycle;
mod outside;
mod pod;
mod routes;
mod servers;
