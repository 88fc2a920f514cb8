#!/usr/bin/env python3
"""Both ends of the SMTP test: aiosmtpd as the server, which speaks first, and Python's own smtplib as the client.

smtp_peer.py serve PORT        serves on every address until it is killed
smtp_peer.py call HOST PORT    sends mails; exits 0 only when the server got each of them whole
"""

import asyncio
import hashlib
import smtplib
import sys

from aiosmtpd.smtp import SMTP


class Keep:
    async def handle_DATA(self, server, session, envelope):
        content = envelope.original_content
        return "250 got %d bytes %s" % (len(content), hashlib.sha256(content).hexdigest())


async def serve(port):
    loop = asyncio.get_running_loop()
    make = lambda: SMTP(Keep(), hostname="smtp.test", data_size_limit=16 << 20)
    await loop.create_server(make, None, port)
    await loop.create_future()


def call(host, port):
    with smtplib.SMTP(host, port, local_hostname="client.test", timeout=20) as smtp:
        assert smtp.ehlo()[0] == 250
        for lines in [1, 1000, 60000]:
            text = "Subject: mail over the mesh\r\n\r\n" + "a line of the mail\r\n" * lines
            content = text.encode()
            assert smtp.mail("from@test")[0] == 250
            assert smtp.rcpt("to@test")[0] == 250
            code, said = smtp.data(content)
            expected = b"got %d bytes %s" % (len(content), hashlib.sha256(content).hexdigest().encode())
            assert (code, said) == (250, expected), (code, said)
        assert smtp.docmd("NONSENSE")[0] == 500
    print("all right")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    elif len(sys.argv) == 4 and sys.argv[1] == "call":
        call(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(__doc__)
