//! Reads a JSON object field by field and collects every fault with its JSON path.
//!
//! serde stops at the first fault; people who write a catalogue or a request want all of them at once.

use serde_json::{Map, Value};

use crate::fault::{FaultName, Faults};

/// A JSON object being read. [`Object::finish`] reports the fields that nobody asked for.
pub struct Object<'a> {
    fields: &'a Map<String, Value>,
    path: String,
    asked: Vec<&'static str>,
}

impl<'a> Object<'a> {
    /// Takes `value` as the object at `path`; anything but an object is a fault.
    pub fn new(value: &'a Value, path: &str, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self {
                fields,
                path: path.to_owned(),
                asked: Vec::new(),
            }),
            other => {
                let name = if path == "$" {
                    FaultName::NotADocument
                } else {
                    FaultName::WrongType
                };
                faults.add(
                    name,
                    path,
                    format!("give a JSON object here, not {}", type_name(other)),
                );
                None
            }
        }
    }

    /// The path of one of this object's fields.
    #[must_use]
    pub fn path_of(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    /// The field's value, if it is there and not `null`.
    pub fn optional(&mut self, field: &'static str) -> Option<&'a Value> {
        self.asked.push(field);
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// The field's value; its absence is a fault.
    pub fn required(&mut self, field: &'static str, faults: &mut Faults) -> Option<&'a Value> {
        let value = self.optional(field);
        if value.is_none() {
            faults.add(
                FaultName::MissingField,
                self.path_of(field),
                format!("add the field \"{field}\""),
            );
        }
        value
    }

    /// A required text.
    pub fn text(&mut self, field: &'static str, faults: &mut Faults) -> Option<&'a str> {
        let value = self.required(field, faults)?;
        text(value, &self.path_of(field), faults)
    }

    /// An optional text.
    pub fn optional_text(&mut self, field: &'static str, faults: &mut Faults) -> Option<&'a str> {
        let value = self.optional(field)?;
        text(value, &self.path_of(field), faults)
    }

    /// A required whole number in `range`.
    pub fn number(
        &mut self,
        field: &'static str,
        range: std::ops::RangeInclusive<u64>,
        faults: &mut Faults,
    ) -> Option<u64> {
        let value = self.required(field, faults)?;
        number(value, &self.path_of(field), range, faults)
    }

    /// An optional whole number in `range`.
    pub fn optional_number(
        &mut self,
        field: &'static str,
        range: std::ops::RangeInclusive<u64>,
        faults: &mut Faults,
    ) -> Option<u64> {
        let value = self.optional(field)?;
        number(value, &self.path_of(field), range, faults)
    }

    /// An optional `true` or `false`.
    pub fn optional_flag(&mut self, field: &'static str, faults: &mut Faults) -> Option<bool> {
        let value = self.optional(field)?;
        let flag = value.as_bool();
        if flag.is_none() {
            faults.add(
                FaultName::WrongType,
                self.path_of(field),
                format!("give true or false here, not {}", type_name(value)),
            );
        }
        flag
    }

    /// A required list; each element comes with its own path.
    pub fn list(
        &mut self,
        field: &'static str,
        faults: &mut Faults,
    ) -> Option<Vec<(&'a Value, String)>> {
        let value = self.required(field, faults)?;
        list(value, &self.path_of(field), faults)
    }

    /// An optional list; each element comes with its own path.
    pub fn optional_list(
        &mut self,
        field: &'static str,
        faults: &mut Faults,
    ) -> Vec<(&'a Value, String)> {
        let Some(value) = self.optional(field) else {
            return Vec::new();
        };
        list(value, &self.path_of(field), faults).unwrap_or_default()
    }

    /// Reports the fields that were not asked for: a misspelt limit must not pass as no limit.
    pub fn finish(self, faults: &mut Faults) {
        for field in self.fields.keys() {
            if !self.asked.contains(&field.as_str()) {
                let known = self.asked.join(", ");
                // The name comes from a person: its JSON form cannot carry control characters into a log.
                let name = Value::String(field.chars().take(64).collect());
                faults.add(
                    FaultName::UnknownField,
                    format!("{}[{name}]", self.path),
                    format!("remove this field; the fields here are {known}"),
                );
            }
        }
    }
}

/// A text at `path`.
pub fn text<'a>(value: &'a Value, path: &str, faults: &mut Faults) -> Option<&'a str> {
    if let Value::String(text) = value {
        return Some(text);
    }
    faults.add(
        FaultName::WrongType,
        path,
        format!("give a text here, not {}", type_name(value)),
    );
    None
}

fn number(
    value: &Value,
    path: &str,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Faults,
) -> Option<u64> {
    match value.as_u64() {
        Some(number) if range.contains(&number) => Some(number),
        _ if value.is_number() => {
            let (least, most) = (range.start(), range.end());
            faults.add(
                FaultName::InvalidValue,
                path,
                format!("give a whole number from {least} to {most}"),
            );
            None
        }
        _ => {
            faults.add(
                FaultName::WrongType,
                path,
                format!("give a whole number here, not {}", type_name(value)),
            );
            None
        }
    }
}

fn list<'a>(value: &'a Value, path: &str, faults: &mut Faults) -> Option<Vec<(&'a Value, String)>> {
    if let Value::Array(items) = value {
        return Some(
            items
                .iter()
                .enumerate()
                .map(|(i, item)| (item, format!("{path}[{i}]")))
                .collect(),
        );
    }
    faults.add(
        FaultName::WrongType,
        path,
        format!("give a list here, not {}", type_name(value)),
    );
    None
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_is_collected_with_its_path() {
        let value = json!({"count": "three", "extra": 1, "names": ["a", 2]});
        let mut faults = Faults::new();
        let mut object = Object::new(&value, "$", &mut faults).unwrap();
        assert_eq!(object.number("count", 1..=5, &mut faults), None);
        assert_eq!(object.text("title", &mut faults), None);
        for (item, path) in object.list("names", &mut faults).unwrap() {
            text(item, &path, &mut faults);
        }
        object.finish(&mut faults);
        let found: Vec<_> = faults
            .as_slice()
            .iter()
            .map(|f| (f.name, f.path.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (FaultName::WrongType, "$.count"),
                (FaultName::MissingField, "$.title"),
                (FaultName::WrongType, "$.names[1]"),
                (FaultName::UnknownField, "$[\"extra\"]"),
            ]
        );
    }

    #[test]
    fn a_document_that_is_no_object_says_what_it_is() {
        let mut faults = Faults::new();
        assert!(Object::new(&json!([1]), "$", &mut faults).is_none());
        assert_eq!(
            faults.as_slice()[0].message,
            "give a JSON object here, not a list"
        );
    }
}
