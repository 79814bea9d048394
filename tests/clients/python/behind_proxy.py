"""A dialogue over TLS, through a proxy: subscribe, publish twice, receive both.

Usage: behind_proxy.py WSS_URL CERTIFICATE TOKEN
"""

import asyncio
import json
import ssl
import sys

import websockets


def request(name, **data):
    return json.dumps({"type": "request", "id": name, "event": name, "data": data})


async def main(url, certificate, token):
    context = ssl.create_default_context(cafile=certificate)
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(url, ssl=context, additional_headers=headers) as ws:
        assert json.loads(await ws.recv())["event"] == "session.created"
        await ws.send(request("subscribe", channel="workflow:1"))
        assert json.loads(await ws.recv())["data"]["status"] == "subscribed"
        received = []
        for n in (1, 2):
            await ws.send(request("publish", channel="workflow:1", event="e", data={"n": n}))
            while len(received) < n:
                message = json.loads(await ws.recv())
                if message["type"] == "event":
                    received.append(message["data"]["n"])
        print(f"received {received[0]} and {received[1]}")


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 20))
