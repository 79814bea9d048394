//! What each request is answered with, before and after the events that it is about.

use mahavishnu_profiles::{Profile, Question};
use serde_json::{Value, json};

use crate::world::World;

/// Events, then a request and its answer.
type Row = (
    &'static str,
    &'static [(&'static str, fn() -> Value)],
    &'static str,
    fn() -> Value,
    fn() -> Value,
);

macro_rules! rows {
    ($($service:literal [$($event:literal $arguments:tt),*] $request:literal $data:tt => $answer:tt;)*) => {
        &[$((
            $service,
            &[$(($event, (|| json!($arguments)) as fn() -> Value)),*],
            $request, || json!($data), || json!($answer),
        )),*]
    };
}

const ROWS: &[Row] = rows! {
    "mahavishnu" [] "get_workflow_status" {"workflow_id": "w"} => {"workflow_id": "w", "status": "not_found"};
    "mahavishnu" ["workflow_started" {"workflow_id": "w", "total_stages": 3, "name": "nightly"}]
        "get_workflow_status" {"workflow_id": "w"}
        => {"workflow_id": "w", "status": "running", "stages_completed": 0, "total_stages": 3};
    "mahavishnu" ["workflow_started" {"workflow_id": "w", "stages": ["a", "b"]}, "workflow_stage_completed" {"workflow_id": "w", "stage_name": "a", "result": 1}]
        "get_workflow_status" {"workflow_id": "w"}
        => {"workflow_id": "w", "status": "running", "stages_completed": 1, "total_stages": 2};
    // Nobody said how many stages there are.
    "mahavishnu" ["workflow_started" {"workflow_id": "w"}, "workflow_stage_completed" {"workflow_id": "w", "stage_name": "a", "result": {}}]
        "get_workflow_status" {"workflow_id": "w"}
        => {"workflow_id": "w", "status": "running", "stages_completed": 1, "total_stages": null};
    // A stage that is told twice is one, and one that comes late changes no end.
    "mahavishnu" [
        "workflow_started" {"workflow_id": "w"},
        "workflow_stage_completed" {"workflow_id": "w", "stage_name": "a", "result": 1},
        "workflow_stage_completed" {"workflow_id": "w", "stage_name": "a", "result": 1},
        "workflow_completed" {"workflow_id": "w", "result": "done"},
        "workflow_stage_completed" {"workflow_id": "w", "stage_name": "b", "result": 1}
    ] "get_workflow_status" {"workflow_id": "w"}
        => {"workflow_id": "w", "status": "completed", "stages_completed": 2, "total_stages": null};
    "mahavishnu" ["workflow_failed" {"workflow_id": "w", "error": "x"}] "get_workflow_status" {"workflow_id": "w"}
        => {"workflow_id": "w", "status": "failed", "stages_completed": null, "total_stages": null};
    // Begun anew.
    "mahavishnu" [
        "workflow_started" {"workflow_id": "w", "total_stages": 2},
        "workflow_stage_completed" {"workflow_id": "w", "stage_name": "a", "result": 1},
        "workflow_failed" {"workflow_id": "w", "error": "x"},
        "workflow_started" {"workflow_id": "w"}
    ] "get_workflow_status" {"workflow_id": "w"}
        => {"workflow_id": "w", "status": "running", "stages_completed": 0, "total_stages": null};
    "mahavishnu" ["workflow_started" {"workflow_id": "other"}] "get_workflow_status" {"workflow_id": "w"}
        => {"workflow_id": "w", "status": "not_found"};

    "mahavishnu" [] "get_pool_status" {"pool_id": "p"} => {"pool_id": "p", "status": "not_found"};
    "mahavishnu" [
        "pool_spawned" {"pool_id": "p", "config": {"size": 2}},
        "worker_added" {"pool_id": "p", "worker_id": "1", "timestamp": "t0"},
        "worker_added" {"pool_id": "p", "worker_id": "2", "timestamp": "t1"},
        "worker_removed" {"pool_id": "p", "worker_id": "1"}
    ] "get_pool_status" {"pool_id": "p"}
        => {"pool_id": "p", "status": "spawned", "workers": [{"worker_id": "2", "added_at": "t1"}]};
    "mahavishnu" [
        "pool_status_changed" {"pool_id": "p", "status": "active"},
        "worker_status_changed" {"pool_id": "pool:p", "worker_id": "1", "status": "busy", "timestamp": "t2"},
        "worker_status_changed" {"pool_id": "p", "worker_id": "1", "status": "idle", "timestamp": "t1"}
    ] "get_pool_status" {"pool_id": "p"}
        => {"pool_id": "p", "status": "active", "workers": [{"worker_id": "1", "status": "busy", "changed_at": "t2"}]};
    "mahavishnu" ["pool_status_changed" {"pool_id": "p", "status": {"workers": 3}}] "get_pool_status" {"pool_id": "p"}
        => {"pool_id": "p", "status": {"workers": 3}, "workers": []};
    // Only its workers are known.
    "mahavishnu" ["task_assigned" {"pool_id": "p", "worker_id": "1", "task": "t"}, "task_completed" {"pool_id": "p", "worker_id": "1", "result": 7}]
        "get_pool_status" {"pool_id": "p"}
        => {"pool_id": "p", "status": "unknown", "workers": [{"worker_id": "1", "task_state": "completed", "task": "t", "result": 7}]};
    "mahavishnu" ["worker_added" {"pool_id": "p", "worker_id": "1"}, "pool_closed" {"pool_id": "p"}] "get_pool_status" {"pool_id": "p"}
        => {"pool_id": "p", "status": "closed", "workers": []};

    "crackerjack" [] "get_test_status" {"run_id": "7"} => {"run_id": "7", "status": "unknown"};
    "crackerjack" ["test_started" {"run_id": "7", "test_suite": "unit", "total_tests": 100}] "get_test_status" {"run_id": "7"}
        => {"run_id": "7", "status": "running", "tests_completed": null, "tests_total": 100, "failures": 0};
    "crackerjack" [
        "test_started" {"run_id": "7", "test_suite": "unit", "total_tests": 100},
        "test_failed" {"run_id": "7", "test_name": "a", "error": "e", "traceback": "t"},
        "test_failed" {"run_id": "7", "test_name": "a", "error": "e", "traceback": "t"},
        "test_failed" {"run_id": "7", "test_name": "b", "error": "e", "traceback": "t"}
    ] "get_test_status" {"run_id": "7"}
        => {"run_id": "7", "status": "running", "tests_completed": null, "tests_total": 100, "failures": 2};
    "crackerjack" [
        "test_started" {"run_id": "7", "test_suite": "unit", "total_tests": 100},
        "test_completed" {"run_id": "7", "tests_completed": 99, "tests_failed": 3, "duration_seconds": 1.5},
        "test_failed" {"run_id": "7", "test_name": "late", "error": "e", "traceback": "t"}
    ] "get_test_status" {"run_id": "7"}
        => {"run_id": "7", "status": "completed", "tests_completed": 99, "tests_total": 100, "failures": 3};
    "crackerjack" ["test_failed" {"run_id": "7", "test_name": "a", "error": "e", "traceback": "t"}] "get_test_status" {"run_id": "7"}
        => {"run_id": "7", "status": "running", "tests_completed": null, "tests_total": null, "failures": 1};

    "crackerjack" [] "get_quality_gate" {"project": "p"} => {
        "project": "p", "status": "unknown", "gates": [], "fast_hooks": null, "tests": null, "comprehensive": null,
        "coverage": null, "errors": [], "checks": [], "repository": null, "profile": null, "source": null,
        "generated_at": null, "metadata": {}, "passed": null, "all_passed": null, "blocking_failure": null,
        "warnings": [], "required_check_failures": []};
    "crackerjack" [
        "quality_gate_checked" {"project": "p", "gate_name": "lint", "status": "passed", "score": 98.5, "threshold": 80, "timestamp": "t"},
        "coverage_updated" {"project": "p", "line_coverage": 91.25, "branch_coverage": 80, "path_coverage": 70, "timestamp": "u"}
    ] "get_quality_gate" {"project": "p"} => {
        "project": "p", "status": "passed",
        "gates": [{"gate_name": "lint", "status": "passed", "score": 98.5, "threshold": 80, "timestamp": "t"}],
        "fast_hooks": null, "tests": null, "comprehensive": null,
        "coverage": {"line_coverage": 91.25, "branch_coverage": 80, "path_coverage": 70, "timestamp": "u"},
        "errors": [], "checks": [{"name": "lint", "passed": true, "score": 98.5, "threshold": 80}],
        "repository": null, "profile": null, "source": null, "generated_at": null, "metadata": {}, "passed": true,
        "all_passed": true, "blocking_failure": null, "warnings": [], "required_check_failures": []};

    "dhruva" [] "get_adapter_status" {"adapter_id": "a"} => {"adapter_id": "a", "status": "not_found"};
    "dhara" ["adapter_stored" {"adapter_id": "a", "version": "1", "timestamp": "t0"}, "adapter_updated" {"adapter_id": "a", "version": "2", "timestamp": "t1"}]
        "get_adapter_status" {"adapter_id": "a"}
        => {"adapter_id": "a", "status": "found", "adapter": {"adapter_id": "a", "version": "2", "stored_at": "t0", "updated_at": "t1"}};

    "excalidraw" [] "get_diagram_status" {"diagram_id": "d"} => {"diagram_id": "d", "status": "not_found"};
    "excalidraw" [
        "diagram_created" {"diagram_id": "d", "title": "Plan", "timestamp": "t0"},
        "user_joined" {"diagram_id": "d", "user_id": "ada", "user_info": {"name": "Ada"}, "timestamp": "t1"},
        "user_joined" {"diagram_id": "d", "user_id": "bob", "timestamp": "t1"},
        "cursor_moved" {"diagram_id": "d", "user_id": "ada", "position": {"x": 1, "y": 2}, "timestamp": "t3"},
        "cursor_moved" {"diagram_id": "d", "user_id": "bob", "position": {"x": 9, "y": 9}, "timestamp": "t3"},
        // It was under way for long.
        "cursor_moved" {"diagram_id": "d", "user_id": "ada", "position": {"x": 0, "y": 0}, "timestamp": "t2"},
        "user_left" {"diagram_id": "d", "user_id": "bob", "timestamp": "t4"}
    ] "get_diagram_status" {"diagram_id": "d"} => {
        "diagram_id": "d", "status": "found",
        "diagram": {
            "diagram_id": "d", "title": "Plan", "created_at": "t0", "updated_at": "t0",
            "cursors": [{"user_id": "ada", "position": {"x": 1, "y": 2}, "timestamp": "t3"}],
            "users": [{"user_id": "ada", "user_info": {"name": "Ada"}, "joined_at": "t1"}]}};
    "excalidraw" ["cursor_moved" {"diagram_id": "d", "user_id": "ada", "position": {"x": 1, "y": 2}, "timestamp": "t"}]
        "get_diagram_status" {"diagram_id": "d"} => {
        "diagram_id": "d", "status": "found",
        "diagram": {"diagram_id": "d", "cursors": [{"user_id": "ada", "position": {"x": 1, "y": 2}, "timestamp": "t"}], "users": []}};

    "fastblocks" [] "get_component_status" {"component_id": "c"} => {"component_id": "c", "status": "unknown"};
    "fastblocks" ["component_rendered" {"component_id": "c", "ms": 3, "timestamp": "t1"}, "ui_updated" {"component_id": "c", "timestamp": "t2"}]
        "get_component_status" {"component_id": "c"} => {"component_id": "c", "status": "active", "timestamp": "t2"};
    "fastblocks" ["ui_updated" {"component_id": "c", "timestamp": "t2"}]
        "get_component_status" {"component_id": "c"} => {"component_id": "c", "status": "active", "timestamp": "t2"};
    "fastblocks" [] "get_state" {"state_path": "a.b"} => {"state_path": "a.b", "status": "unknown"};
    "fastblocks" [
        "state_changed" {"state_path": "a.b", "new_value": 1, "timestamp": "t1"},
        "state_changed" {"state_path": "c", "new_value": "x", "timestamp": "t1"},
        "state_changed" {"state_path": "a.b", "new_value": null, "timestamp": "t2"}
    ] "get_state" {"state_path": "a.b"} => {"state_path": "a.b", "value": null, "timestamp": "t2"};
    "fastblocks" ["state_changed" {"state_path": "c", "new_value": [1], "timestamp": "t1"}]
        "get_state" {"state_path": "d"} => {"state_path": "d", "status": "unknown"};

    "akosha" [] "get_patterns" {} => {"category": "all", "patterns": [], "count": 0};
    "akosha" [] "get_patterns" {"category": "spike"} => {"category": "spike", "patterns": [], "count": 0};
    "akosha" [
        "pattern_detected" {"pattern_id": "1", "pattern_type": "spike", "description": "d", "confidence": 0.75, "seen": 2, "timestamp": "t"},
        "pattern_detected" {"pattern_id": "2", "pattern_type": "drop", "description": "d", "confidence": 1, "timestamp": "t"}
    ] "get_patterns" {"category": "spike"} => {"category": "spike", "count": 1, "patterns": [
        {"pattern_id": "1", "pattern_type": "spike", "description": "d", "confidence": 0.75, "seen": 2, "timestamp": "t"}]};
    "akosha" [
        "pattern_detected" {"pattern_id": "1", "pattern_type": "spike", "description": "d", "confidence": 0.75, "timestamp": "t"},
        "pattern_detected" {"pattern_id": "2", "pattern_type": "drop", "description": "d", "confidence": 1, "timestamp": "t"}
    ] "get_patterns" {"category": "all"} => {"category": "all", "count": 2, "patterns": [
        {"pattern_id": "1", "pattern_type": "spike", "description": "d", "confidence": 0.75, "timestamp": "t"},
        {"pattern_id": "2", "pattern_type": "drop", "description": "d", "confidence": 1, "timestamp": "t"}]};
    "akosha" [] "get_anomalies" {} => {"anomalies": [], "count": 0};
    "akosha" ["anomaly_detected" {"anomaly_id": "1", "anomaly_type": "load", "severity": "high", "description": "d", "metrics": {"cpu": 1}, "timestamp": "t"}]
        "get_anomalies" {} => {"count": 1, "anomalies": [
        {"anomaly_id": "1", "anomaly_type": "load", "severity": "high", "description": "d", "metrics": {"cpu": 1}, "timestamp": "t"}]};
};

#[test]
fn every_request_is_answered_by_what_was_told() {
    for (service, events, request, data, answer) in ROWS {
        let mut world = World::new(service);
        for (event, arguments) in *events {
            world.tell(event, arguments());
        }
        assert_eq!(world.ask(request, data()), answer(), "{service} {request} after {events:?}");
    }
}

#[test]
fn every_request_of_every_profile_has_a_row() {
    for profile in Profile::builtins() {
        for request in &profile.requests {
            let is_it = |row: &&Row| profile.is_called(row.0) && *request.event == *row.2;
            let rows: Vec<_> = ROWS.iter().filter(is_it).collect();
            assert!(rows.iter().any(|row| row.1.is_empty()), "{}: {}", profile.name, request.event);
            assert!(
                rows.iter().any(|row| !row.1.is_empty()),
                "{}: {}",
                profile.name,
                request.event
            );
        }
    }
}

/// Members come in the documented order, whatever the order of the events.
#[test]
fn an_answer_keeps_the_documented_order() {
    let mut world = World::new("crackerjack");
    world.tell(
        "test_completed",
        json!({"run_id": 7, "tests_completed": 1, "tests_failed": 0, "duration_seconds": 0.1}),
    );
    assert_eq!(
        world.asked("get_test_status", &json!({"run_id": 7})),
        r#"{"run_id":7,"status":"completed","tests_completed":1,"tests_total":null,"failures":0}"#
    );
}

#[test]
fn a_quality_gates_report_counts_until_the_next_gate_is_checked() {
    let mut world = World::new("crackerjack");
    let gate = |name: &str, status: &str| json!({"project": "p", "gate_name": name, "status": status, "score": 1, "threshold": 2});
    let mut with_report = gate("all", "passed");
    with_report["quality_gate_report"] = json!({
        "status": "passed", "passed": true, "all_passed": false, "blocking_failure": false, "fast_hooks": {"n": 1},
        "warnings": ["w"], "checks": [{"name": "x", "passed": true}], "metadata": {"k": 1},
    });
    world.tell("quality_gate_checked", gate("lint", "failed"));
    let before = world.ask("get_quality_gate", json!({"project": "p"}));
    assert_eq!([&before["status"], &before["passed"]], [&json!("failed"), &json!(false)]);

    world.tell("quality_gate_checked", with_report);
    let during = world.ask("get_quality_gate", json!({"project": "p"}));
    for (member, value) in [
        ("status", json!("passed")),
        ("all_passed", json!(false)),
        ("fast_hooks", json!({"n": 1})),
        ("warnings", json!(["w"])),
        ("checks", json!([{"name": "x", "passed": true}])),
        ("metadata", json!({"k": 1})),
        ("blocking_failure", json!(false)),
    ] {
        assert_eq!(during[member], value, "{member}");
    }
    assert_eq!(during["gates"].as_array().unwrap().len(), 2);

    world.tell("quality_gate_checked", gate("types", "skipped"));
    let after = world.ask("get_quality_gate", json!({"project": "p"}));
    assert_eq!([&after["status"], &after["fast_hooks"]], [&json!("failed"), &Value::Null]);
    // Neither passed nor failed: nobody said.
    world.tell("quality_gate_checked", gate("lint", "passed"));
    let mixed = world.ask("get_quality_gate", json!({"project": "p"}));
    assert_eq!([&mixed["status"], &mixed["passed"]], [&json!("unknown"), &Value::Null]);
}

/// Service, request, data, what it asks.
#[test]
fn a_question_names_its_documents_or_what_is_missing() {
    type Asked<'a> = Result<(&'a [&'a str], &'a str), &'a str>;
    let rows: &[(&str, &str, &str, Option<Asked<'_>>)] = &[
        ("crackerjack", "get_test_status", r#"{"run_id":"7"}"#, Some(Ok((&["test:7"], "test:7")))),
        ("crackerjack", "get_test_status", r#"{"run_id":7}"#, Some(Ok((&["test:7"], "test:7")))),
        ("crackerjack", "get_test_status", r#"{"run_id":""}"#, Some(Err("run_id"))),
        ("crackerjack", "get_test_status", r#"{"run_id":null}"#, Some(Err("run_id"))),
        ("crackerjack", "get_test_status", r#"{"run_id":["7"]}"#, Some(Err("run_id"))),
        ("crackerjack", "get_test_status", "{}", Some(Err("run_id"))),
        ("crackerjack", "get_patterns", "{}", None),
        (
            "akosha",
            "get_patterns",
            "{}",
            Some(Ok((&["system:service:akosha:patterns"], "patterns:all"))),
        ),
        (
            "akosha",
            "get_patterns",
            r#"{"category":null}"#,
            Some(Ok((&["system:service:akosha:patterns"], "patterns:all"))),
        ),
        (
            "akosha",
            "get_patterns",
            r#"{"category":"a"}"#,
            Some(Ok((&["patterns:a"], "patterns:a"))),
        ),
        ("akosha", "get_anomalies", "{}", Some(Ok((&["anomalies"], "anomalies")))),
        (
            "excalidraw",
            "get_diagram_status",
            r#"{"diagram_id":"d"}"#,
            Some(Ok((&["diagram:d", "cursor:d", "presence:d"], "diagram:d"))),
        ),
        ("fastblocks", "get_state", r#"{"state_path":"a"}"#, Some(Ok((&["state"], "state")))),
        // The server's own request of that name.
        ("fastblocks", "get_state", r#"{"channel":"ui:1"}"#, None),
        ("fastblocks", "get_state", r#"{"channel":"ui:1","state_path":"a"}"#, None),
        ("fastblocks", "get_state", "{}", None),
        ("session-buddy", "get_metrics", "{}", None),
    ];
    for (service, event, data, expected) in rows {
        let profile = Profile::builtin(service).unwrap();
        let question = profile.question(event, data);
        let found = question.as_ref().map(|question| {
            if let Question::Missing(key) = question {
                return Err(&**key);
            }
            let Question::Documents { channels, right, by_backend: false } = question else {
                panic!("{question:?}")
            };
            Ok((channels.iter().map(|channel| &**channel).collect::<Vec<_>>(), &**right))
        });
        let expected =
            expected.map(|expected| expected.map(|(channels, right)| (channels.to_vec(), right)));
        assert_eq!(found, expected, "{service} {event} {data}");
    }
}

/// The ids of events that count once are for folds only.
#[test]
fn an_event_that_comes_twice_counts_once() {
    let mut world = World::new("mahavishnu");
    let data = r#"{"workflow_id":"w","timestamp":"t"}"#;
    world.publish("workflow:w", "workflow.started", data, "a");
    world.publish(
        "workflow:w",
        "workflow.stage_completed",
        r#"{"stage_name":"s","result":1}"#,
        "b",
    );
    let before = world.document("workflow:w");
    world.publish("workflow:w", "workflow.started", data, "a");
    assert_eq!(world.document("workflow:w"), before);
    world.publish("workflow:w", "workflow.started", data, "c");
    assert_eq!(world.document("workflow:w")["stages"], Value::Null);

    let mut world = World::new("dhruva");
    world.publish("adapter:a", "adapter.stored", "{}", "a");
    assert_eq!(world.document("adapter:a")["once"], json!({"adapter.stored": "a"}));
    assert_eq!(
        world.ask("get_adapter_status", json!({"adapter_id": "a"}))["adapter"].get("once"),
        None
    );
}

/// What a document has lost it says, and so does the answer that comes from it.
#[test]
fn a_document_that_had_to_shed_says_so_in_the_answer() {
    let mut world = World::new("akosha").with_bytes_max(1000);
    for n in 0..50 {
        let text = format!("{n:050}");
        world.tell(
            "pattern_detected",
            json!({"pattern_id": n, "pattern_type": "t", "description": text, "confidence": 1}),
        );
    }
    let answer = world.ask("get_patterns", json!({"category": "t"}));
    let kept = answer["count"].as_u64().unwrap();
    assert!((3..20).contains(&kept), "{answer}");
    assert_eq!(answer["shed"], json!(50 - kept));
    assert_eq!(answer["patterns"][kept as usize - 1]["pattern_id"], json!("49"));
    assert!(world.documents.values().all(|document| document.len() <= 1000));
}
