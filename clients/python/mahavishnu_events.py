"""Publishing in the family's way, for back-ends in Python: one file, standard library only. Needs Python 3.9.

    from mahavishnu_events import Crackerjack

    events = Crackerjack("http://127.0.0.1:8686", token=TOKEN)
    events.broadcast_test_started("run-7", "unit", 90)
    events.broadcast_test_completed("run-7", 90, 0, 12.5)

Each service has a class, and each of its broadcasts a method with the name and the arguments that the services' own servers
have; data and rooms are what its profile says (`mahavishnu service show crackerjack`). A method returns how many subscribers
got it, and raises `NotPublished`. A publish that may or may not have been made (a time-out) is repeated with the same
idempotency key, so that it is made once. `Asynchronous(events)` has the same methods as coroutines.

`Backend` answers clients' requests: docs/services.md. `WebSocketMetrics` counts for a program that serves WebSockets itself.
"""

import asyncio
import base64
import functools
import hashlib
import http.server
import json
import os
import socket
import ssl
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from datetime import datetime, timezone


class NotPublished(Exception):
    """Why an event was not published. `code` is the server's error_code, None if there was no answer; `status` that of HTTP."""

    def __init__(self, message, code=None, status=None):
        super().__init__(message)
        self.code = code
        self.status = status


class Publisher:
    """Publishes to a server by `POST /publish`. May be used by several threads.

    `token` is presented with each publish: a text, or a function that returns one. `context` is an ssl.SSLContext for https
    with an authority of your own. `timeout` is in seconds, for each of at most `attempts`.
    """

    def __init__(self, url="http://127.0.0.1:8686", token=None, timeout=10.0, attempts=3, context=None):
        self.url = url.rstrip("/").replace("ws://", "http://", 1).replace("wss://", "https://", 1)
        self.token = token
        self.timeout = timeout
        self.attempts = max(1, attempts)
        self.context = context

    def publish(self, channel, event, data=None, *, idempotency_key=None):
        """Publishes one event to one channel. Returns how many subscribers got it."""
        return self.publish_all([(channel, event, data)], idempotency_key=idempotency_key)

    def publish_all(self, messages, *, idempotency_key=None):
        """Publishes (channel, event, data) in this order, all or none. Returns how many subscribers got them, summed."""
        messages = [
            {"channel": channel, "event": event, "data": {} if data is None else data} for channel, event, data in messages
        ]
        body = json.dumps({"messages": messages}, default=str).encode()
        key = idempotency_key or str(uuid.uuid4())
        for attempt in range(self.attempts):
            last = attempt + 1 == self.attempts
            try:
                return self._post("/publish", body, {"Idempotency-Key": key})["subscribers"]
            except NotPublished as refusal:
                # 429 and 503 say: later. Without a status nobody knows what became of it: the key makes it once.
                if last or refusal.status not in (None, 429, 503, 504):
                    raise
            time.sleep(min(2.0, 0.1 * 4**attempt))
        raise AssertionError("unreachable")

    def _post(self, path, body, headers=None):
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json", **(headers or {})})
        token = self.token() if callable(self.token) else self.token
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout, context=self.context) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                told = _object(error.read())
            message = told.get("error_message") or error.reason
            raise NotPublished(f"HTTP {error.code}: {message}", told.get("error_code"), error.code) from None
        except (OSError, ValueError) as error:
            raise NotPublished(f"no answer from {self.url}: {error}") from error


class Asynchronous:
    """The methods of a `Publisher` or service as coroutines: `await Asynchronous(events).broadcast_test_started(…)`."""

    def __init__(self, publisher):
        self._publisher = publisher

    def __getattr__(self, name):
        method = getattr(self._publisher, name)

        async def coroutine(*args, **kwargs):
            return await asyncio.to_thread(method, *args, **kwargs)

        return coroutine


class Service(Publisher):
    """A service of the family: what its classes have in common."""

    def _broadcast(self, event, rooms, fields, given, more=(), key=None):
        """`rooms` and `fields` as profiles have them; `given` may hold what only chooses rooms."""
        data = {}
        for name, required, kind, argument in map(_field, fields):
            value = given.pop(name)
            if value is OMITTED or (value is None and kind != "any"):
                if required:
                    raise TypeError(f"{event}: {name} is missing")
                continue
            data[name] = _told(name, kind, argument, value)
        stamp = None
        for extra in more:
            stamp = (extra or {}).get("timestamp", stamp)
            data.update({name: value for name, value in (extra or {}).items() if name != "timestamp"})
        data["timestamp"] = stamp or datetime.now(timezone.utc).isoformat(timespec="microseconds")
        channels = []
        for room in rooms:
            before, _, rest = room.partition("{")
            member, _, after = rest.partition("}")
            value = given.get(member, data.get(member)) if member else ""
            if value is not None:
                channels.append(f"{before}{value}{after}")
        if not channels:
            raise ValueError(f"{event}: no room without {member}")
        return self.publish_all([(channel, event, data) for channel in channels], idempotency_key=key)


OMITTED = object()


@functools.lru_cache(maxsize=None)
def _field(text):
    """`name`, `name?`, `name: kind`, `name?: kind(argument)`."""
    name, _, kind = text.partition(":")
    kind, _, argument = (kind.strip() or "text").partition("(")
    argument = argument.rstrip(")") or None
    if argument is not None and kind in ("text", "number"):
        argument = int(argument)
    return name.rstrip("?"), not name.endswith("?"), kind, argument


def _told(name, kind, argument, value):
    """A member as the event tells it."""
    if kind == "text" and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        text = str(value)
        return text if argument is None else text[:argument]
    if kind == "id" and isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value)
        return text[len(argument) :] if text.startswith(argument) else text
    if kind == "number" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if argument is None else round(value, argument)
    if kind == "object" and isinstance(value, str) and argument:
        return {argument: value}
    wanted = {"boolean": bool, "object": dict, "list": (list, tuple), "any": object}.get(kind, ())
    if isinstance(value, wanted):
        return value
    raise TypeError(f"{name} is no {kind}")


def _object(text):
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    return told if isinstance(told, dict) else {}


# Written by `UPDATE_DOCS=1 cargo test -p mahavishnu docs` from the profiles.
# services begin


class Mahavishnu(Service):
    """Mahavishnu."""

    def broadcast_workflow_started(self, workflow_id, metadata=None, *, idempotency_key=None, **more):
        """workflow.started to workflow:{workflow_id}."""
        fields = ["workflow_id"]
        given = {"workflow_id": workflow_id}
        return self._broadcast("workflow.started", ["workflow:{workflow_id}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_workflow_stage_completed(self, workflow_id, stage_name, result, *, idempotency_key=None):
        """workflow.stage_completed to workflow:{workflow_id}."""
        fields = ["workflow_id", "stage_name", "result: any"]
        given = {"workflow_id": workflow_id, "stage_name": stage_name, "result": result}
        return self._broadcast("workflow.stage_completed", ["workflow:{workflow_id}"], fields, given, (), idempotency_key)

    def broadcast_workflow_completed(self, workflow_id, result, *, idempotency_key=None):
        """workflow.completed to workflow:{workflow_id}."""
        fields = ["workflow_id", "result: any"]
        given = {"workflow_id": workflow_id, "result": result}
        return self._broadcast("workflow.completed", ["workflow:{workflow_id}"], fields, given, (), idempotency_key)

    def broadcast_workflow_failed(self, workflow_id, error, *, idempotency_key=None):
        """workflow.failed to workflow:{workflow_id}."""
        fields = ["workflow_id", "error"]
        given = {"workflow_id": workflow_id, "error": error}
        return self._broadcast("workflow.failed", ["workflow:{workflow_id}"], fields, given, (), idempotency_key)

    def broadcast_worker_status_changed(self, worker_id, status, pool_id, *, idempotency_key=None):
        """worker.status_changed to pool:{pool_id}."""
        fields = ["worker_id", "status", "pool_id: id(pool:)"]
        given = {"worker_id": worker_id, "status": status, "pool_id": pool_id}
        return self._broadcast("worker.status_changed", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_pool_status_changed(self, pool_id, status, *, idempotency_key=None):
        """pool.status_changed to pool:{pool_id}."""
        fields = ["pool_id", "status: object(state)"]
        given = {"pool_id": pool_id, "status": status}
        return self._broadcast("pool.status_changed", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_pool_spawned(self, pool_id, config, *, idempotency_key=None):
        """pool.spawned to pool:{pool_id}."""
        fields = ["pool_id", "config: any"]
        given = {"pool_id": pool_id, "config": config}
        return self._broadcast("pool.spawned", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_pool_scaled(self, pool_id, worker_count, *, idempotency_key=None):
        """pool.scaled to pool:{pool_id}."""
        fields = ["pool_id", "worker_count: number"]
        given = {"pool_id": pool_id, "worker_count": worker_count}
        return self._broadcast("pool.scaled", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_pool_closed(self, pool_id, *, idempotency_key=None):
        """pool.closed to pool:{pool_id}."""
        fields = ["pool_id"]
        given = {"pool_id": pool_id}
        return self._broadcast("pool.closed", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_worker_added(self, pool_id, worker_id, *, idempotency_key=None):
        """worker.added to pool:{pool_id}."""
        fields = ["pool_id", "worker_id"]
        given = {"pool_id": pool_id, "worker_id": worker_id}
        return self._broadcast("worker.added", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_worker_removed(self, pool_id, worker_id, *, idempotency_key=None):
        """worker.removed to pool:{pool_id}."""
        fields = ["pool_id", "worker_id"]
        given = {"pool_id": pool_id, "worker_id": worker_id}
        return self._broadcast("worker.removed", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_task_assigned(self, pool_id, worker_id, task, *, idempotency_key=None):
        """task.assigned to pool:{pool_id}."""
        fields = ["pool_id", "worker_id", "task: any"]
        given = {"pool_id": pool_id, "worker_id": worker_id, "task": task}
        return self._broadcast("task.assigned", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_task_completed(self, pool_id, worker_id, result, *, idempotency_key=None):
        """task.completed to pool:{pool_id}."""
        fields = ["pool_id", "worker_id", "result: any"]
        given = {"pool_id": pool_id, "worker_id": worker_id, "result": result}
        return self._broadcast("task.completed", ["pool:{pool_id}"], fields, given, (), idempotency_key)

    def broadcast_team_created(self, team_id, team_name, goal, mode, user_id=None, *, idempotency_key=None):
        """team.created to goal-teams and goal-teams:{user_id}."""
        fields = ["team_id", "team_name", "goal", "mode"]
        given = {"team_id": team_id, "team_name": team_name, "goal": goal, "mode": mode, "user_id": user_id}
        return self._broadcast("team.created", ["goal-teams", "goal-teams:{user_id}"], fields, given, (), idempotency_key)

    def broadcast_team_parsed(self, goal, intent, skills, confidence, user_id=None, *, idempotency_key=None):
        """team.parsed to goal-teams and goal-teams:{user_id}."""
        fields = ["goal", "intent", "skills: list", "confidence: number(3)"]
        given = {"goal": goal, "intent": intent, "skills": skills, "confidence": confidence, "user_id": user_id}
        return self._broadcast("team.parsed", ["goal-teams", "goal-teams:{user_id}"], fields, given, (), idempotency_key)

    def broadcast_team_execution_started(self, team_id, task, user_id=None, *, idempotency_key=None):
        """team.execution_started to goal-teams and goal-teams:{user_id}."""
        fields = ["team_id", "task: text(200)"]
        given = {"team_id": team_id, "task": task, "user_id": user_id}
        return self._broadcast("team.execution_started", ["goal-teams", "goal-teams:{user_id}"], fields, given, (), idempotency_key)

    def broadcast_team_execution_completed(self, team_id, success, duration_ms, user_id=None, *, idempotency_key=None):
        """team.execution_completed to goal-teams and goal-teams:{user_id}."""
        fields = ["team_id", "success: boolean", "duration_ms: number(2)"]
        given = {"team_id": team_id, "success": success, "duration_ms": duration_ms, "user_id": user_id}
        return self._broadcast("team.execution_completed", ["goal-teams", "goal-teams:{user_id}"], fields, given, (), idempotency_key)

    def broadcast_team_error(self, error_code, message, team_id=OMITTED, user_id=None, *, idempotency_key=None):
        """team.error to goal-teams and goal-teams:{user_id}."""
        fields = ["team_id?", "error_code", "message"]
        given = {"team_id": team_id, "error_code": error_code, "message": message, "user_id": user_id}
        return self._broadcast("team.error", ["goal-teams", "goal-teams:{user_id}"], fields, given, (), idempotency_key)

    def broadcast_adapter_registered(self, adapter_id, adapter_name, capabilities, provider, source, *, idempotency_key=None):
        """adapter.registered to adapters."""
        fields = ["adapter_id", "adapter_name", "capabilities: list", "provider", "source"]
        given = {"adapter_id": adapter_id, "adapter_name": adapter_name, "capabilities": capabilities, "provider": provider, "source": source}
        return self._broadcast("adapter.registered", ["adapters"], fields, given, (), idempotency_key)

    def broadcast_adapter_health_changed(self, adapter_id=OMITTED, adapter_name=OMITTED, old_status=OMITTED, new_status=OMITTED, adapter=OMITTED, is_healthy=OMITTED, status=OMITTED, consecutive_failures=OMITTED, details=OMITTED, *, idempotency_key=None):
        """adapter.health_changed to adapters."""
        fields = ["adapter_id?", "adapter_name?", "old_status?", "new_status?", "adapter?", "is_healthy?: boolean", "status?", "consecutive_failures?: number", "details?: any"]
        given = {"adapter_id": adapter_id, "adapter_name": adapter_name, "old_status": old_status, "new_status": new_status, "adapter": adapter, "is_healthy": is_healthy, "status": status, "consecutive_failures": consecutive_failures, "details": details}
        return self._broadcast("adapter.health_changed", ["adapters"], fields, given, (), idempotency_key)

    def broadcast_adapter_enabled(self, adapter_id, adapter_name, enabled, reason=OMITTED, *, idempotency_key=None):
        """adapter.enabled to adapters."""
        fields = ["adapter_id", "adapter_name", "enabled: boolean", "reason?"]
        given = {"adapter_id": adapter_id, "adapter_name": adapter_name, "enabled": enabled, "reason": reason}
        return self._broadcast("adapter.enabled", ["adapters"], fields, given, (), idempotency_key)

    def broadcast_adapter_disabled(self, adapter_id, adapter_name, enabled, reason=OMITTED, *, idempotency_key=None):
        """adapter.disabled to adapters."""
        fields = ["adapter_id", "adapter_name", "enabled: boolean", "reason?"]
        given = {"adapter_id": adapter_id, "adapter_name": adapter_name, "enabled": enabled, "reason": reason}
        return self._broadcast("adapter.disabled", ["adapters"], fields, given, (), idempotency_key)

    def broadcast_adapter_routing_decision(self, task_type, selected_adapter, capabilities_matched, latency_ms, fallback_used, *, idempotency_key=None):
        """adapter.routing_decision to adapters."""
        fields = ["task_type", "selected_adapter", "capabilities_matched: any", "latency_ms: number", "fallback_used: boolean"]
        given = {"task_type": task_type, "selected_adapter": selected_adapter, "capabilities_matched": capabilities_matched, "latency_ms": latency_ms, "fallback_used": fallback_used}
        return self._broadcast("adapter.routing_decision", ["adapters"], fields, given, (), idempotency_key)

    def broadcast_worker_availability_changed(self, worker_type, state, reason_bucket=OMITTED, probe_at=OMITTED, *, idempotency_key=None):
        """worker.availability_changed to global."""
        fields = ["worker_type", "state", "reason_bucket?", "probe_at?"]
        given = {"worker_type": worker_type, "state": state, "reason_bucket": reason_bucket, "probe_at": probe_at}
        return self._broadcast("worker.availability_changed", ["global"], fields, given, (), idempotency_key)

    def broadcast_learning_metrics(self, metadata=None, *, idempotency_key=None, **more):
        """learning.metrics to symbiotic:ecosystem."""
        fields = []
        given = {}
        return self._broadcast("learning.metrics", ["symbiotic:ecosystem"], fields, given, (metadata, more), idempotency_key)

    def broadcast_skill_effectiveness(self, metadata=None, *, idempotency_key=None, **more):
        """skill.effectiveness to symbiotic:ecosystem."""
        fields = []
        given = {}
        return self._broadcast("skill.effectiveness", ["symbiotic:ecosystem"], fields, given, (metadata, more), idempotency_key)

    def broadcast_strategy_recommender(self, metadata=None, *, idempotency_key=None, **more):
        """strategy.recommender to symbiotic:ecosystem."""
        fields = []
        given = {}
        return self._broadcast("strategy.recommender", ["symbiotic:ecosystem"], fields, given, (metadata, more), idempotency_key)

    def broadcast_settle_transition(self, run_ref, worker_id, from_state, to_state, phase=OMITTED, action=OMITTED, merge=OMITTED, *, idempotency_key=None):
        """settle.transition to settle:{run_ref} and run:{worker_id}."""
        fields = ["run_ref", "worker_id", "from_state", "to_state", "phase?", "action?", "merge?: any"]
        given = {"run_ref": run_ref, "worker_id": worker_id, "from_state": from_state, "to_state": to_state, "phase": phase, "action": action, "merge": merge}
        return self._broadcast("settle.transition", ["settle:{run_ref}", "run:{worker_id}"], fields, given, (), idempotency_key)


class Crackerjack(Service):
    """Crackerjack."""

    def broadcast_test_started(self, run_id, test_suite, total_tests, *, idempotency_key=None):
        """test.started to test:{run_id}."""
        fields = ["run_id", "test_suite", "total_tests: number"]
        given = {"run_id": run_id, "test_suite": test_suite, "total_tests": total_tests}
        return self._broadcast("test.started", ["test:{run_id}"], fields, given, (), idempotency_key)

    def broadcast_test_completed(self, run_id, tests_completed, tests_failed, duration_seconds, *, idempotency_key=None):
        """test.completed to test:{run_id}."""
        fields = ["run_id", "tests_completed: number", "tests_failed: number", "duration_seconds: number"]
        given = {"run_id": run_id, "tests_completed": tests_completed, "tests_failed": tests_failed, "duration_seconds": duration_seconds}
        return self._broadcast("test.completed", ["test:{run_id}"], fields, given, (), idempotency_key)

    def broadcast_test_failed(self, run_id, test_name, error, traceback, *, idempotency_key=None):
        """test.failed to test:{run_id}."""
        fields = ["run_id", "test_name", "error", "traceback"]
        given = {"run_id": run_id, "test_name": test_name, "error": error, "traceback": traceback}
        return self._broadcast("test.failed", ["test:{run_id}"], fields, given, (), idempotency_key)

    def broadcast_quality_gate_checked(self, project, gate_name, status, score, threshold, metadata=None, *, idempotency_key=None, **more):
        """quality_gate.checked to quality:{project}."""
        fields = ["project", "gate_name", "status", "score: number", "threshold: number"]
        given = {"project": project, "gate_name": gate_name, "status": status, "score": score, "threshold": threshold}
        return self._broadcast("quality_gate.checked", ["quality:{project}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_coverage_updated(self, project, line_coverage, branch_coverage, path_coverage, *, idempotency_key=None):
        """coverage.updated to quality:{project}."""
        fields = ["project", "line_coverage: number", "branch_coverage: number", "path_coverage: number"]
        given = {"project": project, "line_coverage": line_coverage, "branch_coverage": branch_coverage, "path_coverage": path_coverage}
        return self._broadcast("coverage.updated", ["quality:{project}"], fields, given, (), idempotency_key)


class Akosha(Service):
    """Akosha."""

    def broadcast_pattern_detected(self, pattern_id, pattern_type, description, confidence, metadata=None, *, idempotency_key=None, **more):
        """pattern.detected to patterns:{pattern_type}."""
        fields = ["pattern_id", "pattern_type", "description", "confidence: number"]
        given = {"pattern_id": pattern_id, "pattern_type": pattern_type, "description": description, "confidence": confidence}
        return self._broadcast("pattern.detected", ["patterns:{pattern_type}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_anomaly_detected(self, anomaly_id, anomaly_type, severity, description, metrics, *, idempotency_key=None):
        """anomaly.detected to anomalies."""
        fields = ["anomaly_id", "anomaly_type", "severity", "description", "metrics: any"]
        given = {"anomaly_id": anomaly_id, "anomaly_type": anomaly_type, "severity": severity, "description": description, "metrics": metrics}
        return self._broadcast("anomaly.detected", ["anomalies"], fields, given, (), idempotency_key)

    def broadcast_insight_generated(self, insight_id, insight_type, title, description, data, *, idempotency_key=None):
        """insight.generated to insights."""
        fields = ["insight_id", "insight_type", "title", "description", "data: any"]
        given = {"insight_id": insight_id, "insight_type": insight_type, "title": title, "description": description, "data": data}
        return self._broadcast("insight.generated", ["insights"], fields, given, (), idempotency_key)

    def broadcast_aggregation_completed(self, aggregation_id, aggregation_type, record_count, summary, *, idempotency_key=None):
        """aggregation.completed to metrics."""
        fields = ["aggregation_id", "aggregation_type", "record_count: number", "summary: any"]
        given = {"aggregation_id": aggregation_id, "aggregation_type": aggregation_type, "record_count": record_count, "summary": summary}
        return self._broadcast("aggregation.completed", ["metrics"], fields, given, (), idempotency_key)


class Excalidraw(Service):
    """Excalidraw."""

    def broadcast_diagram_created(self, diagram_id, metadata=None, *, idempotency_key=None, **more):
        """diagram.created to diagram:{diagram_id}."""
        fields = ["diagram_id"]
        given = {"diagram_id": diagram_id}
        return self._broadcast("diagram.created", ["diagram:{diagram_id}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_diagram_updated(self, diagram_id, metadata=None, *, idempotency_key=None, **more):
        """diagram.updated to diagram:{diagram_id}."""
        fields = ["diagram_id"]
        given = {"diagram_id": diagram_id}
        return self._broadcast("diagram.updated", ["diagram:{diagram_id}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_cursor_moved(self, diagram_id, user_id, position, *, idempotency_key=None):
        """cursor.moved to cursor:{diagram_id}."""
        fields = ["diagram_id", "user_id", "position: object"]
        given = {"diagram_id": diagram_id, "user_id": user_id, "position": position}
        return self._broadcast("cursor.moved", ["cursor:{diagram_id}"], fields, given, (), idempotency_key)

    def broadcast_user_joined(self, diagram_id, user_id, user_info=OMITTED, *, idempotency_key=None):
        """user.joined to presence:{diagram_id}."""
        fields = ["diagram_id", "user_id", "user_info?: any"]
        given = {"diagram_id": diagram_id, "user_id": user_id, "user_info": user_info}
        return self._broadcast("user.joined", ["presence:{diagram_id}"], fields, given, (), idempotency_key)

    def broadcast_user_left(self, diagram_id, user_id, *, idempotency_key=None):
        """user.left to presence:{diagram_id}."""
        fields = ["diagram_id", "user_id"]
        given = {"diagram_id": diagram_id, "user_id": user_id}
        return self._broadcast("user.left", ["presence:{diagram_id}"], fields, given, (), idempotency_key)


class FastBlocks(Service):
    """FastBlocks."""

    def broadcast_ui_updated(self, component_id, metadata=None, *, idempotency_key=None, **more):
        """ui.updated to ui:{component_id}."""
        fields = ["component_id"]
        given = {"component_id": component_id}
        return self._broadcast("ui.updated", ["ui:{component_id}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_component_rendered(self, component_id, metadata=None, *, idempotency_key=None, **more):
        """component.rendered to component:{component_id}."""
        fields = ["component_id"]
        given = {"component_id": component_id}
        return self._broadcast("component.rendered", ["component:{component_id}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_state_changed(self, state_path, new_value, *, idempotency_key=None):
        """state.changed to state."""
        fields = ["state_path", "new_value: any"]
        given = {"state_path": state_path, "new_value": new_value}
        return self._broadcast("state.changed", ["state"], fields, given, (), idempotency_key)


class Dhruva(Service):
    """Dhruva."""

    def broadcast_adapter_stored(self, adapter_id, metadata=None, *, idempotency_key=None, **more):
        """adapter.stored to adapter:{adapter_id}."""
        fields = ["adapter_id"]
        given = {"adapter_id": adapter_id}
        return self._broadcast("adapter.stored", ["adapter:{adapter_id}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_adapter_updated(self, adapter_id, metadata=None, *, idempotency_key=None, **more):
        """adapter.updated to adapter:{adapter_id}."""
        fields = ["adapter_id"]
        given = {"adapter_id": adapter_id}
        return self._broadcast("adapter.updated", ["adapter:{adapter_id}"], fields, given, (metadata, more), idempotency_key)

    def broadcast_storage_event(self, storage_type, metadata=None, *, idempotency_key=None, **more):
        """storage.event to storage:{storage_type}."""
        fields = ["storage_type"]
        given = {"storage_type": storage_type}
        return self._broadcast("storage.event", ["storage:{storage_type}"], fields, given, (metadata, more), idempotency_key)


class SessionBuddy(Service):
    """Session-Buddy."""

    def broadcast_skill_metrics(self, skill_name, total_invocations, completion_rate, avg_duration_seconds, *, idempotency_key=None):
        """skill.metrics to skills."""
        fields = ["skill_name", "total_invocations: number", "completion_rate: any", "avg_duration_seconds: any"]
        given = {"skill_name": skill_name, "total_invocations": total_invocations, "completion_rate": completion_rate, "avg_duration_seconds": avg_duration_seconds}
        return self._broadcast("skill.metrics", ["skills"], fields, given, (), idempotency_key)

    def broadcast_skill_anomaly(self, skill_name, anomaly_type, deviation_score, detected_at=OMITTED, *, idempotency_key=None):
        """skill.anomaly to skills."""
        fields = ["skill_name", "anomaly_type", "deviation_score: any", "detected_at?"]
        given = {"skill_name": skill_name, "anomaly_type": anomaly_type, "deviation_score": deviation_score, "detected_at": detected_at}
        return self._broadcast("skill.anomaly", ["skills"], fields, given, (), idempotency_key)
# services end


class Backend:
    """Answers the requests of clients that the server hands over: `service.request` events of the channel `system:requests`.

        backend = Backend("ws://127.0.0.1:8686", token=TOKEN)

        @backend.answers("get_test_status")
        def test_status(data, user):
            return {"run_id": data["run_id"], "status": "unknown"}

        backend.run()

    A function gets the request's data and its user, who may be None, and returns the answer's data: an object. What it raises is told as
    an error without its text. `run` connects again by itself until `stop` is called.
    """

    def __init__(self, url="ws://127.0.0.1:8686", token=None, channel="system:requests", context=None):
        self.url, self.token, self.channel, self.context = url, token, channel, context
        self._answers, self._stopped, self._socket = {}, threading.Event(), None
        self.ready = threading.Event()

    def answers(self, event):
        """Has the function below it answer the requests `event`."""

        def register(function):
            self._answers[event] = function
            return function

        return register

    def stop(self):
        """Has `run` return."""
        self._stopped.set()
        if self._socket:
            self._socket.close()

    def run(self):
        """Answers until `stop` is called. Raises `Refused` if the server does not let this program read the channel."""
        pause = 0.1
        while not self._stopped.is_set():
            try:
                with _WebSocket(self.url, self.token, self.context) as self._socket:
                    self._subscribe()
                    pause = 0.1
                    self.ready.set()
                    while True:
                        self._handle(self._socket.receive())
            except (OSError, ValueError, ConnectionError):
                self.ready.clear()
                self._stopped.wait(pause)
                pause = min(5.0, pause * 2)

    def _subscribe(self):
        self._socket.send({"type": "request", "event": "subscribe", "id": "backend", "data": {"channel": self.channel}})
        while True:
            message = self._socket.receive()
            if message.get("correlation_id") == "backend":
                if message.get("type") == "error":
                    raise Refused(f"{message.get('error_code')}: {message.get('error_message')}")
                return
            self._handle(message)

    def _handle(self, message):
        if message.get("event") != "service.request":
            return
        asked = message.get("data") or {}
        function = self._answers.get(asked.get("request"))
        if function is None:
            return
        answer = {"request_id": asked.get("request_id")}
        try:
            answer["data"] = function(asked.get("data") or {}, asked.get("user"))
        except Exception:
            answer["error"] = {"code": "SERVER_ERROR", "message": "The request failed"}
        self._socket.send({"type": "request", "event": "answer", "id": str(uuid.uuid4()), "data": answer})


class Refused(Exception):
    """The server does not let this program do that."""


class _WebSocket:
    """As much of RFC 6455 as a client needs that sends and gets JSON texts."""

    def __init__(self, url, token, context):
        parts = urllib.parse.urlsplit(url)
        secure = parts.scheme in ("wss", "https")
        address = (parts.hostname, parts.port or (443 if secure else 80))
        self._socket = socket.create_connection(address, timeout=10)
        if secure:
            context = context or ssl.create_default_context()
            self._socket = context.wrap_socket(self._socket, server_hostname=parts.hostname)
        self._read = self._socket.makefile("rb")
        self._write = threading.Lock()
        key = base64.b64encode(os.urandom(16)).decode()
        token = token() if callable(token) else token
        head = [
            f"GET {parts.path or '/'} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *([f"Authorization: Bearer {token}"] if token else []),
        ]
        self._socket.sendall("\r\n".join([*head, "", ""]).encode())
        status = self._read.readline().split()
        headers = {}
        while line := self._read.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        expected = base64.b64encode(hashlib.sha1((key + _ACCEPT).encode()).digest()).decode()
        if status[1:2] == [b"401"] or status[1:2] == [b"403"]:
            raise Refused(f"HTTP {status[1].decode()}")
        if status[1:2] != [b"101"] or headers.get("sec-websocket-accept") != expected:
            raise ConnectionError("no WebSocket server")
        # The server pings every 20 seconds: one that is silent for longer than this has gone.
        self._socket.settimeout(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self._frame(8, struct.pack("!H", 1000))
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def send(self, message):
        self._frame(1, json.dumps(message).encode())

    def receive(self):
        """The next message."""
        text = b""
        while True:
            first, second = self._exactly(2)
            size = second & 127
            if size > 125:
                size = struct.unpack("!H" if size == 126 else "!Q", self._exactly(2 if size == 126 else 8))[0]
            payload, kind = self._exactly(size), first & 15
            if kind == 8:
                raise ConnectionError("closed")
            if kind == 9:
                self._frame(10, payload)
            if kind in (0, 1):
                text += payload
                if first & 128:
                    return _object(text)

    def _exactly(self, size):
        data = self._read.read(size)
        if len(data) != size:
            raise ConnectionError("the connection has ended")
        return data

    def _frame(self, kind, payload):
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 128 | kind, 128 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 128 | kind, 128 | 126, size)
        else:
            head = struct.pack("!BBQ", 128 | kind, 128 | 127, size)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        with self._write:
            self._socket.sendall(head + mask + masked)


_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocketMetrics:
    """Counts the WebSocket connections and messages of a program of your own, in the families that dashboards of the family
    show. Mahavishnu counts its own: use this only for connections that this program itself serves.

        metrics = WebSocketMetrics("my-service", tls_enabled=True)
        metrics.start_metrics_server(port=9101)
        metrics.on_connect(connection_id)
    """

    def __init__(self, server_name, tls_enabled=False):
        self._server = ("server", server_name)
        self._tls = ("tls_mode", "wss" if tls_enabled else "ws")
        self._lock = threading.Lock()
        self._connected = set()
        self._counts, self._times = {}, {}

    def on_connect(self, connection_id):
        with self._lock:
            self._connected.add(connection_id)
        self._count("websocket_connections_total", self._tls)

    def on_disconnect(self, connection_id):
        with self._lock:
            self._connected.discard(connection_id)

    def on_message_sent(self, message_type):
        self._count("websocket_messages_total", ("message_type", message_type), ("direction", "sent"))

    def on_message_received(self, message_type):
        self._count("websocket_messages_total", ("message_type", message_type), ("direction", "received"))

    def on_broadcast(self, channel, duration_seconds):
        self._count("websocket_broadcast_total", ("channel", channel))
        self._observe("websocket_broadcast_duration_seconds", duration_seconds, ("channel", channel))

    def on_connection_error(self, error_type):
        self._count("websocket_connection_errors_total", ("error_type", error_type))

    def on_message_error(self, error_type):
        self._count("websocket_message_errors_total", ("error_type", error_type))

    def observe_latency(self, message_type, seconds):
        self._observe("websocket_latency_seconds", seconds, ("message_type", message_type))

    def start_metrics_server(self, port=9090, host=""):
        """Answers GET /metrics in a thread of its own. Returns the HTTPServer; its `shutdown()` ends it."""
        metrics = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = metrics.exposition().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer((host, port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def exposition(self):
        """What is counted, in Prometheus' text format."""
        with self._lock:
            series = dict(self._counts)
            series[("websocket_connections_active", (self._server,))] = len(self._connected)
            times = {key: (list(counts), total) for key, (counts, total) in self._times.items()}
        lines = []
        for name, kind, text in _FAMILIES:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{_labels(labels)} {value}" for (known, labels), value in series.items() if known == name]
            for (known, labels), (counts, total) in times.items():
                if known == name:
                    bounds = [*map(str, _BUCKETS[name]), "+Inf"]
                    lines += [f"{name}_bucket{_labels((*labels, ('le', le)))} {n}" for le, n in zip(bounds, counts)]
                    lines += [f"{name}_sum{_labels(labels)} {total}", f"{name}_count{_labels(labels)} {counts[-1]}"]
        return "\n".join(lines) + "\n"

    def _count(self, name, *labels):
        key = (name, (self._server, *labels))
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1

    def _observe(self, name, seconds, *labels):
        key, bounds = (name, (self._server, *labels)), [*_BUCKETS[name], float("inf")]
        with self._lock:
            counts, total = self._times.get(key, ([0] * len(bounds), 0.0))
            self._times[key] = ([n + (seconds <= le) for n, le in zip(counts, bounds)], total + seconds)


def _labels(labels):
    escaped = ((name, str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


_FAMILIES = (
    ("websocket_connections_total", "counter", "Total number of WebSocket connections established"),
    ("websocket_connections_active", "gauge", "Current number of active WebSocket connections"),
    ("websocket_messages_total", "counter", "Total number of messages processed"),
    ("websocket_broadcast_total", "counter", "Total number of broadcast operations"),
    ("websocket_broadcast_duration_seconds", "histogram", "Time taken to broadcast messages to rooms"),
    ("websocket_connection_errors_total", "counter", "Total number of WebSocket connection errors"),
    ("websocket_message_errors_total", "counter", "Total number of message processing errors"),
    ("websocket_latency_seconds", "histogram", "WebSocket message processing latency"),
)
_BUCKETS = {
    "websocket_broadcast_duration_seconds": (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    "websocket_latency_seconds": (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
}
