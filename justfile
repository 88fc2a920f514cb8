# What CI does, a step at a time. `just` lists the steps; .ci/run does them all on a bare machine.

default:
    @just --list

# All tests; those whose tools are missing say that they were skipped
test:
    cargo test --workspace

# Each fuzz target for so many seconds; `fuzz/run TARGET` for one
fuzz SECONDS="60":
    fuzz/run --all {{SECONDS}}

# One end-to-end promise, for example `just e2e split`
e2e NAME:
    cargo test -p leno-tests --test e2e -- {{NAME}}

format:
    cargo fmt --all

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
    cargo deny check bans licenses sources

# Known vulnerabilities of our dependencies; needs the advisory database from the net
audit:
    cargo deny check advisories

# Every example is valid
examples:
    for file in examples/*.yaml examples/compose/mesh examples/compose/steps/*.yaml; do cargo run --quiet -p leno-cli -- validate -f $file || exit 1; done

build:
    cargo build --release -p leno-cli -p leno-proxy -p leno-control-plane

# The images leno-proxy, leno-control-plane and leno, for docker-compose and Kubernetes; `just images --quick` for tests
images *ARGS:
    images/build {{ARGS}}

demo:
    cargo run --release -- demo

# What a request costs in instructions, against bench/instructions.txt; needs valgrind
instructions *ARGS="--check":
    cargo run --release -p leno-bench -- instructions {{ARGS}}

# The compiler's profile of what sidecars do, anew
profile:
    proxy/profile/train

# Leno beside its peers; `just bench --floor PATH --check` checks the claims
bench *ARGS:
    cargo run --release -p leno-bench -- http1 {{ARGS}}

# The wait for the first byte of a server that speaks first, directly and through intercepting sidecars; as root
first-byte *ARGS:
    cargo run --release -p leno-bench -- first-byte {{ARGS}}

ci:
    .ci/run
