"""The chat on wse: rooms are its topics. Its own presence knows users of tokens only, so the names are kept here."""

import json
import sys

from wse_server import RustWSEServer

server = RustWSEServer("127.0.0.1", int(sys.argv[2]), max_connections=100_000)
members = {}
rooms = {}


def tell(room, news):
    server.broadcast(room, json.dumps(news, separators=(",", ":")))


def take(connection, wish):
    if "join" in wish:
        room, name = wish["join"]["room"], wish["join"]["name"]
        members[connection] = (room, name)
        rooms.setdefault(room, set()).add(name)
        server.subscribe_connection(connection, [room])
        tell(room, {"joined": name})
    elif connection in members:
        room, name = members[connection]
        if "say" in wish:
            tell(room, {"said": {"name": name, "text": wish["say"]}})
        elif "who" in wish:
            server.send(connection, json.dumps({"members": sorted(rooms[room])}, separators=(",", ":")))


def leave(connection):
    if connection in members:
        room, name = members.pop(connection)
        rooms[room].discard(name)
        if not rooms[room]:
            del rooms[room]
        tell(room, {"left": name})


server.enable_drain_mode()
server.start()
# It says for a moment after its start that it does not run.
while True:
    for kind, connection, payload in server.drain_inbound(256, 50):
        if kind == "msg":
            take(connection, payload)
        elif kind == "disconnect":
            leave(connection)
