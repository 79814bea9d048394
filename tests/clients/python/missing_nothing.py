"""The subscriber of clients/python/recovering.py, in a world where the connection breaks.

Usage: missing_nothing.py WS_URL LAST [stall] [session]

With `stall` it reads nothing behind the first event until a line comes on its standard input. With `session` it keeps one, and
is a member of the channel. Prints a line of JSON for each event, {"n": …, "offset": …}, and for each loss, {"lost": REASON}.
Ends behind the event whose `n` is LAST.
"""

import asyncio
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "clients/python"))
from recovering import Lost, follow


async def main(url, last, stalls, keeps):
    more = {"session": {"ttl": 60}, "presence": {"info": {"name": "Ada"}}} if keeps else {}
    async for message in follow(url, "workflow:42", backoff=(0.01, 0.1), **more):
        if isinstance(message, Lost):
            print(json.dumps({"lost": message.reason}), flush=True)
            continue
        if message["event"].startswith("presence."):
            continue
        print(json.dumps({"n": message["data"]["n"], "offset": message["offset"]}), flush=True)
        if message["data"]["n"] == last:
            return
        if stalls:
            stalls = False
            await asyncio.to_thread(sys.stdin.readline)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), "stall" in sys.argv[3:], "session" in sys.argv[3:]))
