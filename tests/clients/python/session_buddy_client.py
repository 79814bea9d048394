"""Clients that do what Session-Buddy's own do: one that wants the figures of all skills, one that wants those of one skill, one
that asks for a sign of life, one that says things to which there is no answer.

With a token each of them sends it first, as Session-Buddy's server demands; one sends a wrong one.

Usage: session_buddy_client.py WS_URL [TOKEN]
"""

import asyncio
import json
import sys

import websockets

GREETING = "Connected to Session-Buddy real-time metrics"


async def connect(url, token):
    ws = await websockets.connect(url)
    if token:
        await ws.send(json.dumps({"token": token}))
    greeting = json.loads(await ws.recv())
    assert greeting["type"] == "connected" and greeting["message"] == GREETING, greeting
    assert greeting["authenticated"] is (token is not None), greeting
    assert set(greeting) == {"type", "message", "authenticated", "timestamp"}, greeting
    return ws


async def next_of(ws, kind):
    while True:
        message = json.loads(await ws.recv())
        if message["type"] == kind:
            return message


async def all_skills(url, token):
    ws = await connect(url, token)
    await ws.send(json.dumps({"type": "subscribe", "skill": None}))
    confirmed = await next_of(ws, "subscription_confirmed")
    assert confirmed["skill"] is None and "timestamp" in confirmed, confirmed
    for _ in range(2):
        data = (await next_of(ws, "metrics_update"))["data"]
        # As the service's example prints them.
        lines = [f"{s['skill_name']}: {s['total_invocations']} invocations, {s['completion_rate']:.1f}%" for s in data["top_skills"]]
        assert lines == ["pytest-run: 42 invocations, 92.5%", "ruff-check: 7 invocations, 100.0%"], lines
        lines = [f"{a['skill_name']}: {a['anomaly_type']} ({a['deviation_score']:.2f})" for a in data["anomalies"]]
        assert lines == ["ruff-check: spike (2.70)"], lines
    await ws.close()


async def one_skill(url, token):
    ws = await connect(url, token)
    await ws.send(json.dumps({"type": "subscribe", "skill": "ruff-check"}))
    assert (await next_of(ws, "subscription_confirmed"))["skill"] == "ruff-check"
    data = (await next_of(ws, "metrics_update"))["data"]
    assert [s["avg_duration_seconds"] for s in data["top_skills"]] == [2.0] and data["anomalies"] == [], data
    # As the document on the service's API has it.
    await ws.send(json.dumps({"type": "subscribe", "skill_name": "nobody-knows"}))
    assert (await next_of(ws, "subscription_confirmed"))["skill"] == "nobody-knows"
    try:
        message = await asyncio.wait_for(ws.recv(), 2.5)
        raise AssertionError(message)
    except asyncio.TimeoutError:
        pass
    await ws.send(json.dumps({"type": "unsubscribe"}))
    assert len((await next_of(ws, "metrics_update"))["data"]["top_skills"]) == 2
    await ws.close()


async def sign_of_life(url, token):
    ws = await connect(url, token)
    await ws.send(json.dumps({"type": "ping"}))
    assert await next_of(ws, "pong") == {"type": "pong"}
    await (await ws.ping(b"buddy"))
    await next_of(ws, "metrics_update")
    await ws.close()


async def silence(url, token):
    ws = await connect(url, token)
    for said in ("no JSON", "[]", "{}", '{"type": "get_metrics", "skill_name": "pytest-run"}', '{"type": "subscribe", "skill": 5}'):
        await ws.send(said)
    await ws.send(json.dumps({"type": "ping"}).encode())
    assert await next_of(ws, "pong") == {"type": "pong"}
    await next_of(ws, "metrics_update")
    await ws.close()


async def wrong_token(url):
    async with websockets.connect(url) as ws:
        await ws.send(json.dumps({"token": "wrong"}))
        try:
            raise AssertionError(await ws.recv())
        except websockets.exceptions.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "Authentication failed"), closed


async def main(url, token=None):
    for client in (all_skills, one_skill, sign_of_life, silence):
        await client(url, token)
    if token:
        await wrong_token(url)


asyncio.run(main(*sys.argv[1:]))
print("ok")
