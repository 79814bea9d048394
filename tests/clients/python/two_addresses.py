"""Connects over TLS from each of some addresses, keeps the connections, and prints what each was greeted with.

Usage: two_addresses.py WSS_URL CERTIFICATE ADDRESS…
"""

import asyncio
import json
import ssl
import sys

import websockets


async def main(url, certificate, *addresses):
    context = ssl.create_default_context(cafile=certificate)
    kept = []
    for address in addresses:
        ws = await websockets.connect(url, ssl=context, local_addr=(address, 0))
        kept.append(ws)
        try:
            greeting = json.loads(await ws.recv())
            # One that may not stay is closed right after, if another shard has counted it.
            try:
                await asyncio.wait_for(ws.recv(), 0.5)
            except asyncio.TimeoutError:
                pass
            assert greeting["event"] == "session.created", greeting
            print("welcome")
        except websockets.ConnectionClosed as closed:
            print(closed.rcvd.code)


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 20))
