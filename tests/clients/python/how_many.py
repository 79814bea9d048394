"""Opens WebSockets from one address, keeps them, and prints how many it could have and how the next one was refused.

Usage: how_many.py WSS_URL CERTIFICATE ADDRESS MOST
"""

import asyncio
import json
import ssl
import sys

import websockets


async def main(url, certificate, address, most):
    context = ssl.create_default_context(cafile=certificate)
    kept = []
    try:
        while len(kept) < int(most):
            ws = await websockets.connect(url, ssl=context, local_addr=(address, 0))
            assert json.loads(await ws.recv())["event"] == "session.created"
            kept.append(ws)
        print(len(kept))
    except websockets.InvalidStatus as refused:
        print(len(kept), refused.response.status_code)
    except websockets.ConnectionClosed as closed:
        print(len(kept), closed.rcvd.code)


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 20))
