//! Requests on one node that a back-end on another answers.

use super::{
    super::answering::{heard, with_backend},
    *,
};

fn nodes() -> Nodes {
    Nodes::with(3, 2, with_backend(config()))
}

#[test]
fn a_back_end_may_be_anywhere_and_answer_anywhere() {
    let mut nodes = nodes();
    let (backend, _) = nodes.subscriber(0, 0, "system:requests");
    let (client, other) = (nodes.connect(1, 1), nodes.connect(2, 1));
    for _ in 0..2 {
        nodes.ask(1, &client, "get_weather", &json!({}));
        nodes.settle();
        let request = heard(&backend).remove(0);
        let answer = json!({"request_id": request["request_id"], "data": {"sun": true}});
        other.take();
        nodes.ask(2, &other, "answer", &answer);
        nodes.settle();
        assert_eq!(other.take()[0]["data"], json!({"status": "answered"}));
        assert_eq!(client.take()[0]["data"], json!({"sun": true}));
        nodes.ask(2, &other, "answer", &answer);
        nodes.settle();
        assert_eq!(other.take()[0]["error_code"], "CONFLICT", "it was answered");
    }
}

#[test]
fn where_nobody_listens_documents_answer() {
    let mut nodes = nodes();
    let client = nodes.connect(1, 0);
    nodes.ask(1, &client, "get_thing", &json!({"id": "a"}));
    nodes.settle();
    assert_eq!(client.take()[0]["data"], json!({"id": "a", "status": "not_found"}));
}

#[test]
fn an_answer_for_a_node_that_is_gone_is_not_waited_for_in_vain() {
    let mut nodes = nodes();
    let (backend, _) = nodes.subscriber(0, 0, "system:requests");
    let client = nodes.connect(1, 1);
    nodes.ask(1, &client, "get_weather", &json!({}));
    nodes.settle();
    let request = heard(&backend).remove(0);
    nodes.restart(1);
    let answer = json!({"request_id": request["request_id"], "data": {}});
    nodes.ask(0, &backend, "answer", &answer);
    nodes.settle();
    assert!(backend.take().is_empty());
    nodes.wait(Duration::from_secs(31));
    nodes.settle();
    let messages = backend.take();
    let error = messages.iter().find(|it| it["type"] == "error").unwrap();
    assert_eq!(error["error_message"], "No answer in time");
    nodes.down(0);
    nodes.ask(0, &backend, "answer", &answer);
    nodes.settle();
    assert_eq!(backend.take()[0]["error_message"], "The message bus is away");
}
