"""Back-ends publish in their services' way: by clients/python/mahavishnu_events.py and by `mahavishnu publish --service`.

Usage: family_events.py HTTP_URL WS_URL PROGRAM

Every broadcast of every service is made by both, and both have to come to its subscribers as the same event with the same
data. Prints "ok".
"""

import asyncio
import inspect
import json
import pathlib
import re
import subprocess
import sys
import urllib.request

import websockets

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "clients/python"))
import mahavishnu_events
from mahavishnu_events import Asynchronous, NotPublished, Publisher, Service, WebSocketMetrics

HTTP_URL, WS_URL, PROGRAM = sys.argv[1:]
SAMPLES = {"number": 3.14159, "boolean": True, "object": {"a": [1, None]}, "list": ["x", 2]}


def call(service, name):
    """Calls a broadcast with whatever it takes. Returns the arguments, and what it would have published."""
    method = getattr(service, name)
    made = []
    service.publish_all = lambda messages, idempotency_key: made.append(messages) or 0
    known = inspect.signature(method).parameters.values()
    arguments = {
        one.name: f"{one.name} ü\"" for one in known if one.kind is one.POSITIONAL_OR_KEYWORD and one.name != "metadata"
    }
    if any(one.name == "metadata" for one in known):
        arguments["more_of_it"] = {"n": 1.5, "timestamp": "as it is"}
    while not made:
        try:
            method(**arguments)
        except TypeError as error:
            member, kind = re.search(r"(\w+) is no (\w+)", str(error)).groups()
            arguments[member] = SAMPLES[kind]
    del service.publish_all
    return arguments, made[0]


class Subscriber:
    def __init__(self, socket):
        self.socket, self.channels = socket, set()

    async def subscribe(self, channel):
        if channel not in self.channels:
            self.channels.add(channel)
            await self.socket.send(json.dumps({"type": "request", "event": "subscribe", "id": channel, "data": {"channel": channel}}))
            answer = json.loads(await self.socket.recv())
            assert answer["type"] == "response", answer

    async def heard(self, count):
        messages = [json.loads(await asyncio.wait_for(self.socket.recv(), 10)) for _ in range(count)]
        # Between channels there is no order.
        return sorted(((message["room"], message["event"], message["data"]) for message in messages), key=lambda it: it[0])


def without_time(messages):
    return [(room, event, {**data, "timestamp": None}) for room, event, data in messages]


async def main():
    count = 0
    async with websockets.connect(WS_URL) as socket:
        await socket.recv()
        subscriber = Subscriber(socket)
        for kind in Service.__subclasses__():
            service = kind(HTTP_URL)
            for name in sorted(dir(kind)):
                if not name.startswith("broadcast_"):
                    continue
                arguments, messages = call(service, name)
                for channel, _, _ in messages:
                    await subscriber.subscribe(channel)
                reached = await asyncio.to_thread(service.publish_all, messages)
                assert reached == len(messages), (name, reached)
                by_module = await subscriber.heard(len(messages))
                assert by_module == sorted(messages, key=lambda it: it[0]), (by_module, messages)

                fields = [f"--field={member}={value if isinstance(value, str) else json.dumps(value)}" for member, value in arguments.items()]
                event = messages[0][1]
                words = [PROGRAM, "publish", "--url", HTTP_URL, "--service", kind.__doc__.rstrip(".").lower(), event, *fields]
                done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)
                assert done.returncode == 0, (words, done.stderr)
                by_program = await subscriber.heard(len(messages))
                assert without_time(by_program) == without_time(by_module), (by_program, by_module)
                count += 1

        reached = await Asynchronous(mahavishnu_events.Crackerjack(HTTP_URL)).broadcast_test_started("run", "unit", 9)
        assert reached == 0
    assert count > 40, count

    # The same key is not published again; what is refused says why.
    publisher = Publisher(HTTP_URL.replace("http", "ws", 1))
    publisher.publish("workflow:once", "e", {"n": 1}, idempotency_key="k")
    publisher.publish("workflow:once", "e", {"n": 1}, idempotency_key="k")
    try:
        publisher.publish("workflow:once", "e", {"n": 2}, idempotency_key="k")
    except NotPublished as refusal:
        assert refusal.status in (409, 422), refusal.status
    else:
        raise AssertionError("another message by the same key")
    try:
        Publisher("http://127.0.0.1:1", attempts=1).publish("c", "e")
    except NotPublished as refusal:
        assert refusal.status is None
    for wrong in [lambda: mahavishnu_events.Crackerjack(HTTP_URL).broadcast_test_started("run", None, 9)]:
        try:
            wrong()
        except TypeError as error:
            assert "missing" in str(error)

    metrics = WebSocketMetrics('a "server"', tls_enabled=True)
    served = metrics.start_metrics_server(port=0, host="127.0.0.1")
    metrics.on_connect(1)
    metrics.on_connect(2)
    metrics.on_disconnect(1)
    metrics.on_message_sent("request")
    metrics.on_message_received("event")
    metrics.on_broadcast("channel_name", 0.003)
    metrics.on_connection_error("auth_failed")
    metrics.on_message_error("decode_error")
    metrics.observe_latency("event", 0.045)
    with urllib.request.urlopen(f"http://127.0.0.1:{served.server_address[1]}/metrics") as answer:
        text = answer.read().decode()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked
    assert r'websocket_connections_active{server="a \"server\""} 1' in text, text
    assert text.count('le="0.005"} 1') == 1 and text.count('le="0.001"} 0') == 2, text
    served.shutdown()
    print("ok")


asyncio.run(main())
