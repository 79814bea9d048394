"""A client that behaves as the services' own Python client does, trap for trap.

Every message is a full dump of nine fields. A request waits for its *id*, although it carries a correlation id of its
own too. Whatever comes first after `auth` is taken for its answer. Rooms are joined by messages of type `event`.
Handlers see events only, by name, and only their data.

Usage: services_client.py WS_URL [TOKEN]
"""

import asyncio
import datetime
import json
import sys
import uuid

import websockets

TYPES = {"request", "response", "event", "error", "ack", "subscribe", "unsubscribe", "ping", "pong"}


class Client:
    def __init__(self, url, token=None):
        self.url, self.token = url, token
        self.authenticated = False
        self.waiting, self.handlers, self.dropped = {}, {}, []

    async def connect(self):
        self.ws = await websockets.connect(self.url)
        if self.token:
            await self.send("request", "auth", {"token": self.token})
            first = self.decode(await self.ws.recv())
            if first["type"] == "error":
                raise ConnectionError("Authentication failed")
            self.authenticated = first["type"] == "response"
        self.loop = asyncio.create_task(self.receive())

    async def disconnect(self):
        await self.ws.close()
        await self.loop

    async def send(self, kind, event, data):
        message = {
            "id": str(uuid.uuid4()),
            "correlation_id": str(uuid.uuid4()),
            "type": kind,
            "event": event,
            "data": data,
            "timestamp": datetime.datetime.now().isoformat(),
            "room": None,
            "error_code": None,
            "error_message": None,
        }
        await self.ws.send(json.dumps(message))
        return message["id"]

    async def send_request(self, event, data):
        answer = asyncio.get_running_loop().create_future()
        self.waiting[await self.send("request", event, data)] = answer
        return await asyncio.wait_for(answer, 10)

    async def subscribe_to_room(self, room):
        await self.send("event", "subscribe", {"room": room})

    async def unsubscribe_from_room(self, room):
        await self.send("event", "unsubscribe", {"room": room})

    def on(self, event):
        queue = asyncio.Queue()
        self.handlers[event] = queue
        return queue

    async def receive(self):
        # Only an orderly end is understood: 1000 or 1001.
        try:
            while True:
                self.route(self.decode(await self.ws.recv()))
        except websockets.ConnectionClosedOK:
            pass

    def route(self, message):
        answer = self.waiting.pop(message["correlation_id"], None)
        if answer is not None:
            answer.set_result(message)
        elif message["type"] == "event" and message["event"] in self.handlers:
            self.handlers[message["event"]].put_nowait(message["data"])
        else:
            self.dropped.append(message)

    @staticmethod
    def decode(text):
        message = json.loads(text)
        assert message["type"] in TYPES, message
        assert isinstance(message["data"], dict), message
        assert isinstance(message["timestamp"], str), message
        return message


async def main(url, token=None):
    client = Client(url, token)
    welcomes = client.on("session.created")
    events = client.on("pool.scaled")
    await client.connect()
    assert client.authenticated is bool(token)
    if token:
        await asyncio.wait_for(welcomes.get(), 10)

    await client.subscribe_to_room("pool:1")
    answer = await client.send_request("subscribe", {"channel": "pool:2"})
    assert answer["data"]["status"] == "subscribed", answer
    for n, room in enumerate(("pool:1", "pool:2")):
        answer = await client.send_request("publish", {"channel": room, "event": "pool.scaled", "data": {"pool_id": room, "n": n}})
        assert answer["data"]["subscribers"] == 1, answer
        data = await asyncio.wait_for(events.get(), 10)
        assert data == {"pool_id": room, "n": n}, data

    await client.unsubscribe_from_room("pool:1")
    answer = await client.send_request("publish", {"channel": "pool:1", "event": "pool.scaled", "data": {}})
    assert answer["data"]["subscribers"] == 0, answer
    answer = await client.send_request("get_pool_status", {"pool_id": "p"})
    assert answer["error_code"] == "UNKNOWN_REQUEST", answer
    assert all(message["type"] == "ack" for message in client.dropped if message["event"] in ("subscribe", "unsubscribe")), client.dropped
    await client.disconnect()

    if token:
        try:
            await Client(url, token + "x").connect()
            raise AssertionError("a wrong token connects")
        except ConnectionError:
            pass


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    print("ok")
