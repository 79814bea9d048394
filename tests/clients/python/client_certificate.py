"""A subscriber whose certificate takes the place of a token.

Usage: client_certificate.py WSS_URL CA_FILE CERT_FILE KEY_FILE
"""

import asyncio
import json
import ssl
import sys

import websockets


async def main(url, ca, cert, key):
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(cert, key)
    async with websockets.connect(url, ssl=context) as ws:
        welcome = json.loads(await ws.recv())
        assert welcome["event"] == "session.created", welcome
        assert welcome["data"]["authenticated"] is True and welcome["data"]["tls_mode"] == "WSS", welcome
        await ws.send(json.dumps({"type": "request", "id": "1", "event": "subscribe", "data": {"channel": "workflow:1"}}))
        answer = json.loads(await ws.recv())
        # It may write, which is not reading.
        assert answer["error_code"] == "FORBIDDEN", answer
    print("ok")


asyncio.run(main(*sys.argv[1:]))
