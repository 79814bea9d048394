"""Views of a table that goes on changing, by the recipe of clients/python/snapshot.py. All of them must end equal to the table.

Usage: snapshots.py HTTP_URL LINE_URL DATABASE VIEWS CHANGES

The views connect by LINE_URL, which may break at any time. Prints for each view how many snapshots it took, and "ok".
"""

import asyncio
import json
import pathlib
import random
import sqlite3
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "clients/python"))
from snapshot import watch

CHANNEL = "workflow:orders"


class View:
    def __init__(self, database):
        self.database, self.orders, self.snapshots = database, {}, 0

    def snapshot(self):
        with sqlite3.connect(self.database, timeout=30) as db:
            self.orders = dict(db.execute("SELECT id, version FROM orders"))
        self.snapshots += 1

    def apply(self, order):
        # What is in the snapshot as well may be newer there.
        if order["version"] > self.orders.get(order["id"], 0):
            self.orders[order["id"]] = order["version"]


def change(database, http_url):
    with sqlite3.connect(database, timeout=30) as db:
        order = random.randrange(20)
        db.execute("INSERT INTO orders VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET version = version + 1", (order,))
        version, = db.execute("SELECT version FROM orders WHERE id = ?", (order,)).fetchone()
    # It is committed.
    data = {"channel": CHANNEL, "event": "order.changed", "data": {"id": order, "version": version}}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{http_url}/publish", json.dumps(data).encode(), headers)
    urllib.request.urlopen(request, timeout=20).read()


async def main(http_url, line_url, database, views, changes):
    with sqlite3.connect(database) as db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, version INTEGER)")
    views = [View(database) for _ in range(views)]
    tasks = []
    for n in range(changes):
        # Each begins in the middle of it.
        if n * len(views) // changes >= len(tasks):
            view = views[len(tasks)]
            tasks.append(asyncio.create_task(watch(http_url, line_url, CHANNEL, view.snapshot, view.apply)))
        await asyncio.to_thread(change, database, http_url)
    with sqlite3.connect(database) as db:
        table = dict(db.execute("SELECT id, version FROM orders"))
    while any(view.orders != table for view in views):
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.02)
    for view in views:
        print(view.snapshots)
    print("ok")


asyncio.run(asyncio.wait_for(main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])), 60))
