#!/usr/bin/env python3
"""Kills a server under load again and again: nothing that it answered may be missing, doubled or another.

  kill.py [--bin PATH] [--kills N] [--fsync POLICY]...     default: 20 kills under each policy
  kill.py --rate [--seconds N]                             publishes a second with one and with 64 in flight

Publishers post over kept HTTP connections, each to a channel of its own and to one that all share. When the server has
been killed (SIGKILL) it is started again with the same file, and what it then has is compared with what it answered:
each message that was answered is there once, under the epoch of before, and offsets have no holes. Needs Python alone.
"""
import argparse, collections, http.client, json, os, random, shutil, signal, socket, subprocess, sys, tempfile, threading, time

POLICIES = ["always", "everysec", "no"]


class Server:
    def __init__(self, binary, fsync, file=True):
        self.binary, self.dir = binary, tempfile.mkdtemp(prefix="mahavishnu-history-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.env = {
            "PATH": os.environ["PATH"], "MAHAVISHNU_PORT": str(self.port), "MAHAVISHNU_STATE_DIR": self.dir,
            "MAHAVISHNU_METRICS_ENABLED": "false", "MAHAVISHNU_SHARDS": "2", "MAHAVISHNU_HISTORY": "1000000/86400",
            "MAHAVISHNU_HISTORY_CHANNEL_BYTES": "1073741824", "MAHAVISHNU_HISTORY_BYTES": "1073741824",
        }
        if file:
            self.env |= {"MAHAVISHNU_HISTORY_FILE": self.dir + "/history.db", "MAHAVISHNU_HISTORY_FSYNC": fsync}

    def start(self):
        self.log = open(self.dir + "/log", "ab")
        self.process = subprocess.Popen([self.binary, "websocket", "start"], env=self.env, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                return self.get("/health")
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.02)
        sys.exit("it does not start:\n" + open(self.dir + "/log").read()[-2000:])

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def get(self, path):
        connection = self.connect()
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())

    def history(self, channel):
        """Epoch and all events of a channel."""
        answer = self.get(f"/history?channel={channel}&limit=1000")
        events = answer["events"]
        while answer["more"] and events:
            answer = self.get(f"/history?channel={channel}&limit=1000&before={events[0]['offset']}")
            events = answer["events"] + events
        return answer["epoch"], events


def publish(server, name, answered, stop):
    """Posts until the server is gone. What it said is noted before the next one."""
    try:
        connection, n = server.connect(), 0
        while not stop.is_set():
            for channel in (name, "shared"):
                n += 1
                mark = f"{name}.{time.monotonic_ns()}.{n}"
                body = json.dumps({"channel": channel, "event": "e", "data": {"mark": mark, "fill": "x" * random.randrange(1500)}})
                connection.request("POST", "/publish", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    answered.append((channel, mark))
    except (OSError, http.client.HTTPException):
        pass


def kill(binary, fsync, kills):
    server = Server(binary, fsync)
    everything, epochs = collections.defaultdict(list), {}
    for _ in range(kills):
        server.start()
        answered, stop = [[] for _ in range(8)], threading.Event()
        threads = [threading.Thread(target=publish, args=(server, f"c{n}", answered[n], stop)) for n in range(8)]
        [thread.start() for thread in threads]
        time.sleep(random.uniform(0.1, 0.6))
        server.end(signal.SIGKILL)
        stop.set()
        [thread.join() for thread in threads]
        for channel, mark in sum(answered, []):
            everything[channel].append(mark)
        server.start()
        for channel, marks in everything.items():
            epoch, events = server.history(channel)
            there = collections.Counter(event["data"]["mark"] for event in events)
            assert epochs.setdefault(channel, epoch) == epoch, f"{channel}: another epoch"
            assert [event["offset"] for event in events] == list(range(1, len(events) + 1)), f"{channel}: a hole"
            missing = [mark for mark in marks if there[mark] != 1]
            assert not missing, f"{fsync}: {len(missing)} of {len(marks)} in {channel} are missing or doubled: {missing[:3]}"
        server.end(signal.SIGTERM if random.random() < 0.3 else signal.SIGKILL)
    total = sum(map(len, everything.values()))
    print(f"{fsync}: killed {kills} times; {total} messages were answered, none is missing or doubled")
    shutil.rmtree(server.dir)


def rate(binary, seconds):
    print(f"{'policy':<10} {'W1/s':>8} {'p50 ms':>8} {'W64/s':>8} {'p50 ms':>8}   (messages of 256 bytes over HTTP, one channel)")
    for fsync in ["no file"] + POLICIES:
        cells = []
        for width in (1, 64):
            server = Server(binary, fsync, fsync != "no file")
            server.env["MAHAVISHNU_HISTORY"] = "100/300"
            server.start()
            cells += measure(server.port, width, seconds)
            server.end(signal.SIGTERM)
            shutil.rmtree(server.dir)
        print(f"{fsync:<10} {cells[0]:>8.0f} {cells[1]:>8.2f} {cells[2]:>8.0f} {cells[3]:>8.2f}")


def measure(port, width, seconds):
    """Requests over `width` connections, each with one in flight, by one loop."""
    import selectors
    body = json.dumps({"channel": "c", "event": "e", "data": {"x": "x" * 256}}).encode()
    head = f"POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request, poll, took = head.encode() + body, selectors.DefaultSelector(), []
    for _ in range(width):
        one = socket.create_connection(("127.0.0.1", port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.sendall(request)
        poll.register(one, selectors.EVENT_READ, [time.perf_counter()])
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for key, _ in poll.select(1):
            assert key.fileobj.recv(65536).startswith(b"HTTP/1.1 200"), "refused"
            now = time.perf_counter()
            took.append(now - key.data[0])
            key.data[0] = now
            key.fileobj.sendall(request)
    spent = time.perf_counter() - began
    return [len(took) / spent, sorted(took)[len(took) // 2] * 1000]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bin", default=os.environ.get("MAHAVISHNU_BIN", "target/release/mahavishnu"))
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--fsync", action="append", choices=POLICIES)
    options.add_argument("--rate", action="store_true")
    options.add_argument("--seconds", type=float, default=5)
    said = options.parse_args()
    if said.rate:
        return rate(said.bin, said.seconds)
    for fsync in said.fsync or POLICIES:
        kill(said.bin, fsync, said.kills)


main()
