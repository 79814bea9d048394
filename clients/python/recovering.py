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

With `session={}` the server keeps what is subscribed to while the connection is gone: many channels come back by one message,
and who is a member of a channel (`presence=True`) stays one, unnoticed by others, for `session={"ttl": seconds}` at most.
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
# A close by which a session does not end: any code from 3000 to 4999.
BACK_SOON = 4000
# Requests about the session, by their ids.
KEEP, RESUME = "keep the session", "resume the session"


@dataclass
class Lost:
    """Events of a channel are missing here, and the server no longer has them. What follows is complete again."""

    channel: str
    reason: str


class Refused(Exception):
    """The server does not want this client, or this subscription."""


async def follow(
    url, *channels, token=None, positions=None, session=None, presence=None, backoff=(0.1, 10.0), **options
):
    """Yields the events of `channels`, and a `Lost` where some are missing. Raises `Refused` where coming again is no use.

    `positions` is kept up to date: an event counts as had when the next one is asked for. So is `session`, if it is given: its
    `name` is a secret, by which whoever is the same user has the session. It ends with the generator. `presence` is what
    `subscribe` takes: True, "watch" or {"info": …}; then who comes and goes is yielded as well, as `presence.…` events.
    `options` go to `websockets.connect`.
    """
    positions = {} if positions is None else positions

    async def subscribe(socket, names):
        for name in names:
            await socket.send(request("subscribe", name, wish(name, positions.get(name), presence)))

    async def begin(socket):
        if session and "name" in session:
            known = {name: positions[name] for name in channels if name in positions}
            await socket.send(request("resume_session", RESUME, {"session": session["name"], "positions": known}))
            return
        if session is not None:
            await socket.send(request("keep_session", KEEP, {"ttl": session["ttl"]} if "ttl" in session else {}))
        await subscribe(socket, channels)

    delay = backoff[0]
    while True:
        try:
            async with websockets.connect(url, **options) as socket:
                try:
                    await enter(socket, token)
                    await begin(socket)
                    async for text in socket:
                        message = json.loads(text)
                        if message["type"] == "error" and message["correlation_id"] == KEEP:
                            continue  # Then without: positions are enough to miss nothing.
                        if message["error_code"] == "SESSION_UNKNOWN":
                            del session["name"]  # Away for too long, or another server.
                            await begin(socket)
                            continue
                        if message["error_code"] in LATER:
                            break
                        if message["type"] == "error":
                            raise Refused(message["error_message"])
                        if message["event"] == "keep_session":
                            session["name"] = message["data"]["session"]
                        elif message["type"] == "response":
                            answers = message["data"].get("subscriptions", [message["data"]])
                            answers = {answer["channel"]: answer for answer in answers if "error" not in answer}
                            for lost in [subscribed(answer, positions) for answer in answers.values()]:
                                if lost:
                                    yield lost
                            if message["event"] == "resume_session":
                                await subscribe(socket, [name for name in channels if name not in answers])
                            delay = backoff[0]
                        elif message["event"] == "channel.gap":
                            # Too slow, and some were left out: they are fetched as after a break.
                            break
                        elif message["room"] in channels:
                            yield message
                            had(message, positions)
                except (GeneratorExit, asyncio.CancelledError, Refused):
                    await socket.close()  # Else it would be 1011, and the session would wait for somebody.
                    raise
                await socket.close(BACK_SOON)
        except websockets.ConnectionClosed as closed:
            elsewhere = closed.rcvd and closed.rcvd.reason == "Resumed elsewhere"
            if elsewhere or closed.rcvd and closed.rcvd.code in FINAL:
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


def wish(channel, position, presence):
    data = {"channel": channel, "recover": position} if position else {"channel": channel, "positions": True}
    return {**data, "presence": presence} if presence else data


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
