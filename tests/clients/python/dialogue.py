"""A subscriber and a publisher with the `websockets` library, on a server without authentication.

Usage: dialogue.py WS_URL
"""

import asyncio
import json
import sys

import websockets


async def request(ws, event, data):
    await ws.send(json.dumps({"type": "request", "id": f"{event}-1", "event": event, "data": data}))
    answer = json.loads(await ws.recv())
    assert answer["correlation_id"] == f"{event}-1", answer
    return answer


async def main(url):
    async with websockets.connect(url) as reader, websockets.connect(url + "/ws?x=1") as writer:
        for ws in (reader, writer):
            welcome = json.loads(await ws.recv())
            assert welcome["event"] == "session.created", welcome
            assert welcome["data"]["server"] == "mahavishnu", welcome
            assert isinstance(welcome["timestamp"], str), welcome
        answer = await request(reader, "subscribe", {"channel": "workflow:42"})
        assert answer["data"] == {"status": "subscribed", "channel": "workflow:42"}, answer

        for n in range(50):
            data = {"workflow_id": "42", "n": n, "text": "größer ☃ 𝄞", "long": "x" * n * 1000}
            answer = await request(writer, "publish", {"channel": "workflow:42", "event": "workflow.started", "data": data})
            assert answer["data"]["subscribers"] == 1, answer
            event = json.loads(await reader.recv())
            assert event["event"] == "workflow.started" and event["room"] == "workflow:42", event
            assert event["data"] == data

        # The library's own keep-alive, and JSON in a binary frame.
        await (await writer.ping(b"payload"))
        await writer.send(json.dumps({"type": "ping", "id": "b"}).encode())
        assert json.loads(await writer.recv())["type"] == "pong"

        await writer.send("garbage")
        assert json.loads(await writer.recv())["error_code"] == "DECODE_ERROR"
        answer = await request(reader, "unsubscribe", {"channel": "workflow:42"})
        assert answer["data"]["status"] == "unsubscribed", answer
    assert reader.close_code == 1000, reader.close_code


asyncio.run(main(sys.argv[1]))
print("ok")
