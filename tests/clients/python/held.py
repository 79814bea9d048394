"""Holds one WebSocket and says what comes: "subscribed", the number of each event, "closed CODE" when it ends.

Usage: held.py URL CERTIFICATE CHANNEL [LOCAL_ADDRESS]
"""

import asyncio
import json
import ssl
import sys

import websockets


async def main(url, certificate, channel, local="127.0.0.1"):
    context = ssl.create_default_context(cafile=certificate) if url.startswith("wss:") else None
    async with websockets.connect(url, ssl=context, local_addr=(local, 0)) as ws:
        await ws.send(json.dumps({"type": "request", "event": "subscribe", "id": "1", "data": {"channel": channel}}))
        try:
            while True:
                message = json.loads(await ws.recv())
                if message["type"] == "response":
                    print(message["data"]["status"], flush=True)
                elif message["event"] == "n":
                    print(message["data"]["n"], flush=True)
        except websockets.ConnectionClosed as closed:
            print("closed", closed.rcvd and closed.rcvd.code, flush=True)


asyncio.run(main(*sys.argv[1:]))
