"""Views of a number that grows, by the recipe of clients/python/snapshot.py for documents: none adds anything twice.

Usage: documents.py HTTP_URL LINE_URL VIEWS CHANGES EVERY

The document is set with every EVERYth change. The views connect by LINE_URL, which may break at any time. Prints for each
view how many documents it took, and "ok".
"""

import asyncio
import json
import pathlib
import random
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "clients/python"))
from snapshot import watch_document

CHANNEL = "workflow:sum"


class View:
    def __init__(self):
        self.sum, self.documents = None, 0

    def replace(self, state):
        self.sum = state["sum"]
        self.documents += 1

    def apply(self, change):
        self.sum += change["plus"]


def publish(http_url, message):
    body = json.dumps({"channel": CHANNEL, "event": "sum.changed"} | message).encode()
    request = urllib.request.Request(f"{http_url}/publish", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=20).read()


async def main(http_url, line_url, views, changes, every):
    views, tasks, total = [View() for _ in range(views)], [], 0
    publish(http_url, {"data": {"plus": 0}, "state": {"sum": 0}})
    for n in range(changes):
        # Each begins in the middle of it.
        if n * len(views) // changes >= len(tasks):
            view = views[len(tasks)]
            tasks.append(asyncio.create_task(watch_document(http_url, line_url, CHANNEL, view.replace, view.apply)))
        plus = random.randrange(1, 100)
        total += plus
        message = {"data": {"plus": plus}} | ({"state": {"sum": total}} if n % every == 0 else {})
        await asyncio.to_thread(publish, http_url, message)
    while any(view.sum != total for view in views):
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.02)
    for view in views:
        print(view.documents)
    print("ok")


asyncio.run(asyncio.wait_for(main(*sys.argv[1:3], *map(int, sys.argv[3:])), 60))
