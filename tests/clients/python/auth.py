"""Authentication with tokens that PyJWT makes.

Usage: auth.py WS_URL SECRET
"""

import asyncio
import json
import sys
import time

import jwt
import websockets


def token(secret, **claims):
    now = int(time.time())
    claims = {"user_id": "ada", "permissions": ["workflow:read"], "iat": now, "exp": now + 60} | claims
    return jwt.encode(claims, secret, algorithm="HS256")


def auth(token):
    return json.dumps({"id": "a", "type": "request", "event": "auth", "data": {"token": token}})


async def accepted(url, secret):
    async with websockets.connect(url) as ws:
        await ws.send(auth(token(secret)))
        answer = json.loads(await ws.recv())
        assert answer["type"] == "response" and answer["event"] == "auth", answer
        assert answer["data"] == {"status": "authenticated", "user_id": "ada"}, answer
        assert json.loads(await ws.recv())["event"] == "session.created"
        for channel, kind in (("workflow:1", "response"), ("admin:1", "error")):
            await ws.send(json.dumps({"type": "request", "event": "subscribe", "data": {"channel": channel}}))
            answer = json.loads(await ws.recv())
            assert answer["type"] == kind, answer
        assert answer["error_code"] == "FORBIDDEN", answer


async def accepted_by_header(url, secret):
    headers = {"Authorization": f"Bearer {token(secret)}"}
    async with websockets.connect(url, additional_headers=headers) as ws:
        assert json.loads(await ws.recv())["data"]["authenticated"] is True


async def refused(url, bad):
    async with websockets.connect(url) as ws:
        await ws.send(auth(bad))
        answer = json.loads(await ws.recv())
        assert answer["error_code"] == "AUTH_FAILED" and "expired" in answer["error_message"], answer
        try:
            await ws.recv()
            raise AssertionError("the connection stays open")
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (1008, "Authentication failed"), closed


async def main(url, secret):
    await accepted(url, secret)
    await accepted_by_header(url, secret)
    now = int(time.time())
    for claims in ({"exp": now - 1}, {"exp": now}, {"nbf": now + 60}, {"iat": now + 60}, {"aud": "x"}):
        await refused(url, token(secret, **claims))
    await refused(url, token("another-secret-of-thirty-two-bytes!"))
    await refused(url, jwt.encode({"user_id": "eve", "permissions": ["admin"]}, None, algorithm="none"))


asyncio.run(main(*sys.argv[1:]))
print("ok")
