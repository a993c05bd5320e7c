//! Tests of the room `tasks`.

use super::*;

#[test]
fn the_words_of_run_are_sorted() {
    for (line, expected) in [
        // The first word that is no unit is the action.
        ("a/0 b go x=1", "1 b 2"),
        ("a/0 go", "1 go 0"),
        ("a/0 b/1 a/leader go x=1 y=2", "3 go 2"),
        ("go", "no unit specified"),
        ("a/x go", "invalid unit or action name \"a/x\""),
        ("a/0", "no action specified"),
        ("a/0 Go", "invalid unit or action name \"Go\""),
    ] {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let got = match Words::sort(&words) {
            Ok(words) => format!(
                "{} {} {}",
                words.units.len(),
                words.action,
                words.parameters.len()
            ),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{line}");
    }
}

fn task(status: &str, results: &Value) -> TaskReport {
    TaskReport {
        id: 2,
        operation: 1,
        unit: "a/0".into(),
        action: "go".into(),
        status: status.into(),
        message: "no luck".into(),
        log: vec![("2026-08-01 10:11:12 +0000 UTC".into(), "at it".into())],
        results: results.as_object().unwrap().clone(),
        enqueued: "2026-08-01 10:11:11 +0000 UTC".into(),
        started: None,
        completed: None,
    }
}

#[test]
fn plain_results_are_the_document_then_the_output() {
    for (status, results, expected) in [
        (
            "completed",
            json!({"return-code": 0, "target": "local", "stdout": "hi\n"}),
            "target: local\n\nhi\n",
        ),
        (
            "completed",
            json!({"return-code": 0, "stdout": "hi", "stderr": "oh"}),
            "hi\noh\n",
        ),
        (
            "failed",
            json!({"return-code": 0}),
            "Action id 2 failed: no luck\n",
        ),
        (
            "completed",
            json!({"return-code": 0, "a": {"b": "c"}}),
            "a:\n  b: c\n",
        ),
    ] {
        assert_eq!(plain_text(&task(status, &results)).unwrap(), expected);
    }
}

#[test]
fn a_task_has_jujus_shape() {
    let expected = json!({
        "id": "2", "log": ["2026-08-01 10:11:12 +0000 UTC at it"], "message": "no luck", "results": {"return-code": 3}, "status": "failed",
        "timing": {"enqueued": "2026-08-01 10:11:11 +0000 UTC"}, "unit": "a/0",
    });
    let task = task("failed", &json!({"return-code": 3}));
    assert_eq!((shape(&task), return_code(&task)), (expected, 3));
}
