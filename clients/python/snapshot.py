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
        position = await asyncio.to_thread(stand, http_url, channel)
        await asyncio.to_thread(snapshot)
        async with aclosing(follow(ws_url, channel, positions={channel: position})) as messages:
            async for message in messages:
                if isinstance(message, Lost):
                    break  # Away for too long, or another life of the server: everything anew.
                apply(message["data"])


def stand(http_url, channel):
    """Where a channel stands: a page of its history without events. With authentication this takes a token as well."""
    query = urllib.parse.urlencode({"channel": channel, "limit": 0})
    with urllib.request.urlopen(f"{http_url}/history?{query}", timeout=10) as answer:
        page = json.load(answer)
    return {"epoch": page["epoch"], "offset": page["offset"]}
