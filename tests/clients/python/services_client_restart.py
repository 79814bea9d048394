"""Clients as in services_client.py, one at each of several nodes, that connect again as the services' own does: after a
second, then after twice as long, five times at most, and join all rooms again.

Each stays until it has heard the number 3, and prints what it has heard.

Usage: services_client_restart.py WS_URL…
"""

import asyncio
import sys

from services_client import Client

RETRIES, DELAY = 5, 1


async def stay(url):
    heard = []
    events = None
    while True:
        for retry in range(RETRIES + 1):
            client = Client(url)
            try:
                await client.connect()
                break
            except OSError:
                if retry == RETRIES:
                    raise
                await asyncio.sleep(DELAY * 2**retry)
        events = client.on("pool.scaled")
        await client.subscribe_to_room("pool:1")
        while not client.loop.done() or not events.empty():
            event = asyncio.create_task(events.get())
            await asyncio.wait({event, client.loop}, return_when=asyncio.FIRST_COMPLETED)
            if not event.done():
                event.cancel()
                break
            heard.append(event.result()["n"])
            if heard[-1] == 3:
                await client.disconnect()
                return heard
        # An orderly end: anything else would have been raised.
        await client.loop
        await asyncio.sleep(DELAY)


async def main(urls):
    for heard in await asyncio.gather(*map(stay, urls)):
        print(*heard)


asyncio.run(main(sys.argv[1:]))
print("ok")
