"""Compression with the `websockets` library, under every kind of offer that it can make.

Usage: deflate.py WS_URL
"""

import asyncio
import json
import random
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Offer

OFFERS = [
    Offer(),
    Offer(client_max_window_bits=True),
    Offer(server_no_context_takeover=True, client_no_context_takeover=True),
    Offer(client_max_window_bits=9),
    Offer(server_max_window_bits=15, client_max_window_bits=15),
    # Their decompressors refuse what reaches back farther.
    Offer(server_max_window_bits=9),
    Offer(server_max_window_bits=12, client_max_window_bits=10),
]


def texts():
    """Of every compressibility, up to several windows long."""
    numbers = random.Random(7)
    for size in (0, 200, 450, 3000, 40_000):
        yield "".join(f"again {n % 97} " for n in range(size // 8))
        yield "".join(numbers.choice("abcdefgh ☃") for _ in range(size))
        yield "".join(chr(numbers.randrange(0x20, 0xD7FF)) for _ in range(size // 3))


async def request(ws, message):
    await ws.send(message)
    return json.loads(await ws.recv())


async def dialogue(url, offer):
    options = {"compression": None, "extensions": [offer], "max_size": 2**22}
    async with websockets.connect(url, **options) as ws:
        (extension,) = ws.protocol.extensions
        assert extension.remote_no_context_takeover and extension.local_no_context_takeover, extension
        assert json.loads(await ws.recv())["event"] == "session.created"
        subscribe = {"type": "request", "id": "s", "event": "subscribe", "data": {"channel": "workflow:1"}}
        assert (await request(ws, json.dumps(subscribe)))["data"]["status"] == "subscribed"
        for n, text in enumerate(texts()):
            data = {"channel": "workflow:1", "event": "e", "data": {"n": n, "text": text}}
            message = json.dumps({"type": "request", "id": "p", "event": "publish", "data": data})
            if n % 2:
                # In fragments: the library compresses each and marks the first.
                step = max(1, len(message) // 5)
                message = [message[at : at + step] for at in range(0, len(message), step)]
            await ws.send(message)
            heard = [json.loads(await ws.recv()) for _ in range(2)]
            (event,) = [message for message in heard if message["event"] == "e"]
            assert event["data"] == {"n": n, "text": text}, (offer, n)
    assert ws.close_code == 1000, ws.close_code


async def main(url):
    for offer in OFFERS:
        await dialogue(url, offer)


asyncio.run(main(sys.argv[1]))
print("ok")
