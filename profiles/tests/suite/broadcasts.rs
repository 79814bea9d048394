//! Every broadcast of every service: event, rooms, data.

use mahavishnu_profiles::{BroadcastError, Profile};
use serde_json::{Value, json};

use crate::world::TIME;

/// Method, its arguments; event, rooms, data without the time.
type Row = (
    &'static str,
    &'static str,
    fn() -> Value,
    &'static str,
    &'static [&'static str],
    fn() -> Value,
);

macro_rules! rows {
    ($($service:literal $method:literal $arguments:tt => $event:literal $rooms:expr, $data:tt;)*) => {
        &[$(($service, $method, || json!($arguments), $event, &$rooms, || json!($data))),*]
    };
    ($($service:literal $method:literal $arguments:tt => $event:literal $rooms:expr;)*) => {
        &[$(($service, $method, || json!($arguments), $event, &$rooms, || json!($arguments))),*]
    };
}

/// What is told as it was given.
const PLAIN: &[Row] = rows! {
    "mahavishnu" "workflow_started" {"workflow_id": "w", "name": "n"} => "workflow.started" ["workflow:w"];
    "mahavishnu" "workflow_stage_completed" {"workflow_id": "w", "stage_name": "s", "result": {"a": 1}} => "workflow.stage_completed" ["workflow:w"];
    "mahavishnu" "workflow_completed" {"workflow_id": "w", "result": {}} => "workflow.completed" ["workflow:w"];
    "mahavishnu" "workflow_failed" {"workflow_id": "w", "error": "e"} => "workflow.failed" ["workflow:w"];
    "mahavishnu" "worker_status_changed" {"worker_id": "1", "status": "idle", "pool_id": "p"} => "worker.status_changed" ["pool:p"];
    "mahavishnu" "pool_status_changed" {"pool_id": "p", "status": {"state": "x"}} => "pool.status_changed" ["pool:p"];
    "mahavishnu" "pool_spawned" {"pool_id": "p", "config": {}} => "pool.spawned" ["pool:p"];
    "mahavishnu" "pool_scaled" {"pool_id": "p", "worker_count": 3} => "pool.scaled" ["pool:p"];
    "mahavishnu" "pool_closed" {"pool_id": "p"} => "pool.closed" ["pool:p"];
    "mahavishnu" "worker_added" {"pool_id": "p", "worker_id": "1"} => "worker.added" ["pool:p"];
    "mahavishnu" "worker_removed" {"pool_id": "p", "worker_id": "1"} => "worker.removed" ["pool:p"];
    "mahavishnu" "task_assigned" {"pool_id": "p", "worker_id": "1", "task": {"t": 1}} => "task.assigned" ["pool:p"];
    "mahavishnu" "task_completed" {"pool_id": "p", "worker_id": "1", "result": null} => "task.completed" ["pool:p"];
    "mahavishnu" "team_created" {"team_id": "t", "team_name": "n", "goal": "g", "mode": "m"} => "team.created" ["goal-teams"];
    "mahavishnu" "adapter_registered" {"adapter_id": "a", "adapter_name": "n", "capabilities": ["c"], "provider": "p", "source": "s"} => "adapter.registered" ["adapters"];
    "mahavishnu" "adapter_health_changed" {"adapter_id": "a", "adapter_name": "n", "old_status": "o", "new_status": "w", "details": {}} => "adapter.health_changed" ["adapters"];
    "mahavishnu" "adapter_health_changed" {"adapter": "a", "is_healthy": false, "status": "s", "consecutive_failures": 2, "details": {}} => "adapter.health_changed" ["adapters"];
    "mahavishnu" "adapter_enabled" {"adapter_id": "a", "adapter_name": "n", "enabled": true, "reason": "r"} => "adapter.enabled" ["adapters"];
    "mahavishnu" "adapter_disabled" {"adapter_id": "a", "adapter_name": "n", "enabled": false} => "adapter.disabled" ["adapters"];
    "mahavishnu" "adapter_routing_decision" {"task_type": "t", "selected_adapter": "a", "capabilities_matched": [], "latency_ms": 1.5, "fallback_used": false} => "adapter.routing_decision" ["adapters"];
    "mahavishnu" "worker_availability_changed" {"worker_type": "t", "state": "s", "reason_bucket": "r", "probe_at": "p"} => "worker.availability_changed" ["global"];
    "mahavishnu" "learning_metrics" {"any": 1} => "learning.metrics" ["symbiotic:ecosystem"];
    "mahavishnu" "skill_effectiveness" {"any": 1} => "skill.effectiveness" ["symbiotic:ecosystem"];
    "mahavishnu" "strategy_recommender" {"any": 1} => "strategy.recommender" ["symbiotic:ecosystem"];
    "mahavishnu" "settle_transition" {"run_ref": "r", "worker_id": "w", "from_state": "a", "to_state": "b", "phase": "b", "action": "x"} => "settle.transition" ["settle:r", "run:w"];
    "crackerjack" "test_started" {"run_id": "7", "test_suite": "u", "total_tests": 3} => "test.started" ["test:7"];
    "crackerjack" "test_completed" {"run_id": "7", "tests_completed": 3, "tests_failed": 0, "duration_seconds": 1.25} => "test.completed" ["test:7"];
    "crackerjack" "test_failed" {"run_id": "7", "test_name": "n", "error": "e", "traceback": "t"} => "test.failed" ["test:7"];
    "crackerjack" "quality_gate_checked" {"project": "p", "gate_name": "g", "status": "passed", "score": 9.5, "threshold": 8} => "quality_gate.checked" ["quality:p"];
    "crackerjack" "coverage_updated" {"project": "p", "line_coverage": 1, "branch_coverage": 2, "path_coverage": 3} => "coverage.updated" ["quality:p"];
    "dhruva" "adapter_stored" {"adapter_id": "a", "v": 1} => "adapter.stored" ["adapter:a"];
    "dhruva" "adapter_updated" {"adapter_id": "a", "v": 1} => "adapter.updated" ["adapter:a"];
    "dhruva" "storage_event" {"storage_type": "s3", "v": 1} => "storage.event" ["storage:s3"];
    "excalidraw" "diagram_created" {"diagram_id": "d", "v": 1} => "diagram.created" ["diagram:d"];
    "excalidraw" "diagram_updated" {"diagram_id": "d", "v": 1} => "diagram.updated" ["diagram:d"];
    "excalidraw" "cursor_moved" {"diagram_id": "d", "user_id": "u", "position": {"x": 1, "y": 2}} => "cursor.moved" ["cursor:d"];
    "excalidraw" "user_joined" {"diagram_id": "d", "user_id": "u", "user_info": {"n": 1}} => "user.joined" ["presence:d"];
    "excalidraw" "user_left" {"diagram_id": "d", "user_id": "u"} => "user.left" ["presence:d"];
    "fastblocks" "ui_updated" {"component_id": "c", "v": 1} => "ui.updated" ["ui:c"];
    "fastblocks" "component_rendered" {"component_id": "c", "ms": 1} => "component.rendered" ["component:c"];
    "fastblocks" "state_changed" {"state_path": "a.b", "new_value": null} => "state.changed" ["state"];
    "akosha" "pattern_detected" {"pattern_id": "1", "pattern_type": "t", "description": "d", "confidence": 0.5, "v": 1} => "pattern.detected" ["patterns:t"];
    "akosha" "anomaly_detected" {"anomaly_id": "1", "anomaly_type": "t", "severity": "s", "description": "d", "metrics": {}} => "anomaly.detected" ["anomalies"];
    "akosha" "insight_generated" {"insight_id": "1", "insight_type": "t", "title": "t", "description": "d", "data": {}} => "insight.generated" ["insights"];
    "session-buddy" "skill_metrics" {"skill_name": "s", "total_invocations": 3, "completion_rate": 92.5, "avg_duration_seconds": null} => "skill.metrics" ["skills"];
    "session-buddy" "skill_anomaly" {"skill_name": "s", "anomaly_type": "spike", "deviation_score": 2.5, "detected_at": "t"} => "skill.anomaly" ["skills"];
    "akosha" "aggregation_completed" {"aggregation_id": "1", "aggregation_type": "t", "record_count": 3, "summary": {}} => "aggregation.completed" ["metrics"];
};

/// What the services' code changes on the way.
const CHANGED: &[Row] = rows! {
    "mahavishnu" "worker_status_changed" {"worker_id": "1", "status": "busy", "pool_id": "pool:p"}
        => "worker.status_changed" ["pool:p"], {"worker_id": "1", "status": "busy", "pool_id": "p"};
    "mahavishnu" "pool_status_changed" {"pool_id": "p", "status": "active"}
        => "pool.status_changed" ["pool:p"], {"pool_id": "p", "status": {"state": "active"}};
    "mahavishnu" "team_created" {"team_id": "t", "team_name": "n", "goal": "g", "mode": "m", "user_id": "ada"}
        => "team.created" ["goal-teams", "goal-teams:ada"], {"team_id": "t", "team_name": "n", "goal": "g", "mode": "m"};
    "mahavishnu" "team_parsed" {"goal": "g", "intent": "i", "skills": ["s"], "confidence": 0.87654}
        => "team.parsed" ["goal-teams"], {"goal": "g", "intent": "i", "skills": ["s"], "confidence": 0.877};
    "mahavishnu" "team_execution_started" {"team_id": "t", "task": "ääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääää"}
        => "team.execution_started" ["goal-teams"], {"team_id": "t", "task": "ääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääää"};
    "mahavishnu" "team_execution_completed" {"team_id": "t", "success": true, "duration_ms": 12.3456}
        => "team.execution_completed" ["goal-teams"], {"team_id": "t", "success": true, "duration_ms": 12.35};
    "mahavishnu" "team_error" {"team_id": "t", "error_code": "E", "message": "m", "user_id": "ada"}
        => "team.error" ["goal-teams", "goal-teams:ada"], {"team_id": "t", "error_code": "E", "message": "m"};
    // Ids that are numbers are told as texts.
    "crackerjack" "test_completed" {"run_id": 7, "tests_completed": 3, "tests_failed": 0, "duration_seconds": 1}
        => "test.completed" ["test:7"], {"run_id": "7", "tests_completed": 3, "tests_failed": 0, "duration_seconds": 1};
    // More than is documented, where that is allowed.
    "crackerjack" "quality_gate_checked" {"project": "p", "gate_name": "g", "status": "passed", "score": 1, "threshold": 1, "severity": "low"}
        => "quality_gate.checked" ["quality:p"], {"project": "p", "gate_name": "g", "status": "passed", "score": 1, "threshold": 1, "severity": "low"};
};

#[test]
fn every_broadcast_goes_where_and_says_what_is_documented() {
    for (service, method, arguments, event, rooms, data) in PLAIN.iter().chain(CHANGED) {
        let profile = Profile::builtin(service).unwrap();
        let found = profile.event(method).unwrap_or_else(|| panic!("{service} has no {method}"));
        let broadcast = found
            .broadcast(&arguments().to_string(), TIME)
            .unwrap_or_else(|error| panic!("{method}: {error}"));
        let mut expected = data();
        expected["timestamp"] = json!("2026-11-30T12:00:00.000+00:00");
        assert_eq!(&*found.name, *event, "{service} {method}");
        let channels: Vec<_> = broadcast.channels.iter().map(|channel| &**channel).collect();
        assert_eq!(channels, *rooms, "{service} {method}");
        assert_eq!(
            serde_json::from_str::<Value>(&broadcast.data).unwrap(),
            expected,
            "{service} {method}"
        );
        assert_eq!(profile.event(event).map(|found| &found.method), Some(&found.method));
    }
}

#[test]
fn every_event_has_a_row() {
    for profile in Profile::builtins() {
        for event in &profile.events {
            let mut rows = PLAIN.iter().chain(CHANGED);
            let found = rows.any(|row| profile.is_called(row.0) && *event.name == *row.3);
            assert!(found, "{}: {}", profile.name, event.name);
        }
    }
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let named = |service: &str, event: &str, arguments: Value| {
        let profile = Profile::builtin(service).unwrap();
        profile.event(event).unwrap().broadcast(&arguments.to_string(), TIME).unwrap_err()
    };
    let test = |arguments| named("crackerjack", "test.started", arguments);
    assert_eq!(test(json!([1])), BroadcastError::NoObject);
    assert_eq!(
        test(json!({"run_id": "7", "test_suite": "u"})),
        BroadcastError::Missing("total_tests".into())
    );
    assert_eq!(
        test(json!({"run_id": "7", "test_suite": "u", "total_tests": "3"})),
        BroadcastError::Kind("total_tests".into(), "number")
    );
    assert_eq!(
        test(json!({"run_id": {}, "test_suite": "u", "total_tests": 3})),
        BroadcastError::Kind("run_id".into(), "text")
    );
    assert_eq!(
        test(json!({"run_id": "7", "test_suite": "u", "total_tests": 3, "x": 1})),
        BroadcastError::Unknown("x".into())
    );
    assert_eq!(
        test(json!({"run_id": "", "test_suite": "u", "total_tests": 3})),
        BroadcastError::NoRoom("run_id".into())
    );
    let completed = json!({"team_id": "t", "success": "yes", "duration_ms": 1});
    assert_eq!(
        named("mahavishnu", "team.execution_completed", completed),
        BroadcastError::Kind("success".into(), "boolean")
    );
    let position = json!({"diagram_id": "d", "user_id": "u", "position": "here"});
    assert_eq!(
        named("excalidraw", "cursor.moved", position),
        BroadcastError::Kind("position".into(), "object")
    );
}

/// Members keep the documented order, and a time that is given counts.
#[test]
fn data_is_in_the_documented_order() {
    let profile = Profile::builtin("crackerjack").unwrap();
    let event = profile.event("coverage.updated").unwrap();
    let arguments = r#"{"timestamp":"now","path_coverage":1.10,"branch_coverage":2,"line_coverage":3,"project":"p"}"#;
    let data = r#"{"project":"p","line_coverage":3,"branch_coverage":2,"path_coverage":1.10,"timestamp":"now"}"#;
    assert_eq!(event.broadcast(arguments, TIME).unwrap().data, data);
}
