"""A snapshot, then the stream, without a gap between: a view of something that lives in a database and goes on changing.

Whoever changes it commits to the database first and publishes then, as the event's data says what *is* now, not what was
added. Whoever shows it asks where the channel stands, reads the database, and follows the channel from there:

- what was published before the position was asked for had been committed by then: the snapshot has it;
- what is published after it comes by the channel, whenever the database was read;
- what is both in the snapshot and in the stream comes twice: an older version of it is to be passed over.
"""

import asyncio
import json
import urllib.parse
import urllib.request
from contextlib import aclosing

from recovering import Lost, follow


async def watch(http_url, ws_url, channel, snapshot, apply):
    """Calls `snapshot()` and then `apply(data)` for each event, for as long as it runs."""
    while True:
        # Where the channel stands: a page of its history without events.
        page = await asyncio.to_thread(get, http_url, "history", channel=channel, limit=0)
        await asyncio.to_thread(snapshot)
        await stream(ws_url, channel, page, apply)


async def watch_document(http_url, ws_url, channel, replace, apply):
    """The same where the channel keeps the state itself, as its document: nothing comes twice, so events may say what was
    added. Calls `replace(state)` and then `apply(data)` for each event."""
    while True:
        document = await asyncio.to_thread(get, http_url, "state", channel=channel)
        replace(document["state"])
        await stream(ws_url, channel, document, apply)


async def stream(ws_url, channel, position, apply):
    position = {"epoch": position["epoch"], "offset": position["offset"]}
    async with aclosing(follow(ws_url, channel, positions={channel: position})) as messages:
        async for message in messages:
            if isinstance(message, Lost):
                return  # Away for too long, or another life of the server: everything anew.
            apply(message["data"])


def get(http_url, what, **query):
    """With authentication this takes a token as well."""
    url = f"{http_url}/{what}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)
