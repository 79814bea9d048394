"""What the operators' scripts check: deployment (health, metrics, a welcome within two seconds) and advanced health (a
ping whose first answer, within a second, is a pong, an event or a response).

Usage: operator_checks.py HTTP_URL WS_URL METRICS_URL
"""

import asyncio
import json
import sys
import time
import urllib.request

import websockets


def get(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
        assert response.status == 200, response.status
        return response.read().decode()


def health(url):
    health = json.loads(get(url + "/health"))
    assert health["status"] == "healthy", health
    assert all(state == "passing" for state in health["checks"].values()), health
    assert health["metrics"]["active_connections"] >= 0, health


def metrics(url):
    text = get(url)
    for name in ("websocket_connections_total", "websocket_connections_active", "websocket_messages_total"):
        assert name in text, name


async def first_message(url, send=None):
    async with websockets.connect(url) as ws:
        if send:
            await ws.send(json.dumps(send))
        return json.loads(await asyncio.wait_for(ws.recv(), 2))


async def main(http_url, ws_url, metrics_url):
    health(http_url)
    metrics(metrics_url)
    assert (await first_message(ws_url))["event"] == "session.created"
    first = await first_message(ws_url, {"type": "ping", "id": f"health_check_{int(time.time())}"})
    assert first["type"] in ("pong", "event", "response"), first


asyncio.run(main(*sys.argv[1:]))
print("ok")
