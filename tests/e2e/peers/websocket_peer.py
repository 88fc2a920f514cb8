#!/usr/bin/env python3
"""Both ends of the WebSocket test, with the package websockets.

websocket_peer.py serve PORT       serves on every address until it is killed
websocket_peer.py call HOST:PORT   tries what a WebSocket can do; exits 0 only when all of it was right
"""

import asyncio
import sys

import websockets

MOST = 16 << 20


async def serve(port):
    async def connection(socket):
        # Speaks first, as chats do.
        await socket.send("welcome over websocket")
        async for message in socket:
            if message == "push":
                for n in range(200):
                    await socket.send(str(n))
            elif message == "bye":
                return await socket.close(4001, "as was asked")
            else:
                await socket.send(message)

    async with websockets.serve(connection, None, port, max_size=MOST):
        await asyncio.get_running_loop().create_future()


async def call(target):
    async with websockets.connect("ws://%s/chat" % target, max_size=MOST, open_timeout=20) as socket:
        assert await socket.recv() == "welcome over websocket"

        for n in range(100):
            await socket.send("turn %d" % n)
            assert await socket.recv() == "turn %d" % n

        big = bytes(range(256)) * (4 << 12)  # 4 MiB in one message, there and back
        await socket.send(big)
        assert await socket.recv() == big

        await asyncio.wait_for(await socket.ping(), 20)

        await socket.send("push")
        assert [int(await socket.recv()) for _ in range(200)] == list(range(200))

        await socket.send("bye")
        try:
            await socket.recv()
            raise AssertionError("the server did not close")
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as was asked"), closed
    print("all right")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    elif len(sys.argv) == 3 and sys.argv[1] == "call":
        asyncio.run(asyncio.wait_for(call(sys.argv[2]), 60))
    else:
        sys.exit(__doc__)
