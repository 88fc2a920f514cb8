# The command line tool, which has the apps of examples/compose in it, too. The context is target/images/cli.
FROM scratch
COPY leno /leno
USER 65534:65534
ENTRYPOINT ["/leno"]
