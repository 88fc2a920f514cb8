//! BackendTLSPolicy: backends without a sidecar that speak TLS themselves.
