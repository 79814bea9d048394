"""Connects, says so, and waits for the server's goodbye, answering its pings.

Usage: wait_close.py WS_URL
"""

import asyncio
import json
import sys

import websockets


async def main(url):
    # No pings of its own: the server's are what keeps this connection.
    async with websockets.connect(url, ping_interval=None) as ws:
        assert json.loads(await ws.recv())["event"] == "session.created"
        print("connected", flush=True)
        try:
            await ws.recv()
            raise AssertionError("a message")
        except websockets.ConnectionClosedOK as closed:
            assert closed.rcvd.code == 1001, closed
        await ws.wait_closed()


asyncio.run(main(sys.argv[1]))
print("ok")
