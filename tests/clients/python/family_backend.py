"""A back-end in Python answers what clients of the family ask, by the class `Backend` of clients/python/mahavishnu_events.py.

Usage: family_backend.py WS_URL OTHER_WS_URL [TOKEN]

The back-end is at the first URL, the clients at the other one. Prints "ok".
"""

import asyncio
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "clients/python"))
from mahavishnu_events import Backend
from services_client import Client

SECRET = "what the program keeps to itself"


async def ask(client, event, data):
    return await client.send_request(event, data)


async def main(url, other_url, token=None):
    backend = Backend(url, token=token)
    asked = []

    @backend.answers("get_weather")
    def weather(data, user):
        asked.append((data, user))
        return {"city": data["city"], "celsius": 21.5}

    @backend.answers("get_trouble")
    def trouble(data, user):
        raise RuntimeError(SECRET)

    thread = threading.Thread(target=backend.run)
    thread.start()
    try:
        assert await asyncio.to_thread(backend.ready.wait, 10), "the back-end does not listen"
        client = Client(other_url, token)
        await client.connect()
        # Another node learns in its own time that somebody listens.
        for _ in range(200):
            answer = await ask(client, "get_weather", {"city": "Zürich"})
            if answer["type"] == "response":
                break
            await asyncio.sleep(0.05)
        assert answer["data"] == {"city": "Zürich", "celsius": 21.5}, answer
        assert asked[-1] == ({"city": "Zürich"}, "ada" if token else None), asked

        answers = await asyncio.gather(*(ask(client, "get_weather", {"city": str(n)}) for n in range(20)))
        assert [answer["data"]["city"] for answer in answers] == [str(n) for n in range(20)], answers

        answer = await ask(client, "get_trouble", {})
        assert (answer["type"], answer["error_code"]) == ("error", "SERVER_ERROR"), answer
        assert SECRET not in str(answer), answer
        await client.disconnect()
    finally:
        backend.stop()
        thread.join(10)
    assert not thread.is_alive(), "stop() ends it"


asyncio.run(main(*sys.argv[1:]))
print("ok")
