"""The family's two public checks, written anew from what they ask of a server, for all services of a fleet.

Usage: fleet_tools.py health|deployment NAME=WS_PORT:METRICS_PORT... [--token NAME=TOKEN...]

`health` is check_websocket_health --advanced: a TCP connection over IPv4, and then a WebSocket one on which a ping is the
first message; within a second something has to come that is a pong, an event or a response. `deployment` is
verify_deployment: health on the WebSocket port, metrics, and a welcome within two seconds, or none where a token is wanted.
Exit code 0 if all is well, 1 if something is not, 2 if nothing is. Prints a JSON object.
"""

import asyncio
import json
import socket
import sys
import time
import urllib.request

import websockets

HOST = "127.0.0.1"
NAMES = ["websocket_connections_total", "websocket_connections_active", "websocket_messages_total"]


async def health(port):
    with socket.create_connection((HOST, port), timeout=5):
        pass
    began = time.monotonic()
    async with websockets.connect(f"ws://{HOST}:{port}") as ws:
        await ws.send(json.dumps({"type": "ping", "id": f"health_check_{int(time.time())}"}))
        answer = json.loads(await asyncio.wait_for(ws.recv(), 1.0))
    if answer.get("type") not in ("pong", "event", "response", "connected"):
        raise RuntimeError(f"unexpected response type: {answer.get('type')}")
    return {"answer": answer["type"], "seconds": time.monotonic() - began}


def get(url):
    with urllib.request.urlopen(url, timeout=5) as response:
        if response.status != 200:
            raise RuntimeError(f"{url}: {response.status}")
        return response.read().decode()


async def deployment(port, metrics_port, token):
    body = json.loads(get(f"http://{HOST}:{port}/health"))
    if not all(state == "passing" for state in body["checks"].values()):
        raise RuntimeError(f"checks: {body['checks']}")
    if not isinstance(body["metrics"]["active_connections"], int):
        raise RuntimeError(f"metrics: {body['metrics']}")
    text = get(f"http://{HOST}:{metrics_port}/metrics")
    missing = [name for name in NAMES if name not in text]
    if missing:
        raise RuntimeError(f"metrics without {missing}")
    async with websockets.connect(f"ws://{HOST}:{port}") as ws:
        if token:
            message = {"type": "request", "event": "auth", "data": {"token": token}}
            await ws.send(json.dumps(message))
            answer = json.loads(await asyncio.wait_for(ws.recv(), 2.0))
            if answer["data"].get("status") != "authenticated":
                raise RuntimeError(f"auth: {answer}")
        welcome = json.loads(await asyncio.wait_for(ws.recv(), 2.0))
    return {"server": body["server"], "welcome": welcome.get("event") or welcome.get("type")}


async def main(what, rest):
    at = rest.index("--token") if "--token" in rest else len(rest)
    tokens = dict(pair.split("=", 1) for pair in rest[at + 1 :])
    report = {}
    for pair in rest[:at]:
        name, ports = pair.split("=")
        port, metrics_port = map(int, ports.split(":"))
        try:
            if what == "health":
                found = await health(port)
            else:
                found = await deployment(port, metrics_port, tokens.get(name))
            report[name] = {"healthy": True, **found}
        except Exception as error:
            report[name] = {"healthy": False, "error": repr(error)}
    print(json.dumps(report))
    well = [one["healthy"] for one in report.values()]
    sys.exit(0 if all(well) else 1 if any(well) else 2)


asyncio.run(main(sys.argv[1], sys.argv[2:]))
