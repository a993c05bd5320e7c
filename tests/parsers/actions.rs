//! What a person gives to an action, and what is shown of it.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use valkey_operator::handlers::actions::answer::{Format, unit_parameter};
use valkey_operator::handlers::actions::pre_check::Operation;
use valkey_operator::handlers::actions::table::{Table, list, pairs};
use valkey_operator::juju;

use super::mutate::{config, hostile_text};

/// Any JSON, not very deep.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        hostile_text(&["valkey/0", "json", "table", "switchover", "remove"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

fn assert_says(text: &str) {
    assert!(text.contains("parameter `"), "{text:?}");
    assert!(
        !text.contains(char::is_control) && text.len() < 1000,
        "{text:?}"
    );
}

/// The name is shown again, as an argument of a hook tool: a NUL byte there would make the action fail without a word.
#[test]
fn a_unit_that_is_none_is_refused_in_plain_words() {
    for text in [
        "valkey/0\0",
        "",
        "valkey",
        "valkey/01",
        "valkey/0 ",
        "--help",
        "\u{1b}[31m/0",
    ] {
        let given = Map::from_iter([("unit".to_owned(), json!(text))]);
        let refusal = unit_parameter(&given, "unit").unwrap_err();
        assert_says(&refusal);
    }
    let long = Map::from_iter([(
        "unit".to_owned(),
        json!(format!("valkey/{}", "9".repeat(200_000))),
    )]);
    assert_says(&unit_parameter(&long, "unit").unwrap_err());
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn any_parameter_is_taken_or_refused_in_plain_words(value in value()) {
        let given = Map::from_iter(["unit", "format"].map(|name| (name.to_owned(), value.clone())));
        match unit_parameter(&given, "unit") {
            Ok(None) => prop_assert!(value.is_null()),
            Ok(Some(unit)) => {
                prop_assert!(unit.as_str().parse::<juju::UnitName>().is_ok());
            }
            Err(text) => assert_says(&text),
        }
        if let Err(text) = Format::from_parameters(&given) {
            assert_says(&text);
        }
        if let Err(text) = Operation::parse(value.as_str()) {
            assert_says(&text);
        }
    }

}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn whatever_stands_in_a_table_stays_in_its_line(
        cells in proptest::collection::vec((hostile_text(&["valkey/0"]), hostile_text(&["primary"])), 1..5),
    ) {
        let mut table = Table::new(["Unit", "Role"]);
        for (one, other) in cells.clone() {
            table.row([one, other]);
        }
        prop_assert_eq!(table.render().lines().count(), cells.len() + 1);
        let shown = pairs(&[("name", cells[0].0.clone())]);
        prop_assert_eq!(shown.lines().count(), 1);
        let items: Vec<String> = cells.iter().map(|(one, _)| one.clone()).collect();
        prop_assert_eq!(list("Why:", &items).lines().count(), items.len() + 2);
    }
}
