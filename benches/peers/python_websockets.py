"""Python's websockets with its broadcast(), on uvloop.

    python benches/peers/python_websockets.py --port PORT [--echo]
"""

import argparse
import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--echo", action="store_true")
    options = parser.parse_args()
    subscribers: set[ServerConnection] = set()

    async def connection(ws: ServerConnection) -> None:
        path = "/echo" if options.echo else ws.request.path
        try:
            if path == "/echo":
                async for message in ws:
                    await ws.send(message)
            elif path == "/pub":
                async for message in ws:
                    broadcast(subscribers, message)
            elif path == "/sub":
                subscribers.add(ws)
                await ws.wait_closed()
            else:
                await ws.wait_closed()
        except ConnectionClosed:
            pass
        finally:
            subscribers.discard(ws)

    server = serve(
        connection,
        "127.0.0.1",
        options.port,
        backlog=4096,
        compression=None,
        ping_interval=None,
        max_size=64 << 20,
    )
    async with server as running:
        await running.serve_forever()


uvloop.run(main())
