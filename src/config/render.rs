//! The effective configuration as TOML, with a note on each value that is not the default.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Config, Error};

pub(super) fn render(
    config: &Config,
    files: &[PathBuf],
    origins: &BTreeMap<String, String>,
) -> Result<String, Error> {
    let plain = toml::to_string(config).map_err(|error| Error::Combine(error.to_string()))?;
    let mut text = String::new();
    if files.is_empty() {
        text.push_str("# no configuration file\n");
    }
    for file in files {
        line(&mut text, format_args!("# read {}", file.display()));
    }
    const BESIDE: &str = "found beside the binary";
    for (key, configured, found, why) in [
        (
            "data_dir",
            &config.data_dir,
            config.data_dir(),
            "the usual place",
        ),
        ("runners", &config.runners, config.runners_dir(), BESIDE),
        ("images", &config.images, config.images_dir(), BESIDE),
    ] {
        match (configured, found) {
            (Some(_), Ok(_)) => {}
            (None, Ok(path)) => line(
                &mut text,
                format_args!("# {key} = \"{}\"  # {why}", path.display()),
            ),
            (_, Err(error)) => line(&mut text, format_args!("# {key}: {error}")),
        }
    }
    text.push('\n');
    let mut section = String::new();
    for row in plain.lines() {
        text.push_str(row);
        if let Some(header) = row.strip_prefix('[').and_then(|row| row.strip_suffix(']')) {
            section = format!("{header}.");
        } else if let Some((key, _)) = row.split_once(" = ")
            && let Some(origin) = origin_of(&format!("{section}{key}"), origins)
        {
            write!(text, "  # {origin}").expect("writing to a String cannot fail");
        }
        text.push('\n');
    }
    Ok(text)
}

fn line(text: &mut String, row: std::fmt::Arguments<'_>) {
    writeln!(text, "{row}").expect("writing to a String cannot fail");
}

/// The source of a key, or of the table it came in.
fn origin_of<'a>(key: &str, origins: &'a BTreeMap<String, String>) -> Option<&'a String> {
    origins.get(key).or_else(|| {
        let (table, _) = key.rsplit_once('.')?;
        origin_of(table, origins)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Flag, Sources};
    use super::*;

    #[test]
    fn what_is_printed_reads_back_and_says_where_from() {
        let loaded = Sources {
            environment: vec![("PAGEBOX_SESSION__MAX_SESSIONS".into(), "5".into())],
            flags: vec![Flag {
                name: "--listen",
                key: "listen",
                value: "127.0.0.1:0".into(),
            }],
            ..Sources::default()
        }
        .load()
        .unwrap();
        let text = loaded.to_toml().unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), loaded.config);
        assert!(
            text.contains("max_sessions = 5  # PAGEBOX_SESSION__MAX_SESSIONS\n"),
            "{text}"
        );
        assert!(
            text.contains("listen = \"127.0.0.1:0\"  # --listen\n"),
            "{text}"
        );
    }
}
