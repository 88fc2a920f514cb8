#!/usr/bin/env python3
"""Both ends of the gRPC test, with the official grpcio and no generated code: messages are bytes as they are.

grpc_peer.py serve HOST:PORT [NAME]      serves until it is killed, and says its name in every answer's head
grpc_peer.py ask HOST:PORT AUTHORITY METHOD  makes one call of that kind; prints who answered, or the status
grpc_peer.py health HOST:PORT FILE       a health server (grpc.health.v1); FILE has a line SERVICE STATUS for each it knows
grpc_peer.py talk HOST:PORT AUTHORITY FILE  one stream on which each answer is awaited before the next question, until there is such a file
grpc_peer.py call HOST:PORT AUTHORITY    tries every kind of call; exits 0 only when each was right
"""

import os
import queue
import sys
import time
from concurrent import futures

import grpc

SERVICE = "leno.test.Peer"
OPTIONS = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]


NAME = "peer"


def named(behaviour):
    """Says who answers, before the answer."""

    def handle(request, context):
        context.send_initial_metadata((("x-server", NAME),))
        return behaviour(request, context)

    return handle


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    if "x-ask" in metadata:
        context.set_trailing_metadata((("x-told", metadata["x-ask"]),))
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as was asked: %s" % request.decode())


def count(request, context):
    for n in range(int(request)):
        yield str(n).encode()


def add(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def echo(requests, context):
    yield from requests


def health_of(file):
    """Answers grpc.health.v1.Health/Check; both messages have one field, a string and an enum."""

    def check(request, context):
        asked = request[2:].decode() if request else ""
        with open(file) as lines:
            known = dict(line.split() for line in lines)
        if (asked or "-") not in known:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service " + asked)
        return bytes([8, int(known[asked or "-"])])

    return check


def health(address, file):
    listen(address, "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(health_of(file))})


def serve(address):
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(named(unary)),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Count": grpc.unary_stream_rpc_method_handler(named(count)),
        "Add": grpc.stream_unary_rpc_method_handler(named(add)),
        "Echo": grpc.stream_stream_rpc_method_handler(named(echo)),
    }
    listen(address, SERVICE, handlers)


def listen(address, service, handlers):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    if server.add_insecure_port(address) == 0:
        sys.exit("cannot listen on " + address)
    server.start()
    server.wait_for_termination()


def call(address, authority):
    # No proxy from the environment: the sidecar's port is the server as far as grpcio knows.
    options = OPTIONS + [("grpc.enable_http_proxy", 0), ("grpc.default_authority", authority)]
    with grpc.insecure_channel(address, options=options) as channel:
        name = "/%s/" % SERVICE

        reply, outcome = channel.unary_unary(name + "Unary").with_call(
            b"hello over grpc", metadata=(("x-ask", "trailers"),), timeout=20
        )
        assert reply == b"hello over grpc", reply
        assert ("x-told", "trailers") in [tuple(pair) for pair in outcome.trailing_metadata()]

        big = bytes(range(256)) * (4 << 12)  # 4 MiB: many DATA frames, flow control both ways
        assert channel.unary_unary(name + "Unary")(big, timeout=20) == big

        try:
            channel.unary_unary(name + "Fail")(b"please", timeout=20)
            raise AssertionError("Fail did not fail")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
            assert error.details() == "as was asked: please", error

        assert [int(n) for n in channel.unary_stream(name + "Count")(b"500", timeout=20)] == list(range(500))
        assert channel.stream_unary(name + "Add")((str(n).encode() for n in range(101)), timeout=20) == b"5050"

        # A conversation: each answer is awaited before the next question is asked.
        said, turn = [], queue.Queue()

        def questions():
            for n in range(50):
                turn.get(timeout=20)
                yield str(n).encode()

        turn.put(None)
        for answer in channel.stream_stream(name + "Echo")(questions(), timeout=20):
            said.append(answer)
            turn.put(None)
        assert said == [str(n).encode() for n in range(50)], said

        unary_call = channel.unary_unary(name + "Unary")
        calls = [unary_call.future(str(n).encode(), timeout=20) for n in range(200)]
        assert [int(future.result()) for future in calls] == list(range(200))
    print("all right")


def talk(address, authority, file):
    """Prints how many questions were answered; a stream that breaks is an error."""
    options = OPTIONS + [("grpc.enable_http_proxy", 0), ("grpc.default_authority", authority)]
    turn, asked = queue.Queue(), 0

    def questions():
        while not os.path.exists(file):
            yield str(turn.get(timeout=20)).encode()
            time.sleep(0.005)

    with grpc.insecure_channel(address, options=options) as channel:
        turn.put(asked)
        for answer in channel.stream_stream("/%s/Echo" % SERVICE)(questions()):
            assert answer == str(asked).encode(), (answer, asked)
            asked += 1
            turn.put(asked)
    print(asked)


def ask(address, authority, method):
    options = OPTIONS + [("grpc.enable_http_proxy", 0), ("grpc.default_authority", authority)]
    with grpc.insecure_channel(address, options=options) as channel:
        name, said = "/%s/%s" % (SERVICE, method), iter([b"3", b"4"])
        try:
            if method == "Count":
                outcome = channel.unary_stream(name)(b"3", timeout=20)
                assert list(outcome) == [b"0", b"1", b"2"]
            elif method == "Add":
                answer, outcome = channel.stream_unary(name).with_call(said, timeout=20)
                assert answer == b"7", answer
            elif method == "Echo":
                outcome = channel.stream_stream(name)(said, timeout=20)
                assert list(outcome) == [b"3", b"4"]
            else:
                answer, outcome = channel.unary_unary(name).with_call(b"hello", timeout=20)
                assert answer == b"hello", answer
        except grpc.RpcError as error:
            print(error.code().name)
        else:
            print(dict(outcome.initial_metadata())["x-server"])


if __name__ == "__main__":
    if len(sys.argv) in (3, 4) and sys.argv[1] == "serve":
        NAME = sys.argv[3] if len(sys.argv) == 4 else NAME
        serve(sys.argv[2])
    elif len(sys.argv) == 5 and sys.argv[1] == "talk":
        talk(*sys.argv[2:])
    elif len(sys.argv) == 5 and sys.argv[1] == "ask":
        ask(*sys.argv[2:])
    elif len(sys.argv) == 4 and sys.argv[1] == "health":
        health(sys.argv[2], sys.argv[3])
    elif len(sys.argv) == 4 and sys.argv[1] == "call":
        call(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)
