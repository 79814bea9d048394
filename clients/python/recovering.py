"""A subscriber that misses nothing: it connects again by itself, and goes on where it was.

    positions = {}
    async for message in follow("ws://127.0.0.1:8686", "workflow:42", positions=positions):
        if isinstance(message, Lost):
            ...  # the server could not give what came in between: read the state anew
        else:
            print(message["offset"], message["event"], message["data"])

Events come in the order in which they were published, each once, over breaks of the connection too. Where something is
missing stands a `Lost`. `positions` says where each channel stands; store it with what you made of the events, and give it to
`follow` again after a restart of your program. See docs/history.md. Needs Python 3.10 and `websockets`.
"""

import asyncio
import json
import random
from dataclasses import dataclass

import websockets

# Closes after which it is no use to come again with the same token: docs/protocol.md, close codes.
FINAL = {1002, 1007, 1008, 1009}
# Errors of a server that is busy.
LATER = {"RATE_LIMIT_EXCEEDED", "SERVER_ERROR"}


@dataclass
class Lost:
    """Events of a channel are missing here, and the server no longer has them. What follows is complete again."""

    channel: str
    reason: str


class Refused(Exception):
    """The server does not want this client, or this subscription."""


async def follow(url, *channels, token=None, positions=None, backoff=(0.1, 10.0), **options):
    """Yields the events of `channels`, and a `Lost` where some are missing. Raises `Refused` where coming again is no use.

    `positions` is kept up to date: an event counts as had when the next one is asked for. `options` go to
    `websockets.connect`.
    """
    positions = {} if positions is None else positions
    delay = backoff[0]
    while True:
        try:
            async with websockets.connect(url, **options) as socket:
                await enter(socket, token)
                for channel in channels:
                    await socket.send(request("subscribe", channel, wish(channel, positions.get(channel))))
                async for text in socket:
                    message = json.loads(text)
                    if message["error_code"] in LATER:
                        break
                    if message["type"] == "error":
                        raise Refused(message["error_message"])
                    if message["type"] == "response":
                        lost = subscribed(message["data"], positions)
                        if lost:
                            yield lost
                        delay = backoff[0]
                    elif message["event"] == "channel.gap":
                        # Too slow, and some were left out: they are fetched as after a break.
                        break
                    elif message["room"] in channels:
                        yield message
                        had(message, positions)
        except websockets.ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code in FINAL:
                raise Refused(closed.rcvd.reason) from closed
        except (OSError, asyncio.TimeoutError, websockets.InvalidHandshake) as error:
            if isinstance(error, websockets.InvalidStatus) and error.response.status_code in (401, 403):
                raise Refused(str(error)) from error
        # All clients of a server that was started again must not come at one moment.
        await asyncio.sleep(random.uniform(0, delay))
        delay = min(delay * 2, backoff[1])


def request(event, name, data):
    return json.dumps({"type": "request", "event": event, "id": name, "data": data})


async def enter(socket, token):
    if token:
        await socket.send(request("auth", "auth", {"token": token}))
        answer = json.loads(await socket.recv())
        if answer["type"] != "response":
            raise Refused(answer["error_message"])
    welcome = json.loads(await socket.recv())
    if welcome["event"] != "session.created":
        raise Refused(welcome["error_message"] or "no welcome")


def wish(channel, position):
    if position:
        return {"channel": channel, "recover": position}
    return {"channel": channel, "positions": True}


def subscribed(answer, positions):
    """Notes where a channel stands; what was lost, if anything was."""
    channel, before = answer["channel"], positions.get(answer["channel"])
    if answer.get("recovered"):
        # What was missed comes next, from where we stand.
        return None
    if "epoch" in answer:
        positions[channel] = {"epoch": answer["epoch"], "offset": answer["offset"]}
    if before:
        return Lost(channel, answer.get("reason", "off"))
    return None


def had(message, positions):
    position = positions.get(message["room"])
    if position and "offset" in message:
        position.update(offset=message["offset"], id=message["id"])
