#!/usr/bin/env python3
"""Verifies a deployment of Mahavishnu where its program is not at hand: Python 3.8 or later, and nothing else.

    scripts/verify_deployment.py --host ws.example.com --port 443 --tls --metrics-port 9090

`mahavishnu verify` looks at more, and on the server's machine from within, too. Every check counts: the exit code is 0 if
none failed, 1 if one did, 2 for wrong usage. Nothing is published.
"""

import argparse
import base64
import datetime
import hashlib
import http.client
import json
import os
import socket
import ssl
import stat
import struct
import sys
import time

FAMILIES = (
    "websocket_connections_total",
    "websocket_connections_active",
    "websocket_messages_total",
)
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
DAYS_MIN = 30
CLOCK_WARN, CLOCK_FAIL = 2, 5  # seconds; the server allows tokens 5 by default
BODY_BYTES_MAX = 16 << 20


class Problem(Exception):
    """Why a check failed, and what to do about it."""

    def __init__(self, found, remedy=""):
        super().__init__(found)
        self.found, self.remedy = found, remedy


class Doubt(Problem):
    """It works, and will not for long or not for all."""


class Skipped(Exception):
    """There is nothing to look at."""


def context(args):
    """TLS as clients have it: the chain and the name are verified."""
    return ssl.create_default_context(cafile=args.ca_file or os.environ.get("SSL_CERT_FILE"))


def connect(args):
    """A socket to the server, with TLS if that is wanted."""
    plain = socket.create_connection((args.host, args.port), args.timeout)
    if not args.tls:
        return plain
    try:
        return context(args).wrap_socket(plain, server_hostname=args.host)
    except BaseException:
        plain.close()
        raise


def get(host, port, path, args, tls):
    """Status, headers and body."""
    if tls:
        connection = http.client.HTTPSConnection(host, port, timeout=args.timeout, context=context(args))
    else:
        connection = http.client.HTTPConnection(host, port, timeout=args.timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.headers, response.read(BODY_BYTES_MAX).decode("utf-8", "replace")
    finally:
        connection.close()


def object_of(text):
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def advice(status):
    if status in (301, 302, 307, 308):
        return "it redirects: give the port and --tls of where it leads"
    if status in (502, 503, 504):
        return "a proxy does not reach the server: is it up, and is the upstream its address?"
    if status == 421:
        return "MAHAVISHNU_ALLOWED_HOSTS has to have this name"
    return "a proxy in between has to pass it on"


def health(args):
    status, headers, body = get(args.host, args.port, "/health", args, args.tls)
    answer = object_of(body)
    if status != 200:
        raise Problem("HTTP %d" % status, advice(status))
    if "checks" not in answer:
        raise Problem("answers, but not as a Mahavishnu server does", advice(status))
    failing, degraded = (
        [name for name, is_ in answer["checks"].items() if is_ == word] for word in ("failing", "degraded")
    )
    if answer.get("status") != "healthy":
        raise Problem("it says %r" % answer.get("status"), "it is being stopped")
    if failing:
        raise Problem("failing: " + ", ".join(failing), 'docs/operations.md, "Trouble"')
    if degraded:
        raise Doubt("degraded: " + ", ".join(degraded), 'docs/operations.md, "Trouble"')
    return "healthy, %s connections" % answer.get("metrics", {}).get("active_connections")


def ready(args):
    status, _, body = get(args.host, args.port, "/ready", args, args.tls)
    answer = object_of(body)
    if status == 200:
        return "takes new clients"
    failing = [name for name, word in answer.get("checks", {}).items() if word == "failing"]
    raise Problem("HTTP %d: %s" % (status, ", ".join(failing) or "not ready"), "capacity, certificate or Redis")


def metrics(args):
    host = args.metrics_host or args.host
    status, _, body = get(host, args.metrics_port, "/metrics", args, False)
    if status != 200:
        raise Problem("HTTP %d" % status, "is %s:%d the metrics port?" % (host, args.metrics_port))
    missing = [family for family in FAMILIES if "# TYPE %s " % family not in body]
    if missing:
        raise Problem("without " + ", ".join(missing), "is it the metrics port of a Mahavishnu server?")
    return "%d families" % body.count("# TYPE ")


def websocket(args):
    """A handshake, a welcome or, where a token is needed, that it is."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = "GET / HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n" % (args.host, args.port, key)
    if args.token:
        head += "Authorization: Bearer %s\r\n" % args.token
    with connect(args) as sock:
        sock.settimeout(args.timeout)
        sock.sendall((head + "\r\n").encode())
        stream = sock.makefile("rb")
        first = stream.readline(1 << 16).decode("latin-1").split(" ", 2)
        fields = {}
        for line in iter(lambda: stream.readline(1 << 16).decode("latin-1").strip(), ""):
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        status = int(first[1]) if len(first) > 1 and first[1].isdigit() else 0
        if status == 401:
            raise Problem("HTTP 401: the token is refused", "`mahavishnu token inspect` says why")
        if status != 101:
            raise Problem(
                "the upgrade was answered with HTTP %d" % status,
                'nginx: proxy_http_version 1.1, and the headers Upgrade $http_upgrade and Connection "upgrade"',
            )
        expected = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        if fields.get("sec-websocket-accept") != expected:
            raise Problem("the handshake was answered by somebody who does not speak WebSocket")
        return greeting(sock, stream, args)


def greeting(sock, stream, args):
    """What the server says first; asked for something if it waits for a token."""
    ask = {"type": "request", "event": "subscribe", "id": "verify", "data": {"channel": "workflow:verify"}}
    payload, mask = json.dumps(ask).encode(), os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    assert len(payload) < 126
    sock.sendall(struct.pack("!BB", 0x81, 0x80 | len(payload)) + mask + masked)
    while True:
        kind, text = frame(stream)
        if kind == 8:
            raise Problem("closed at once: %s" % text[2:].decode("utf-8", "replace"))
        if kind != 1:
            continue
        message = object_of(text.decode("utf-8", "replace"))
        if message.get("error_code") == "AUTH_REQUIRED":
            return "clients need a token" + ("" if args.token else " (give one by --token)")
        if message.get("event") == "session.created":
            return "welcomed by %s" % message.get("data", {}).get("server")
        if message.get("error_code"):
            raise Problem(message["error_code"])


def frame(stream):
    """Opcode and payload of the next frame. Servers do not mask."""
    first, length = read(stream, 2)
    if length == 126:
        (length,) = struct.unpack("!H", read(stream, 2))
    elif length == 127:
        (length,) = struct.unpack("!Q", read(stream, 8))
    if length > BODY_BYTES_MAX:
        raise Problem("a frame of %d bytes" % length)
    return first & 15, read(stream, length)


def read(stream, count):
    data = stream.read(count)
    if len(data) < count:
        raise Problem("the connection ended", "is there a proxy that closes it?")
    return data


def tls(args):
    if not args.tls:
        raise Skipped("without --tls")
    with connect(args) as sock:
        version, end = sock.version(), sock.getpeercert()["notAfter"]
    days = int((ssl.cert_time_to_seconds(end) - time.time()) // 86400)
    found = "%s, trusted and for %s, %d days left" % (version, args.host, days)
    if version not in ("TLSv1.2", "TLSv1.3"):
        raise Problem(found, "allow TLS 1.2 and 1.3 alone")
    if days < DAYS_MIN:
        raise Doubt(found, "renew the certificate, then reload whoever serves it")
    return found


def clock(args):
    before = time.time()
    _, headers, body = get(args.host, args.port, "/health", args, args.tls)
    after = time.time()
    text = object_of(body).get("timestamp")
    if not text:
        raise Skipped("the server does not tell its time")
    there = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    # Its time has whole seconds.
    apart = max(there - after, before - (there + 1), 0)
    if apart < CLOCK_WARN:
        return "agrees with this machine's"
    found = "%.0f s from this machine's" % apart
    raise (Doubt if apart < CLOCK_FAIL else Problem)(found, "set both by NTP (timedatectl set-ntp true)")


def environment(args):
    if args.skip_env:
        raise Skipped("--skip-env")
    names = ("MAHAVISHNU_TLS_ENABLED", "MAHAVISHNU_AUTH_ENABLED", "MAHAVISHNU_JWT_SECRET")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        remedy = "source the env file first, or --skip-env; `mahavishnu config check --env-file FILE` reads it itself"
        raise Doubt("not set: " + ", ".join(missing), remedy)
    return "set: " + ", ".join(names)


def files(args):
    paths = [(name, os.environ.get(name)) for name in ("MAHAVISHNU_CERT_FILE", "MAHAVISHNU_KEY_FILE")]
    if args.skip_env or not any(path for _, path in paths):
        raise Skipped("MAHAVISHNU_CERT_FILE is not set here")
    for name, path in paths:
        if path and not os.path.exists(path):
            raise Problem("%s: %s is not there" % (name, path))
    key = dict(paths)["MAHAVISHNU_KEY_FILE"]
    if key:
        mode = stat.S_IMODE(os.stat(key).st_mode)
        if mode & 0o004:
            raise Problem("%s (mode %o): every user can read it" % (key, mode), "chmod o-rwx " + key)
    return "there, and the key is nobody else's to read"


CHECKS = (health, ready, metrics, websocket, tls, clock, environment, files)


def run(check, args):
    try:
        return "ok", check(args), ""
    except Skipped as skipped:
        return "skipped", str(skipped), ""
    except Doubt as doubt:
        return "warn", doubt.found, doubt.remedy
    except Problem as problem:
        return "fail", problem.found, problem.remedy
    except ssl.SSLCertVerificationError as error:
        return "fail", "the certificate is refused: %s" % error.verify_message, "--ca-file names its authority"
    except socket.timeout:
        return "fail", "no answer within %g s" % args.timeout, "is a firewall between?"
    except (OSError, http.client.HTTPException) as error:
        return "fail", str(error) or type(error).__name__, "is it up, and are host, port and --tls right?"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8686)
    parser.add_argument("--metrics-host", help="where metrics are, if elsewhere")
    parser.add_argument("--metrics-port", type=int, default=9090)
    parser.add_argument("--tls", action="store_true", help="https and wss, verified")
    parser.add_argument("--ca-file", help="certificates that are trusted [default: SSL_CERT_FILE, else the system's]")
    parser.add_argument("--token", default=os.environ.get("MAHAVISHNU_TOKEN"), help="[default: MAHAVISHNU_TOKEN]")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds that each answer may take")
    parser.add_argument("--skip-env", action="store_true", help="leave the variables of this shell alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    results = []
    for check in CHECKS:
        outcome, found, remedy = run(check, args)
        results.append({"check": check.__name__, "outcome": outcome, "found": found, "remedy": remedy or None})
        if not args.json:
            print("%-8s %-12s %s" % (outcome, check.__name__, found))
            if remedy:
                print(" " * 21 + " -> " + remedy)
    failed = sum(result["outcome"] == "fail" for result in results)
    if args.json:
        print(json.dumps({"status": "failed" if failed else "ok", "checks": results}))
    else:
        print("%d of %d failed" % (failed, len(results)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
