//! `actions.yaml`: the actions of a charm, and the check of the parameters that a person gives.

use std::collections::BTreeMap;

use jsonschema::error::ValidationErrorKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::names::{is_action, is_reserved};
use super::{CharmError, invalid};

/// Description of an action that has none.
const NO_DESCRIPTION: &str = "No description";

/// The actions of a charm, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Actions(pub BTreeMap<String, Action>);

/// One action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// What it does, for people.
    pub description: String,
    /// Whether it may run beside hooks of other units on the same machine.
    pub parallel: bool,
    /// Name of the lock that it takes instead of the machine's; empty for none.
    pub execution_group: String,
    /// JSON-Schema (draft 4) of its parameters, an object.
    pub schema: Value,
}

impl Actions {
    /// Parses the document.
    ///
    /// # Errors
    ///
    /// With Juju's text: a bad name, a refused schema key, a schema that is none.
    pub fn parse(document: &Value) -> Result<Self, CharmError> {
        let definitions = match document {
            Value::Null => return Ok(Self::default()),
            Value::Object(definitions) => definitions,
            _ => return invalid("cannot parse actions.yaml: expected a map of actions"),
        };
        let mut actions = BTreeMap::new();
        for (name, definition) in definitions {
            if !is_action(name) {
                return invalid(format!("bad action name {name}"));
            }
            if is_reserved(name) {
                return invalid(format!(
                    "cannot use action name {name}: the \"juju-\" prefix is reserved"
                ));
            }
            actions.insert(name.clone(), Action::parse(name, definition)?);
        }
        Ok(Self(actions))
    }
}

impl Action {
    fn parse(name: &str, definition: &Value) -> Result<Self, CharmError> {
        let mut action = Self {
            description: NO_DESCRIPTION.to_owned(),
            parallel: false,
            execution_group: String::new(),
            schema: Value::Null,
        };
        let mut schema = Map::from_iter([
            ("title".to_owned(), json!(name)),
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), json!({})),
        ]);
        let definition = match definition {
            Value::Null => &Map::new(),
            Value::Object(definition) => definition,
            _ => {
                return invalid(format!(
                    "cannot parse actions.yaml: action {name:?}: expected a map"
                ));
            }
        };
        let wrong = |key: &str, kind: &str| {
            invalid(format!("value for schema key {key:?} must be a {kind}"))
        };
        for (key, value) in definition {
            match (key.as_str(), value) {
                ("description", Value::String(text)) => action.description.clone_from(text),
                ("description", _) => return wrong("description", "string"),
                ("parallel", Value::Bool(parallel)) => action.parallel = *parallel,
                ("parallel", _) => return wrong("parallel", "bool"),
                ("execution-group", Value::String(group)) => {
                    action.execution_group.clone_from(group);
                }
                ("execution-group", _) => return wrong("execution-group", "string"),
                ("title", Value::String(_)) | ("required", Value::Array(_)) => {
                    // An empty list of required keys is not allowed in draft 4; Juju takes it as none.
                    if value.as_array().is_none_or(|required| !required.is_empty()) {
                        schema.insert(key.clone(), value.clone());
                    }
                }
                ("title", _) => return wrong("title", "string"),
                ("required", _) => return wrong("required", "YAML list"),
                ("params", Value::Null) | ("type", _) => {}
                ("params", Value::Object(params)) => {
                    if let Some(bad) = params.keys().find(|key| !is_action(key)) {
                        return invalid(format!(
                            "schema key {bad:?} must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric and hyphens"
                        ));
                    }
                    schema.insert("properties".to_owned(), value.clone());
                }
                ("params", _) => return wrong("params", "map"),
                _ => {
                    schema.insert(key.clone(), value.clone());
                }
            }
        }
        action.schema = Value::Object(schema);
        refuse_references(&action.schema)?;
        // A schema that is none shows now rather than when somebody runs the action.
        jsonschema::draft4::new(&action.schema).map_err(|error| {
            CharmError::Invalid(format!(
                "invalid params schema for action schema {name}: {error}"
            ))
        })?;
        Ok(action)
    }

    /// Checks `params` and returns them with the schema's defaults filled in.
    ///
    /// `strict` refuses parameters that the schema does not name when the charm does not say whether it takes
    /// them: Juju 4.0 refuses, 3.6 does not.
    ///
    /// # Errors
    ///
    /// `validation failed: …` with every fault, as Juju words them.
    pub fn check(
        &self,
        params: &Map<String, Value>,
        strict: bool,
    ) -> Result<Map<String, Value>, CharmError> {
        let mut schema = self.schema.clone();
        if let Some(schema) = schema.as_object_mut()
            && !schema.contains_key("additionalProperties")
        {
            schema.insert("additionalProperties".to_owned(), Value::Bool(!strict));
        }
        let validator = jsonschema::draft4::new(&schema).map_err(|error| {
            CharmError::Invalid(format!("cannot use the schema of the action: {error}"))
        })?;
        let given = Value::Object(params.clone());
        let faults: Vec<String> = validator
            .iter_errors(&given)
            .flat_map(|error| describe(&error))
            .collect();
        if !faults.is_empty() {
            return invalid(format!("validation failed: {}", faults.join("; ")));
        }
        let mut params = params.clone();
        fill_in(&schema, &mut params);
        Ok(params)
    }
}

/// Refuses the schema keys that Juju cannot follow.
fn refuse_references(schema: &Value) -> Result<(), CharmError> {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "$ref" || key == "$schema" {
                    return invalid(format!(
                        "schema key {key:?} not compatible with this version of juju"
                    ));
                }
                refuse_references(value)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(refuse_references),
        _ => Ok(()),
    }
}

/// Words a fault as Juju does: the place from `(root)`, then what must hold.
fn describe(error: &jsonschema::ValidationError<'_>) -> Vec<String> {
    let place = format!("(root){}", error.instance_path().as_str().replace('/', "."));
    let given = error.instance();
    match error.kind() {
        ValidationErrorKind::Type { kind } => {
            let wanted = match kind {
                jsonschema::error::TypeKind::Single(kind) => kind.to_string(),
                jsonschema::error::TypeKind::Multiple(kinds) => kinds
                    .iter()
                    .map(|kind| kind.to_string())
                    .collect::<Vec<_>>()
                    .join(" or "),
            };
            vec![format!("{place} : must be of type {wanted}, given {given}")]
        }
        ValidationErrorKind::Required { property } => {
            vec![format!(
                "{place} : {property} property is missing and required, given {given}"
            )]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let fault = |name: &String| {
                format!("{place} : additional property {name:?} is not allowed, given {given}")
            };
            unexpected.iter().map(fault).collect()
        }
        _ => vec![format!("{place} : {error}")],
    }
}

/// Inserts the defaults of `schema` where `params` has no value, also inside nested objects.
fn fill_in(schema: &Value, params: &mut Map<String, Value>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    for (name, property) in properties {
        if let Some(Value::Object(nested)) = params.get_mut(name) {
            fill_in(property, nested);
        } else if params.contains_key(name) {
            // The person's value stands.
        } else if let Some(default) = property.get("default") {
            params.insert(name.clone(), default.clone());
        } else if property.get("properties").is_some() {
            let mut nested = Map::new();
            fill_in(property, &mut nested);
            if !nested.is_empty() {
                params.insert(name.clone(), Value::Object(nested));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    fn actions(text: &str) -> Result<Actions, CharmError> {
        Actions::parse(&yaml::parse("actions.yaml", text)?)
    }

    #[test]
    fn wrong_files_are_refused_with_jujus_words() {
        for (text, expected) in [
            ("", "ok"),
            ("go:", "ok"),
            ("Go: {}", "bad action name Go"),
            (
                "juju-go: {}",
                "cannot use action name juju-go: the \"juju-\" prefix is reserved",
            ),
            (
                "go: {params: {x: {$ref: '#/a'}}}",
                "schema key \"$ref\" not compatible with this version of juju",
            ),
            (
                "go: {description: 5}",
                "value for schema key \"description\" must be a string",
            ),
            (
                "go: {params: [x]}",
                "value for schema key \"params\" must be a map",
            ),
            ("go: {required: []}", "ok"),
        ] {
            assert_eq!(
                actions(text).map_or_else(|error| error.to_string(), |_| "ok".into()),
                expected,
                "{text}"
            );
        }
        assert!(actions("go: {params: {x: {type: strnig}}}").is_err());
    }

    #[test]
    fn parameters_are_checked_and_defaults_filled_in() {
        let text = "
backup:
  description: Saves.
  params:
    target: {type: string, default: local}
    keep: {type: integer, minimum: 1}
    deep: {type: object, properties: {a: {type: string, default: x}, b: {type: string}}}
  required: [keep]
";
        let action = &actions(text).unwrap().0["backup"];
        for (given, strict, expected) in [
            (
                json!({"keep": 2}),
                true,
                Ok(json!({"keep": 2, "target": "local", "deep": {"a": "x"}})),
            ),
            (
                json!({"keep": 2, "target": "far", "deep": {"b": "y"}}),
                true,
                Ok(json!({"keep": 2, "target": "far", "deep": {"b": "y", "a": "x"}})),
            ),
            (
                json!({}),
                true,
                Err(
                    "validation failed: (root) : \"keep\" property is missing and required, given {}",
                ),
            ),
            (
                json!({"keep": "2"}),
                true,
                Err("validation failed: (root).keep : must be of type integer, given \"2\""),
            ),
            (
                json!({"keep": 2, "z": 1}),
                true,
                Err(
                    "validation failed: (root) : additional property \"z\" is not allowed, given {\"keep\":2,\"z\":1}",
                ),
            ),
            (
                json!({"keep": 2, "z": 1}),
                false,
                Ok(json!({"keep": 2, "z": 1, "target": "local", "deep": {"a": "x"}})),
            ),
        ] {
            let got = action
                .check(given.as_object().unwrap(), strict)
                .map(Value::Object);
            assert_eq!(
                got.map_err(|error| error.to_string()),
                expected.map_err(str::to_owned),
                "{given}"
            );
        }
        let fault = action
            .check(json!({"keep": 0}).as_object().unwrap(), true)
            .unwrap_err()
            .to_string();
        assert!(
            fault.starts_with("validation failed: (root).keep : "),
            "{fault}"
        );
    }
}
