//! What holds of whatever is said for a size or a duration: it is read and prints so that it reads
//! the same, or it is refused by its variable, or its file, line and key.

use std::str::FromStr as _;
use std::time::Duration;

use proptest::prelude::*;
use toml::{Table, Value};

use super::{Config, Error, Sources};
use crate::limits::Bytes;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Size,
    Duration,
}

/// The keys whose default is a size or a duration.
fn keys() -> Vec<(String, Kind)> {
    fn walk(table: &Table, prefix: &str, keys: &mut Vec<(String, Kind)>) {
        for (key, value) in table {
            match value {
                Value::Table(table) => walk(table, &format!("{prefix}{key}."), keys),
                Value::String(text) if Bytes::from_str(text).is_ok() => {
                    keys.push((format!("{prefix}{key}"), Kind::Size));
                }
                Value::String(text) if humantime::parse_duration(text).is_ok() => {
                    keys.push((format!("{prefix}{key}"), Kind::Duration));
                }
                _ => {}
            }
        }
    }
    let mut keys = Vec::new();
    walk(&Table::try_from(Config::default()).unwrap(), "", &mut keys);
    keys
}

/// The text a key has in a configuration.
fn value_of(config: &Config, key: &str) -> String {
    let mut value = Value::Table(Table::try_from(config).unwrap());
    for part in key.split('.') {
        value = value[part].clone();
    }
    value.as_str().unwrap().to_owned()
}

fn a_value() -> impl Strategy<Value = String> {
    let unit = prop::sample::select(
        &[
            "", " KiB", "MiB", "GiB", " TiB", "ns", "us", "ms", "s", " s", "min", "m", "h", "d",
            "w", "M", "y", "years", "B", " ",
        ][..],
    );
    let one = (prop_oneof![0u64..5000, any::<u64>()], unit)
        .prop_map(|(number, unit)| format!("{number}{unit}"));
    prop_oneof![
        6 => prop::collection::vec(one, 1..4).prop_map(|parts| parts.join(" ")),
        1 => "[-+]?[0-9._]{1,12}(e[0-9]{1,3})?[a-zA-Z]{0,3}",
        1 => "\\PC{0,12}",
        1 => any::<String>(),
    ]
}

fn of_environment(name: &str, text: &str) -> Sources {
    Sources {
        environment: vec![(name.into(), text.into())],
        ..Sources::default()
    }
}

#[test]
fn the_keys_are_those_of_sizes_and_durations() {
    let keys = keys();
    for known in [
        ("drain_grace".to_owned(), Kind::Duration),
        ("limits.stdout".to_owned(), Kind::Size),
        ("cdp.max_message".to_owned(), Kind::Size),
    ] {
        assert!(keys.contains(&known), "{known:?} in {keys:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// 512 cases.
    #[test]
    fn a_variable_is_read_and_prints_the_same_or_is_named(
        (key, kind) in prop::sample::select(keys()),
        text in a_value(),
    ) {
        let name = format!("PAGEBOX_{}", key.to_uppercase().replace('.', "__"));
        match of_environment(&name, &text).load() {
            Ok(loaded) => {
                let written = loaded.to_toml().unwrap();
                prop_assert_eq!(&toml::from_str::<Config>(&written).unwrap(), &loaded.config);
                let written = value_of(&loaded.config, &key);
                match kind {
                    Kind::Size => {
                        prop_assert_eq!(written.parse::<Bytes>().unwrap(), text.parse::<Bytes>().unwrap());
                    }
                    Kind::Duration => {
                        let read: Duration = humantime::parse_duration(&written).unwrap();
                        prop_assert_eq!(read, humantime::parse_duration(&text).unwrap());
                    }
                }
            }
            Err(Error::Environment { name: named, message }) => {
                prop_assert_eq!(named, name);
                prop_assert!(!message.is_empty());
                match kind {
                    Kind::Size => prop_assert!(text.parse::<Bytes>().is_err(), "{}", message),
                    Kind::Duration => prop_assert!(humantime::parse_duration(&text).is_err(), "{}", message),
                }
            }
            // Of one section: a result must fit a message.
            Err(Error::Invalid { key: named, message }) => {
                let section = key.split_once('.').map_or(&*key, |(section, _)| section);
                prop_assert!(named.starts_with(section), "{} is {:?}: {}: {}", key, text, named, message);
            }
            Err(error) => prop_assert!(error.to_string().contains(&key), "{}", error),
        }
    }

    /// 512 cases.
    #[test]
    fn a_file_is_read_as_the_variable_is_or_its_line_is_named(
        (key, _) in prop::sample::select(keys()),
        text in a_value(),
    ) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("\n\n{key} = {}\n", Value::String(text.clone()));
        std::fs::write(file.path(), line).unwrap();
        let sources = Sources { files: vec![file.path().to_owned()], ..Sources::default() };
        let name = format!("PAGEBOX_{}", key.to_uppercase().replace('.', "__"));
        match (sources.load(), of_environment(&name, &text).load()) {
            (Ok(file), Ok(variable)) => prop_assert_eq!(file.config, variable.config),
            (Err(Error::File { path, message }), Err(Error::Environment { .. })) => {
                prop_assert_eq!(path, file.path());
                prop_assert!(message.contains("line 3"), "{}", message);
                prop_assert!(message.contains(key.rsplit('.').next().unwrap()), "{}", message);
            }
            (Err(file), Err(variable)) => prop_assert_eq!(file.to_string(), variable.to_string()),
            (file, variable) => prop_assert!(false, "{:?}, but {:?}", file, variable),
        }
    }
}
