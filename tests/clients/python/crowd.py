"""Many subscribers that come at once, and a publisher whose every message must reach each of them once.

Usage: crowd.py WS_URL CLIENTS MESSAGES [PAUSE]

With PAUSE (seconds between messages) the server can be made to do something meanwhile. Prints "ready" when all are
subscribed and "ok" at the end.
"""

import asyncio
import json
import sys

import websockets


async def subscribe(url):
    ws = await websockets.connect(url, open_timeout=60, compression=None)
    assert json.loads(await ws.recv())["event"] == "session.created"
    await ws.send(json.dumps({"type": "request", "id": "1", "event": "subscribe", "data": {"channel": "crowd"}}))
    assert json.loads(await ws.recv())["data"]["status"] == "subscribed"
    return ws


async def count(ws, messages):
    for n in range(messages):
        message = json.loads(await ws.recv())
        assert message["data"]["n"] == n, (n, message)


async def main(url, clients, messages, pause):
    # More at once would take this client longer than the server waits for a handshake and its request.
    at_once = 200
    readers = []
    for begin in range(0, clients, at_once):
        readers += await asyncio.gather(*(subscribe(url) for _ in range(begin, min(clients, begin + at_once))))
    publisher = await subscribe(url)
    await publisher.send(json.dumps({"type": "request", "id": "2", "event": "unsubscribe", "data": {"channel": "crowd"}}))
    await publisher.recv()
    print("ready", flush=True)
    counting = [asyncio.create_task(count(ws, messages)) for ws in readers]
    for n in range(messages):
        data = {"channel": "crowd", "event": "e", "data": {"n": n, "text": "x" * 1000}}
        await publisher.send(json.dumps({"type": "request", "id": str(n), "event": "publish", "data": data}))
        answer = json.loads(await publisher.recv())
        assert answer["data"]["subscribers"] == clients, answer
        await asyncio.sleep(pause)
    await asyncio.gather(*counting)
    await asyncio.gather(*(ws.close() for ws in readers))
    print("ok")


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else 0))
