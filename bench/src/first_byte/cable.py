"""A hub that keeps every frame for a while: python3 cable.py MILLISECONDS INTERFACE...

The kernel has netem for that, where it was built with it. Prints a line when it works, and runs until it is killed.
"""

import collections
import select
import socket
import sys
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23

delay = float(sys.argv[1]) / 1000
ports = []
for interface in sys.argv[2:]:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # With the header in front that says what the sender left to the hardware: checksums, and cutting into packets.
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    port.bind((interface, 0))
    port.setblocking(False)
    ports.append(port)
waiting = collections.deque()
print("ready", flush=True)
while True:
    pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
    for port in select.select(ports, [], [], pause)[0]:
        waiting.append((time.monotonic() + delay, port, port.recv(1 << 17)))
    while waiting and waiting[0][0] <= time.monotonic():
        _, source, frame = waiting.popleft()
        for port in ports:
            if port is not source:
                port.send(frame)
