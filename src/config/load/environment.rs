//! Environment variables as parts of the configuration.

use std::ffi::OsString;

use toml::{Table, Value};

use super::{check, nest};

const PREFIX: &str = "PAGEBOX_";
/// Variables of the command line's own, which set no key.
const NOT_KEYS: [&str; 2] = ["PAGEBOX_CONFIG", "PAGEBOX_SERVER"];

/// How those of the tests begin; a daemon that they start has them, too.
const OF_TESTS: &str = "PAGEBOX_TEST_";

/// `PAGEBOX_SESSION__MAX_SESSIONS` → `session.max_sessions`.
pub(super) fn key_of_variable(name: &OsString) -> Option<(String, Vec<String>)> {
    let name = name.to_str()?;
    let key = name.strip_prefix(PREFIX)?;
    if NOT_KEYS.contains(&name) || name.starts_with(OF_TESTS) {
        return None;
    }
    let key = key
        .split("__")
        .map(str::to_ascii_lowercase)
        .collect::<Vec<_>>();
    Some((name.to_owned(), key))
}

/// A variable is text; what it means follows from the type of the key's value.
pub(super) fn variable_table(
    key: &[String],
    text: &str,
    defaults: &Table,
) -> Result<Table, String> {
    let literal = || {
        format!("value = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
    };
    let string = || Value::String(text.to_owned());
    let candidates = match lookup(defaults, key) {
        Some(Value::String(_) | Value::Datetime(_)) => vec![string()],
        Some(Value::Array(_)) => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            let list = Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
            let array = literal().filter(|value| matches!(value, Value::Array(_)));
            vec![array.unwrap_or(list)]
        }
        // Numbers, booleans, and keys that have no default.
        _ => literal().into_iter().chain([string()]).collect(),
    };
    let mut first_error = None;
    for candidate in candidates {
        let table = nest(key, candidate);
        match check(&table) {
            Ok(()) => return Ok(table),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| "has no value".to_owned()))
}

fn lookup<'a>(table: &'a Table, key: &[String]) -> Option<&'a Value> {
    let (last, path) = key.split_last()?;
    let mut table = table;
    for part in path {
        table = table.get(part)?.as_table()?;
    }
    table.get(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_list_may_be_a_toml_array_or_have_commas() {
        for text in ["8080,9000", "[\"8080\", \"9000\"]", " 8080 , 9000 ,"] {
            let table = variable_table(
                &["egress".into(), "host_loopback".into()],
                text,
                &Table::try_from(Config::default()).unwrap(),
            )
            .unwrap();
            assert_eq!(
                table["egress"]["host_loopback"].as_array().unwrap().len(),
                2,
                "{text}"
            );
        }
    }
}
