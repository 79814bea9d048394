"""What each service of the family answers to its clients, before and after the events that its back-ends publish.

The client is the family's own (services_client.py), the back-end the module that back-ends import
(clients/python/mahavishnu_events.py).

Usage: family_dialogues.py SPEC

SPEC is a JSON list of objects: `service`, `publish` (an HTTP URL) and `ask` (a WebSocket URL), which may be of another node;
`publish_token` and `token` if there is authentication; `steps` is "all", "tell" for the events only, or "last" for the last
answer to each request only. Prints "ok".
"""

import asyncio
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "clients/python"))
import mahavishnu_events
from services_client import Client

WITHIN_SECONDS = 20
TIME = "a time"


def asks(request, data, answer):
    return ("asks", request, data, answer)


def tells(broadcast, *arguments, **more):
    return ("tells", broadcast, arguments, more)


def unknown_gate(project):
    absent = ("fast_hooks", "tests", "comprehensive", "repository", "profile", "source", "generated_at", "blocking_failure")
    empty = ("gates", "errors", "checks", "warnings", "required_check_failures")
    return {
        "project": project,
        "status": "unknown",
        "coverage": None,
        "metadata": {},
        "passed": None,
        "all_passed": None,
        **dict.fromkeys(absent),
        **{name: [] for name in empty},
    }


GATE = {"gate_name": "ruff", "status": "passed", "score": 98.5, "threshold": 90, "timestamp": TIME}
CHECK = {"name": "ruff", "passed": True, "severity": "low", "score": 98.5, "threshold": 90}
COVERAGE = {"line_coverage": 91.5, "branch_coverage": 84, "path_coverage": 70, "timestamp": TIME}
PATTERN = {"pattern_id": "p1", "pattern_type": "retry", "description": "ü", "confidence": 0.75, "extra": 1, "timestamp": TIME}
ANOMALY = {"anomaly_id": "a1", "anomaly_type": "latency", "severity": "high", "description": "slow", "metrics": {"p99": 3}, "timestamp": TIME}
CURSOR = {"user_id": "ada", "position": {"x": 1, "y": 2.5}, "timestamp": TIME}
USER = {"user_id": "ada", "user_info": {"name": "Ada"}, "joined_at": TIME}
DIAGRAM = {"diagram_id": "d1", "title": "Plan", "created_at": TIME, "updated_at": TIME}

DIALOGUES = {
    "mahavishnu": [
        asks("get_workflow_status", {"workflow_id": "42"}, {"workflow_id": "42", "status": "not_found"}),
        tells("workflow_started", "42", {"total_stages": 2}),
        asks(
            "get_workflow_status",
            {"workflow_id": "42"},
            {"workflow_id": "42", "status": "running", "stages_completed": 0, "total_stages": 2},
        ),
        tells("workflow_stage_completed", "42", "parse", {"files": 3}),
        tells("workflow_stage_completed", "42", "parse", {"files": 3}),
        tells("workflow_stage_completed", "42", "build", {}),
        asks(
            "get_workflow_status",
            {"workflow_id": "42"},
            {"workflow_id": "42", "status": "running", "stages_completed": 2, "total_stages": 2},
        ),
        tells("workflow_completed", "42", {"ok": True}),
        asks(
            "get_workflow_status",
            {"workflow_id": "42"},
            {"workflow_id": "42", "status": "completed", "stages_completed": 2, "total_stages": 2},
        ),
        asks("get_workflow_status", {"workflow_id": "43"}, {"workflow_id": "43", "status": "not_found"}),
        asks("get_pool_status", {"pool_id": "7"}, {"pool_id": "7", "status": "not_found"}),
        tells("pool_spawned", "7", {"min": 1}),
        tells("worker_added", "7", "w1"),
        tells("pool_status_changed", "7", {"state": "active"}),
        asks(
            "get_pool_status",
            {"pool_id": "7"},
            {"pool_id": "7", "status": "active", "workers": [{"worker_id": "w1", "added_at": TIME}]},
        ),
    ],
    "crackerjack": [
        asks("get_test_status", {"run_id": "r1"}, {"run_id": "r1", "status": "unknown"}),
        tells("test_started", "r1", "unit", 90),
        tells("test_failed", "r1", "test_a", "assert 1 == 2", "…"),
        asks(
            "get_test_status",
            {"run_id": "r1"},
            {"run_id": "r1", "status": "running", "tests_completed": None, "tests_total": 90, "failures": 1},
        ),
        tells("test_completed", "r1", 90, 2, 12.5),
        asks(
            "get_test_status",
            {"run_id": "r1"},
            {"run_id": "r1", "status": "completed", "tests_completed": 90, "tests_total": 90, "failures": 2},
        ),
        asks("get_quality_gate", {"project": "p"}, unknown_gate("p")),
        tells("quality_gate_checked", "p", "ruff", "passed", 98.5, 90, severity="low"),
        tells("coverage_updated", "p", 91.5, 84, 70),
        asks(
            "get_quality_gate",
            {"project": "p"},
            {
                **unknown_gate("p"),
                "status": "passed",
                "passed": True,
                "all_passed": True,
                "gates": [GATE],
                "checks": [CHECK],
                "coverage": COVERAGE,
            },
        ),
    ],
    "akosha": [
        asks("get_patterns", {"category": "retry"}, {"category": "retry", "patterns": [], "count": 0}),
        asks("get_patterns", {}, {"category": "all", "patterns": [], "count": 0}),
        asks("get_anomalies", {}, {"anomalies": [], "count": 0}),
        tells("pattern_detected", "p1", "retry", "ü", 0.75, extra=1),
        tells("anomaly_detected", "a1", "latency", "high", "slow", {"p99": 3}),
        asks("get_patterns", {"category": "retry"}, {"category": "retry", "patterns": [PATTERN], "count": 1}),
        asks("get_patterns", {}, {"category": "all", "patterns": [PATTERN], "count": 1}),
        asks("get_anomalies", {}, {"anomalies": [ANOMALY], "count": 1}),
        asks("get_patterns", {"category": "other"}, {"category": "other", "patterns": [], "count": 0}),
    ],
    "excalidraw": [
        asks("get_diagram_status", {"diagram_id": "d1"}, {"diagram_id": "d1", "status": "not_found"}),
        tells("diagram_created", "d1", title="Draft"),
        tells("diagram_updated", "d1", title="Plan"),
        tells("user_joined", "d1", "ada", {"name": "Ada"}),
        tells("user_joined", "d1", "bob"),
        tells("cursor_moved", "d1", "bob", {"x": 0, "y": 0}),
        tells("cursor_moved", "d1", "ada", {"x": 1, "y": 2.5}),
        tells("user_left", "d1", "bob"),
        asks(
            "get_diagram_status",
            {"diagram_id": "d1"},
            {"diagram_id": "d1", "status": "found", "diagram": {**DIAGRAM, "cursors": [CURSOR], "users": [USER]}},
        ),
    ],
    "fastblocks": [
        asks("get_component_status", {"component_id": "c1"}, {"component_id": "c1", "status": "unknown"}),
        tells("component_rendered", "c1", html="<p>"),
        tells("ui_updated", "c1"),
        asks("get_component_status", {"component_id": "c1"}, {"component_id": "c1", "status": "active", "timestamp": TIME}),
        asks("get_state", {"state_path": "a.b"}, {"state_path": "a.b", "status": "unknown"}),
        tells("state_changed", "a.b", [1, None]),
        asks("get_state", {"state_path": "a.b"}, {"state_path": "a.b", "value": [1, None], "timestamp": TIME}),
    ],
    "dhruva": [
        asks("get_adapter_status", {"adapter_id": "s3"}, {"adapter_id": "s3", "status": "not_found"}),
        tells("adapter_stored", "s3", version=1),
        tells("adapter_updated", "s3", version=2),
        asks(
            "get_adapter_status",
            {"adapter_id": "s3"},
            {
                "adapter_id": "s3",
                "status": "found",
                "adapter": {"adapter_id": "s3", "version": 2, "stored_at": TIME, "updated_at": TIME},
            },
        ),
    ],
}


def without_times(value):
    """Times are whatever they are, but they are there."""
    if isinstance(value, list):
        return [without_times(one) for one in value]
    if not isinstance(value, dict):
        return value
    is_time = lambda name, one: isinstance(one, str) and (name == "timestamp" or name.endswith("_at"))
    return {name: TIME if is_time(name, one) else without_times(one) for name, one in value.items()}


def last_answers(steps):
    """The last answer to each question."""
    last = {}
    for step in steps:
        if step[0] == "asks":
            last[step[1], json.dumps(step[2])] = step
    return last.values()


async def expect(client, service, request, data, answer):
    """The answer, as soon as another node knows of what was published."""
    until = time.monotonic() + WITHIN_SECONDS
    while True:
        told = await client.send_request(request, data)
        heard = without_times(told["data"])
        if heard == answer:
            # The nine members, and the order of their own that the services' servers dump.
            assert list(told)[:5] == ["id", "correlation_id", "type", "event", "data"], told
            assert (told["type"], told["event"], told["error_code"]) == ("response", request, None), told
            return
        if time.monotonic() > until:
            raise AssertionError(f"{service}: {request} {data}\n  heard    {told}\n  expected {answer}")
        await asyncio.sleep(0.05)


async def run(spec):
    service = spec["service"]
    kind = next(kind for kind in mahavishnu_events.Service.__subclasses__() if kind.__name__.lower() == service)
    publisher = kind(spec["publish"], token=spec.get("publish_token"))
    client = Client(spec["ask"], spec.get("token"))
    welcomes = client.on("session.created")
    await client.connect()
    welcome = await asyncio.wait_for(welcomes.get(), 10)
    assert welcome["server"] == service, welcome
    assert welcome["authenticated"] is bool(spec.get("token")), welcome
    steps = DIALOGUES[service]
    for kind, what, *rest in last_answers(steps) if spec["steps"] == "last" else steps:
        if kind == "tells":
            arguments, more = rest
            await asyncio.to_thread(getattr(publisher, f"broadcast_{what}"), *arguments, **more)
        elif spec["steps"] != "tell":
            await expect(client, service, what, *rest)
    await client.disconnect()


async def main(specs):
    for spec in specs:
        await run(spec)


asyncio.run(main(json.loads(sys.argv[1])))
print("ok")
