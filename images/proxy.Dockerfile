# The sidecar: one static binary. Built by images/build, which lays the files out; the context is target/images/proxy.
FROM scratch
COPY leno-proxy /leno-proxy
# A sidecar that intercepts starts as root for the rules, and then becomes this user.
COPY --chown=15008:15008 state /var/lib/leno
ENTRYPOINT ["/leno-proxy"]
