# The control plane: one static binary. Built by images/build, which lays the files out; the context is target/images/control-plane.
FROM scratch
COPY leno-control-plane /leno-control-plane
COPY --chown=15008:15008 state /var/lib/leno
# Needs no privilege. Whoever mounts a state folder of another owner starts it with --user.
USER 15008:15008
ENTRYPOINT ["/leno-control-plane"]
